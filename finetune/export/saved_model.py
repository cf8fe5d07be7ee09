"""Models and adapters on the disk or the Hub, of a run or of any tool, found by what a user names, and opened."""

import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from configs.errors import lacks_memory, on_one_line
from configs.manifest import check_manifest
from configs.read_in_one_line import read_in_one_line
from finetune.chat.choose_format import named_stops
from finetune.export.adapter_base import base_of_adapter, check_base
from finetune.export.base_on_disk import BaseOnDisk, note_base, stored_type
from finetune.export.checkpoint_folder import is_checkpoint, run_at
from finetune.export.conversational import stop_at
from finetune.lora.changed_base import ADAPTER
from finetune.lora.held_base import IN_SINGLE, HeldAs, hold_merged, open_held, type_to_ask
from scratch_models.embedded.default import folder_of_base
from scratch_models.loop.run_folder import RECORD, find_recorded
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter_folder, rows_in_adapter
from tokenizer_ext.held_weights.stored_layers import hold_as_stored, seen_in_single
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer, positions_in
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.huggingface.hub_folder import TOKENIZER_FILES, fetch
from tokenizer_ext.pages.progress import shown


def load_assistant(folder: str | Path, *, to_ask: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model, its adapter beside its weights, and its tokenizer: of a run, a folder, an adapter, or a Hub name.

    Where it is only there `to_ask`, matrices that would hardly fit in float32 stay as they are stored.

    Raises:
        InputError: there is no model, or the run is not finished.

    """
    path = find_model(folder)
    if not (path / ADAPTER_CONFIG).is_file():
        tokenizer = load_tokenizer(str(path))
        model = load_model(str(path), _held_in(str(path), to_ask=to_ask))
        hold_as_stored(model)
        return model, tokenizer
    adapted, tokenizer = load_adapted(path, to_ask=to_ask)
    return adapted.get_base_model(), tokenizer


def load_start(
    name: str | Path, device: torch.device | None = None, held_as: HeldAs = IN_SINGLE
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """What a training starts from, as one plain model, and its tokenizer: named as for `load_assistant`.

    The model carries where it was read (`base_on_disk`). What an adapter was merged into is rounded to the type that
    the base is stored in: so will it be saved, and what is trained on it is trained on what is saved.

    Args:
        name: The model.
        device: Where it goes; by default the CPU.
        held_as: In how many bits its weights are held.

    Raises:
        InputError: there is no model, the run is not finished, its adapter cannot be merged, or its weights cannot be
            held as is asked.

    """
    path, device = find_model(name), device or torch.device("cpu")
    if (path / ADAPTER_CONFIG).is_file():
        adapted, tokenizer = load_adapted(path)
        base = BaseOnDisk(given=str(name), folder=None, stored_as=stored_type(Path(base_of_adapter(path))))
        model = hold_merged(merge_in_memory(adapted, path), base.stored_as, held_as, device)
    else:
        tokenizer = load_tokenizer(str(path))
        folder = fetch(plain_folder(str(path)))
        base = BaseOnDisk(given=str(name), folder=folder, stored_as=stored_type(folder))
        model = open_held(str(path), folder, base.stored_as, held_as, device)
    note_base(model, base)
    return model, tokenizer


def check_start_held(name: str | Path, held_as: HeldAs) -> None:
    """Refuses what `load_start` would refuse of how weights are held, before anything large is read.

    Raises:
        InputError: there is no model, or its weights cannot be held as is asked.

    """
    path = find_model(name)
    is_adapter = (path / ADAPTER_CONFIG).is_file()
    folder = fetch(plain_folder(base_of_adapter(path) if is_adapter else str(path)))
    held_as.check(stored_type(folder), merged_in_memory=is_adapter)


def load_start_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer that `load_start` gives, without the weights."""
    path = find_model(name)
    is_adapter = (path / ADAPTER_CONFIG).is_file()
    return load_tokenizer(str(tokenizer_folder(path, base_of_adapter(path)) if is_adapter else path))


def positions_of_start(name: str) -> int | None:
    """How many tokens the model of `load_start` can read at once, by its config alone; None where that does not say."""
    path = find_model(name)
    base = base_of_adapter(path) if (path / ADAPTER_CONFIG).is_file() else str(path)
    with read_in_one_line(f"{name}: no config.json that can be read", "expected that of a causal model"):
        config = AutoConfig.from_pretrained(fetch(plain_folder(base)), trust_remote_code=False)
    return positions_in(config)


def find_model(name: str | Path) -> Path:
    """The folder of the model or of the adapter that a name stands for, fetched where it is the Hub's.

    A name is `embedded`, a Hub name, also of a run that was uploaded, or a folder: of a model, a run, its `final/`, one
    of its checkpoints, or an adapter.

    Raises:
        InputError: the run is not finished, a file of it is damaged, or the Hub does not give the model.

    """
    folder = fetch(folder_of_base(str(name)))
    folder = model_folder(run_at(folder) if is_checkpoint(folder) else folder)
    check_manifest(folder)
    return folder


def load_adapted(
    adapter: Path, name: str = ADAPTER, *, prove_base: bool = False, to_ask: bool = False
) -> tuple[PeftModel, PreTrainedTokenizerFast]:
    """An adapter of any tool, by this name, on the base that it names, in evaluation mode, and its tokenizer.

    The tokenizer is the one beside the adapter, or the base's. With `prove_base` the files of both are hashed and held
    to what is known of them; without, what is remembered of them will do. `to_ask` is as for `load_assistant`.

    Raises:
        InputError: base or adapter are missing, damaged, changed, or of different models.

    """
    base = base_of_adapter(adapter)
    for folder in (adapter, base) if prove_base else (adapter,):
        check_manifest(folder, anew=prove_base)
    tokenizer = load_tokenizer(str(tokenizer_folder(adapter, base)))
    model = load_model(base, _held_in(base, to_ask=to_ask))
    check_base(adapter, base, model, anew=prove_base)
    if _fit_rows(model, adapter, base, tokenizer):
        model.float()  # its tables are the adapter's, and may have been trained in float32
    hold_as_stored(model)
    _take_stops(model, adapter, tokenizer)
    check_adapter_folder(adapter, [name for name, _ in model.named_modules()])
    expected = "expected what a run wrote to final/"
    unread = f"{adapter}: no adapter for {base}"
    with read_in_one_line(unread, expected), warnings.catch_warnings(), seen_in_single(model):
        # peft only warns of them, and leaves the layers as they were before they learned.
        warnings.filterwarnings("error", message=".*missing adapter keys")
        adapted = PeftModel.from_pretrained(model, str(adapter), adapter_name=name)
    if adapted.active_peft_config.is_prompt_learning:
        kind = adapted.active_peft_config.peft_type.value
        raise InputError(f"{adapter}: is of the kind {kind}, expected an adapter inside of layers, such as LoRA")
    return adapted.eval(), tokenizer


def tokenizer_folder(adapter: Path, base: str) -> Path:
    """Where the tokenizer of an adapter is: beside it, or beside its base."""
    return adapter if any((adapter / name).is_file() for name in TOKENIZER_FILES) else Path(base)


def find_base(tuned: str | Path) -> str | None:
    """The base that a run recorded in its `run.json`, given any path into its folder; else the one an adapter names.

    None where neither says it.
    """
    base = find_recorded(tuned, "base")
    if base is None and (Path(tuned) / ADAPTER_CONFIG).is_file():
        return base_of_adapter(Path(tuned))
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
        if lacks_memory(error):
            raise
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


def _held_in(name: str, *, to_ask: bool) -> torch.dtype:
    """What a model's matrices are read and held in: float32, if it is not only asked and large."""
    if not to_ask:
        return torch.float32
    folder = fetch(plain_folder(name))
    return type_to_ask(name, folder, stored_type(folder))


def _fit_rows(model: PreTrainedModel, adapter: Path, base: str, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Gives the base as many rows as the tables that other tools save in an adapter; whether it has any tables.

    Raises:
        InputError: the adapter's tokenizer has ids that neither base nor adapter have a row for.

    """
    rows = model.get_input_embeddings().weight.shape[0]
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    saved = rows_in_adapter(adapter, [name for name, module in model.named_modules() if module in tables])
    if saved not in (None, rows):
        model.resize_token_embeddings(saved, mean_resizing=False)  # the adapter fills them
    elif (ids := next_token_id(tokenizer)) > rows and ids > next_token_id(load_tokenizer(base)):
        raise InputError(
            f"{adapter}: its tokenizer has ids up to {ids - 1}, and {base} rows for {rows}: expected the trained "
            f"rows in {ADAPTER_WEIGHTS}: save it anew with save_embedding_layers=True"
        )
    return saved is not None


def _take_stops(model: PreTrainedModel, adapter: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Has replies end where the adapter says: in its generation config, or at the end that its own tokenizer names."""
    if (adapter / "generation_config.json").is_file():
        with read_in_one_line(f"{adapter}: no generation_config.json", "expected what transformers writes"):
            model.generation_config = GenerationConfig.from_pretrained(adapter)
    elif tokenizer.eos_token_id is not None:
        stop_at(model.generation_config, [*named_stops(model.generation_config), tokenizer.eos_token_id])
