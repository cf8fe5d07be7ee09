"""What a model of transformers computes while it reads a prompt, as transformers itself gives it out.

Shapes: T tokens of the prompt, V rows of the head, D width, H heads of a layer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from configs import InputError, MissingInput
from configs.errors import on_one_line
from scratch_models.looking.reading import LENS, Reading, reads_out, refuse_too_long
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_model import EXPECTED, positions_of
from tokenizer_ext.huggingface.hub_names import is_mistyped_path

FINAL_NORMS = {"gpt2": "ln_f"} | dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text"), "norm")
"""The models that can be looked into, by `model_type`, with the name of the norm before the head."""


def check_architecture(name: str) -> None:
    """Refuses a model of a kind that cannot be looked into, before any weight is read.

    Raises:
        InputError: there is no such model, or it is of another architecture.
    """
    folder = plain_folder(name)
    if not Path(folder).exists() and is_mistyped_path(folder):
        raise MissingInput(f"{name}: no such folder, {EXPECTED}")
    try:
        kind = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: no usable config.json ({on_one_line(error, 160)}), {EXPECTED}") from None
    check_kind(kind, name)


def check_kind(kind: object, where: str) -> None:
    """Refuses a `model_type` that cannot be looked into.

    Raises:
        InputError: it is none of those that can.
    """
    if kind not in FINAL_NORMS:
        raise InputError(f"{where}: its model_type is {kind!r}, expected one of {', '.join(FINAL_NORMS)}")


@torch.no_grad()
def read_with_transformers(model: PreTrainedModel, ids: Sequence[int], where: str) -> Reading:
    """What the model computes of these ids; `where` names it in an error.

    From then on the model computes attention written out.

    Raises:
        InputError: the prompt has no token, or more than the model has positions, or it is of another architecture.
    """
    check_kind(model.config.model_type, where)
    refuse_too_long(ids, positions_of(model), where)
    model.set_attn_implementation("eager")  # the others never hold the weights
    row = torch.tensor([list(ids)], device=model.device)  # (1, T)
    out = model(row, output_attentions=True, output_hidden_states=True, use_cache=False)
    norm: Any = getattr(model.base_model, FINAL_NORMS[model.config.model_type])
    # transformers gives out the last stream normed, the others as they are.
    *streams, last = (stream[0] for stream in out.hidden_states)
    normed, head = [*(norm(stream) for stream in streams), last], model.get_output_embeddings()
    is_lens = reads_out(normed, head, out.logits[0])
    return Reading(
        ids=ids,
        logits=out.logits[0],
        attention=[weights[0] for weights in out.attentions],
        normed=normed if is_lens else [],
        head=head,
        left_out={} if is_lens else {LENS: "this model's logits are more than its head over its normed stream"},
    )
