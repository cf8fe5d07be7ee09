"""The finished model as folders that plain transformers and peft open, and the way back from them.

    final/base/       the extended model with its trained new rows, tokenizer, chat template, generation config, and the
                      certificate, whose hashes are taken again after training
    final/adapter/    the LoRA adapter; its config names `../base`, relative to itself. One that started by changing
                      the base (PiSSA) is saved as the difference to the base as it was: a plain LoRA of twice the rank

Full fine-tuning leaves one model, so there `final/` is itself the model's folder.
"""

import dataclasses
import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from configs.errors import on_one_line
from configs.whole_folder import whole_folder
from finetune.chat.graft_format import CHAT_TEMPLATE, END_TOKEN
from finetune.export.hub import fetch
from finetune.lora.changed_base import ADAPTER, save_as_difference, take_out
from finetune.lora.lora import changes_to_base
from scratch_models.embedded_default import folder_of_base
from scratch_models.loop.run_folder import RECORD, find_recorded
from tokenizer_ext.embeddings.tables import fold, new_row_parameters
from tokenizer_ext.extension.certificate import Certificate, hash_weights
from tokenizer_ext.extension.extension import Extended
from tokenizer_ext.huggingface.hf_model import UNREADABLE, load_model, load_tokenizer
from tokenizer_ext.pages.progress import shown

ADAPTER_CONFIG = "adapter_config.json"
BASE_BESIDE_ADAPTER = "../base"


@shown("saving the assistant")
def save_assistant(
    model: PreTrainedModel,
    adapted: PeftModel | None,
    tokenizer: PreTrainedTokenizerFast,
    final: Path,
    extended: Extended | None = None,
) -> None:
    """Writes `final/`, complete or not at all; the model is used up: new rows are folded, the adapter is taken out.

    Args:
        model: The causal model, with adapters inside it where `adapted` is given.
        adapted: The same model as peft wraps it, or None after full fine-tuning.
        tokenizer: Its tokenizer with the control tokens.
        final: The folder to write; one that is there already is replaced.
        extended: What the model was extended by: its certificate and report are saved beside the weights.

    """
    if new_row_parameters(model):
        fold(model)
    make_conversational(model, tokenizer)
    with whole_folder(final) as partial:
        _write(model, adapted, tokenizer, partial, extended)


def _write(
    model: PreTrainedModel,
    adapted: PeftModel | None,
    tokenizer: PreTrainedTokenizerFast,
    partial: Path,
    extended: Extended | None,
) -> None:
    base = partial if adapted is None else partial / "base"
    if adapted is not None:
        changed = changes_to_base(adapted)
        adapted.save_pretrained(partial / "adapter", save_embedding_layers=False)
        save_as_difference(partial / "adapter", changed)
        _tidy_adapter(partial / "adapter")
        model = take_out(adapted, changed)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    if extended is not None:
        extended.save_proof(base, certify_trained(extended, model, all_weights_trained=adapted is None))


def certify_trained(extended: Extended, model: PreTrainedModel, *, all_weights_trained: bool) -> Certificate:
    """The certificate of an extension with the hashes of the model after training, its new rows folded."""
    return dataclasses.replace(
        extended.certificate,
        weights_after=hash_weights(model, extended.first_new_id),
        all_weights_trained=all_weights_trained,
    )


def make_conversational(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Lets any tool chat with the model and stop where it should: template, end-of-turn id, pad id, generation config.

    What stopped the base stays a stop: its end of text, and the others that its generation config names. The end of
    text becomes the padding where there was none: it is no end of turn, so a tool that leaves padding out of the loss
    does not leave out the ends that a model must learn.
    """
    tokenizer.chat_template = CHAT_TEMPLATE
    end_of_turn, end_of_text = tokenizer.convert_tokens_to_ids(END_TOKEN), tokenizer.eos_token_id
    if tokenizer.pad_token_id in (None, end_of_turn):
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = END_TOKEN
    generation = model.generation_config
    before = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    # A config without a generation config of its own names the default of its class, which may be any word here.
    control = [id_ for id_ in before if id_ in tokenizer.added_tokens_decoder]
    stops = [id_ for id_ in (end_of_turn, end_of_text, *control) if id_ is not None]
    generation.eos_token_id = list(dict.fromkeys(stops))
    generation._from_model_config = False  # else transformers 4 would take the one stop of the model's config instead
    for config in (generation, model.config.get_text_config()):
        config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().eos_token_id = end_of_turn


def load_assistant(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model, its adapter beside its weights, and its tokenizer: of a run, a folder, an adapter, or a Hub name.

    Raises:
        InputError: there is no model, or the run is not finished.

    """
    path = find_model(folder)
    if not (path / ADAPTER_CONFIG).is_file():
        tokenizer = load_tokenizer(str(path))
        return load_model(str(path)), tokenizer
    adapted, tokenizer = load_adapted(path)
    return adapted.get_base_model(), tokenizer


def load_start(name: str | Path, device: torch.device | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """What a training starts from, as one plain model, and its tokenizer: named as for `load_assistant`.

    Raises:
        InputError: there is no model, the run is not finished, or its adapter cannot be merged.

    """
    path = find_model(name)
    if (path / ADAPTER_CONFIG).is_file():
        adapted, tokenizer = load_adapted(path)
        model = merge_in_memory(adapted, path)
    else:
        tokenizer = load_tokenizer(str(path))
        model = load_model(str(path))
    return (model if device is None else model.to(device)), tokenizer


def find_model(name: str | Path) -> Path:
    """The folder of the model or of the adapter that a name stands for, fetched where it is the Hub's.

    A name is `embedded`, a Hub name, also of a run that was uploaded, or a folder: of a model, a run, its `final/`, or
    an adapter.

    Raises:
        InputError: the run is not finished, or the Hub does not give the model.

    """
    return model_folder(fetch(folder_of_base(str(name))))


def load_adapted(adapter: Path, name: str = ADAPTER) -> tuple[PeftModel, PreTrainedTokenizerFast]:
    """An adapter, by this name, on the base that it names, in evaluation mode, and the tokenizer of the base.

    Raises:
        InputError: base or adapter are missing, damaged, or of different models.

    """
    base = base_of_adapter(adapter)
    tokenizer = load_tokenizer(base)
    try:
        adapted = PeftModel.from_pretrained(load_model(base), str(adapter), adapter_name=name)
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        reason = on_one_line(error, 160)
        raise InputError(f"{adapter}: no adapter for {base} ({reason}), expected what a run wrote to final/") from None
    return adapted.eval(), tokenizer


def find_base(tuned: str | Path) -> str | None:
    """The base that a run recorded in its `run.json`, given any path into its folder; None where there is no record."""
    base = find_recorded(tuned, "base")
    return None if base is None else str(base)


@shown("merging the adapter")
def merge_in_memory(adapted: PeftModel, adapter: Path) -> PreTrainedModel:
    """The base with the adapter in its weights, a plain model; what was adapted is used up.

    Raises:
        InputError: the adapter is of a kind that no weights can hold, or holds numbers that are not finite.

    """
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, NotImplementedError, TypeError) as error:
        raise InputError(
            f"{adapter}: cannot be merged ({on_one_line(error, 200)}): use adapter and base side by side"
        ) from error
    if hasattr(merged, "peft_config"):  # peft would warn that the next adapter is a second one
        del merged.peft_config
    return merged


def model_folder(path: Path) -> Path:
    """The folder of a run that holds its model, or its adapter; of a folder that is no run, the folder itself.

    Raises:
        InputError: the run is not finished.

    """
    if (path / RECORD).is_file() and not (path / "final").is_dir():
        raise InputError(f"{path}: the run is not finished, it has no final/: continue it with --resume first")
    for part in ("final", "adapter"):
        if (path / part).is_dir():
            path = path / part
    return path


def base_of_adapter(adapter: Path) -> str:
    """The folder or the Hub name of the base that an adapter names.

    Raises:
        InputError: it names none, or one beside it that is not there.

    """
    try:
        named = str(json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{adapter / ADAPTER_CONFIG}: names no base, expected what peft writes") from None
    if not named.startswith("."):
        return named
    base = (adapter / named).resolve()
    if not base.is_dir():
        raise InputError(
            f"{adapter}: the adapter points at {named}, which is not there: keep adapter/ and base/ side by side"
        )
    return str(base)


def _tidy_adapter(adapter: Path) -> None:
    """Names the base relative to the adapter, and takes out peft's card, an empty form: ours is one folder above."""
    (adapter / "README.md").unlink(missing_ok=True)
    path = adapter / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = BASE_BESIDE_ADAPTER
    if isinstance(config["target_modules"], list):  # a set in peft, so in another order every time
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
