"""The finished model as folders that plain transformers and peft open, and the way back from them.

    final/base/       the extended model with its trained new rows, tokenizer, chat template, generation config
    final/adapter/    the LoRA adapter; its config names `../base`, relative to itself
    final/README.md   the model card

Full fine-tuning leaves one model, so there `final/` is itself the model's folder.
"""

import json
from pathlib import Path

from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.chat import CHAT_TEMPLATE, END_TOKEN
from tokenizer_ext.embeddings import fold, new_row_parameters
from tokenizer_ext.hf_model import load_model, load_tokenizer

ADAPTER_CONFIG = "adapter_config.json"


def save_assistant(
    model: PreTrainedModel, adapted: PeftModel | None, tokenizer: PreTrainedTokenizerFast, final: Path
) -> None:
    """Writes `final/`; separate new rows are folded into the model's tables first.

    Args:
        model: The causal model, with adapters inside it where `adapted` is given.
        adapted: The same model as peft wraps it, or None after full fine-tuning.
        tokenizer: Its tokenizer with the control tokens.
        final: The folder to write.

    """
    if new_row_parameters(model):
        fold(model)
    make_conversational(model, tokenizer)
    if adapted is None:
        model.save_pretrained(final)
        tokenizer.save_pretrained(final)
        return
    adapted.save_pretrained(final / "adapter", save_embedding_layers=False)
    adapted.unload().save_pretrained(final / "base")
    tokenizer.save_pretrained(final / "base")
    _point_at_base(final / "adapter" / ADAPTER_CONFIG)


def make_conversational(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Lets any tool chat with the model and stop where it should: template, end-of-turn id, pad id, generation config.

    The old end of text stays a second stop.
    """
    tokenizer.chat_template = CHAT_TEMPLATE
    end_of_turn = tokenizer.convert_tokens_to_ids(END_TOKEN)
    end_of_text = tokenizer.eos_token_id
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == end_of_turn:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = END_TOKEN
    stops = [end_of_turn] if end_of_text in (None, end_of_turn) else [end_of_turn, end_of_text]
    pad_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        eos_token_id=stops, pad_token_id=pad_id, bos_token_id=tokenizer.bos_token_id
    )
    model.config.eos_token_id = stops[0]


def load_assistant(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model, adapter included, and tokenizer of a run's folder, its `final/`, an adapter beside its base, or any model.

    Raises:
        InputError: there is no model.

    """
    path = Path(folder)
    if (path / "final").is_dir():
        path = path / "final"
    if (path / "adapter" / ADAPTER_CONFIG).is_file():
        path = path / "adapter"
    if not (path / ADAPTER_CONFIG).is_file():
        return load_model(str(path)), load_tokenizer(str(path))
    named = str(json.loads((path / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"])
    base = str((path / named).resolve()) if named.startswith(".") else named
    if named.startswith(".") and not Path(base).is_dir():
        raise InputError(
            f"{path}: the adapter points at {named}, which is not there: keep adapter/ and base/ side by side"
        )
    adapted = PeftModel.from_pretrained(load_model(base), str(path))
    return adapted.get_base_model().eval(), load_tokenizer(base)


def _point_at_base(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "../base"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
