"""A causal language model and its tokenizer, read from a folder or from the Hugging Face Hub.

Only safetensors are read, and no code that comes with a model is run.
"""

from pathlib import Path
from typing import Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, MissingInput
from configs.errors import on_one_line
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hub_names import is_mistyped_path
from tokenizer_ext.huggingface.quantised_base import refuse_quantised
from tokenizer_ext.huggingface.rebuilt_tokenizer import as_published
from tokenizer_ext.pages.progress import progress, tracked

EXPECTED = (
    "expected a folder with config.json, model.safetensors and tokenizer.json, "
    "or a Hub name such as openai-community/gpt2"
)
# What transformers raises for files that are missing, damaged, or of a model of another kind.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, StrictDataclassError)
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")  # of today, and of GPT-2's first folders


def load_tokenizer(name_or_folder: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model: of a folder, a Hub name, a GGUF file, or `smollm2`.

    Raises:
        InputError: there is none, or the model's weights are quantised.

    """
    name_or_folder = plain_folder(name_or_folder)
    path = Path(name_or_folder)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):  # the folder of an adapter has no config.json
        _check_place(name_or_folder)
        # Without them transformers makes a tokenizer with hardly a token, and says nothing.
        if path.is_dir():
            raise MissingInput(f"{name_or_folder}: holds no tokenizer.json, {EXPECTED}")
    refuse_quantised(name_or_folder)
    try:
        with progress(f"reading the tokenizer of {name_or_folder}"):
            tokenizer = AutoTokenizer.from_pretrained(name_or_folder, trust_remote_code=False)
            return as_published(tokenizer, name_or_folder)
    except UNREADABLE as error:
        raise InputError(f"{name_or_folder}: no tokenizer ({on_one_line(error, 160)}): {EXPECTED}") from None


def load_model(name_or_folder: str, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """The causal model, named as its tokenizer, in evaluation mode; with "auto" in the type that it is stored in.

    Raises:
        InputError: there is none, its weights are quantised, or one is missing or not finite.

    """
    name_or_folder = plain_folder(name_or_folder)
    _check_place(name_or_folder)
    refuse_quantised(name_or_folder)
    try:
        with progress(f"reading the model {name_or_folder}"):
            model, report = AutoModelForCausalLM.from_pretrained(
                name_or_folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except UNREADABLE as error:
        raise InputError(f"{name_or_folder}: no causal model ({on_one_line(error, 160)}): {EXPECTED}") from None
    if missing := sorted(report["missing_keys"]):  # transformers only warns, and fills them with random numbers
        raise InputError(
            f"{name_or_folder}: its weights lack {missing[0]}, expected every weight of {type(model).__name__}: "
            "get the model anew"
        )
    check_finite(model, name_or_folder)
    return model.eval()


def positions_of(model: PreTrainedModel) -> int | None:
    """How many tokens the model can read at once; None where its config sets no limit.

    A model that also sees or hears keeps it in the config of its part for text.
    """
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions


def check_finite(model: nn.Module, where: str) -> None:
    """Refuses a model with a weight that is NaN or infinite; `where` names the model in the error."""
    for name, tensor in tracked(list(model.named_parameters()), "checking the weights", "tensors"):
        if not torch.isfinite(tensor).all():
            raise InputError(f"{where}: {name} holds NaN or infinity, expected finite weights: get the model anew")


def _check_place(name_or_folder: str) -> None:
    path = Path(name_or_folder)
    if path.is_file():
        raise InputError(f"{name_or_folder}: is a file, {EXPECTED}")
    if path.is_dir() and not (path / "config.json").is_file():
        raise MissingInput(f"{name_or_folder}: holds no config.json, {EXPECTED}")
    if not path.exists() and is_mistyped_path(name_or_folder):
        raise MissingInput(f"{name_or_folder}: no such folder, {EXPECTED}")
