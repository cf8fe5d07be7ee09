"""A base that no process holds whole: made without weights, given its adapters, and read slice by slice.

It is for a sharded launch of plain LoRA on a folder of Hugging Face whose tokens stay as they are. Whatever else trains
loads its base whole in every process, as it does without sharding; `why_whole` says why, and the run prints it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, init_empty_weights
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.conversion_mapping import get_model_conversion_mapping

from configs import InputError
from configs.read_in_one_line import read_in_one_line
from finetune.chat.choose_format import resolve_choice
from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.engine.freed_memory import keep_no_freed_memory, return_freed_memory
from finetune.export.base_on_disk import BaseOnDisk, base_on_disk, note_base, stored_type
from finetune.export.saved_model import find_model, load_start_tokenizer
from finetune.lora.held_base import held_as_set
from finetune.lora.launch import say_whole
from finetune.lora.lora import attach_lora
from finetune.lora.trainable_model import TrainableModel, plan_vocabulary
from finetune.supervised.settings import SftSettings
from scratch_models.launch.waiting import wait_for_all
from scratch_models.loop.sharding import make_mesh, wants_sharding
from scratch_models.sharded.sliced_model import SlicedModel, fill_with_nothing
from scratch_models.sharded.stored_slices import find_stored, pieces_of
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.extension.certificate import WeightHashes, hash_weights
from tokenizer_ext.extension.checks import certify_unchanged
from tokenizer_ext.extension.extension import Extended
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.foreign.checked_folder import check_model_folder
from tokenizer_ext.foreign.config_numbers import check_size
from tokenizer_ext.foreign.weight_headers import StoredTensor
from tokenizer_ext.held_weights.stored_layers import HALF, hold_as_stored, is_linear
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hub_folder import fetch
from tokenizer_ext.pages.progress import shown

EXPECTED = "expected a folder with config.json, model.safetensors and tokenizer.json"
SLICED_OPTIONS: dict[str, tuple[Any, ...]] = {
    "init_lora_weights": (True, "gaussian"),
    "use_rslora": (True, False),
    "rank_pattern": (),
    "alpha_pattern": (),
    "layers_to_transform": (),
}
"""Options of an adapter that starts without a look at the weights, and adds nothing then; () for any value."""


@dataclass(frozen=True)
class SlicedBase:
    """A base without weights, and where they stand."""

    model: PreTrainedModel
    plan: Plan
    stored: Mapping[str, StoredTensor]
    """By the name of the parameter."""


def open_sliced(settings: SftSettings, documents: Sequence[str], accelerator: Accelerator) -> SlicedBase | None:
    """The base without weights, where the launch shards; None, and a line that says why, where it must be loaded whole.

    Raises:
        InputError: there is no such base, it is damaged, or the processes cannot be shared out.

    """
    if not wants_sharding(accelerator):
        return None
    make_mesh(accelerator)  # refuses a plan that has too few processes
    path = find_model(settings.base)
    why = _why_whole_by_settings(settings, documents, path)
    if why is None:
        tokenizer = load_start_tokenizer(settings.base)
        if _lacks_control_tokens(tokenizer, settings):
            why = "it gets rows for control tokens"
    if why is None:
        opened = _open(settings.base, str(path), tokenizer, settings, accelerator.device)
        if isinstance(opened, SlicedBase):
            return opened
        why = opened
    say_whole(settings.base, why, accelerator)
    return None


@shown("reading slices of the base")
def train_in_slices(
    base: SlicedBase, settings: SftSettings, accelerator: Accelerator
) -> tuple[TrainableModel, SlicedModel]:
    """The base with its adapters, spread over the processes, each with its slices.

    Raises:
        InputError: a weight is not finite, or a file is shorter than it says.

    """
    model, plan = base.model, base.plan
    assert settings.lora is not None
    keep_no_freed_memory()  # blocks come and go, and what glibc keeps of one may not fit the next
    hashes = _hash_stored(base, accelerator)
    extended = Extended(plan.tokenizer, model, certify_unchanged(plan, model, hashes), plan)
    tables = find_tables(model)
    adapted = attach_lora(model, settings.lora)
    sliced = SlicedModel(
        model=model,
        root=model.base_model,
        tables=[table for table in (tables.embedding, tables.head) if table is not None],
        stored=base.stored,
        device=accelerator.device,
    )
    sliced.shard(make_mesh(accelerator))
    problem = sliced.load()
    if wrong := _first_said(problem, accelerator):
        raise InputError(f"{settings.base}: {wrong}")
    return_freed_memory()  # of adapters that were whole
    return TrainableModel(model, adapted, extended), sliced


def leave_slices(trainable: TrainableModel, sliced: SlicedModel, accelerator: Accelerator) -> None:
    """What trained whole in every process; the base, found to be what was read, is without weights again.

    Raises:
        InputError: a slice of a frozen weight is not what was read.

    """
    if name := _first_said(sliced.find_changed(), accelerator):
        raise InputError(f"{name}: is frozen, and is not what was read from the base any more: nothing was saved")
    sliced.leave()
    base = base_on_disk(trainable.model)
    assert base is not None
    note_base(trainable.model, replace(base, found_unchanged=True))


def _first_said(problem: str | None, accelerator: Accelerator) -> str | None:
    """What the process of the smallest rank says that has a problem, known to all."""
    said = gather_object([problem]) if accelerator.num_processes > 1 else [problem]
    return next((one for one in said if one is not None), None)


def _why_whole_by_settings(settings: SftSettings, documents: Sequence[str], path: Path) -> str | None:
    """What of the settings no slices serve yet; None where all of it is served."""
    reasons: dict[str, Any] = {
        "--method full trains every weight": settings.method == "full",
        "an adapter is merged into it first": (path / ADAPTER_CONFIG).is_file(),
        "it gets rows for new tokens": bool(documents) and settings.wanted_tokens > 0,
        "--merge writes the whole model": settings.merge,
        "its scaled positions are saved with it": bool(settings.rope_scaling),
        "--compile compiles blocks before they are sharded": settings.compile,
        "a rehearsal (--dry_run) measures it": settings.dry_run,
    }
    for name, value in settings.lora_options.items():
        served = SLICED_OPTIONS.get(name)
        reasons[f"lora_options.{name} {value} reads or changes it"] = served is None or (served and value not in served)
    return next((reason for reason, holds in reasons.items() if holds), None)


def _lacks_control_tokens(tokenizer: PreTrainedTokenizerFast, settings: SftSettings) -> bool:
    needed = CONTROL_TOKENS if resolve_choice(tokenizer, settings.chat) == "graft" else ()
    return any(token not in tokenizer.get_added_vocab() for token in needed)


def _open(
    given: str, name: str, tokenizer: PreTrainedTokenizerFast, settings: SftSettings, device: torch.device
) -> SlicedBase | str:
    """The base without weights, or why it cannot be read by slices."""
    name = plain_folder(name)
    folder = fetch(name)
    stored = check_model_folder(folder, name)
    with read_in_one_line(f"{given}: no causal model", EXPECTED):
        check_size(folder, stored)
        model = _without_weights(folder, settings)
    model.name_or_path = model.config._name_or_path = name
    found = find_stored(model, stored, model.base_model_prefix)
    if why := _why_whole(model, stored, found):
        return why
    if missing := sorted(dict(model.named_parameters()).keys() - found.keys()):
        raise InputError(
            f"{given}: its weights lack {missing[0]}, expected every weight of {type(model).__name__} in the shape "
            "that config.json gives it: get the model anew"
        )
    fill_with_nothing(model, device)
    note_base(model, BaseOnDisk(given=given, folder=folder, stored_as=stored_type(folder)))
    return SlicedBase(model.eval(), plan_vocabulary(tokenizer, [], 0, settings.chat), found)


def _without_weights(folder: Path, settings: SftSettings) -> PreTrainedModel:
    stored_as, held_as = stored_type(folder), held_as_set(settings)
    if held_as.bits is None and stored_as in HALF:
        held_as = replace(held_as, bits=16)
    is_half = held_as.choose(stored_as, 0, torch.device("cpu")) == 16
    dtype = stored_as if is_half else torch.float32
    # As it is made whole: adapters that are attached next start from the same random numbers.
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    if is_half:
        hold_as_stored(model)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _why_whole(
    model: PreTrainedModel, stored: Mapping[str, StoredTensor], found: Mapping[str, StoredTensor]
) -> str | None:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kept = {name for name in model.state_dict() if name not in parameters}
    twice = [name for name in parameters if name in stored and name not in found]
    lacks = len(found) < len(dict(model.named_parameters()))
    inside = list(model.base_model.modules())
    reasons = {
        f"it keeps {min(kept, default='')}, which is no parameter": bool(kept),
        f"its files hold {min(twice, default='')}, which it shares with another weight": bool(twice),
        "transformers puts its stored weights together anew": lacks and _is_converted(model),
        "it has no list of blocks": not any(isinstance(module, nn.ModuleList) for module in inside),
        "its head is no linear layer": not is_linear(model.get_output_embeddings()),
        "its embedding stands outside of its blocks": not any(one is model.get_input_embeddings() for one in inside),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _is_converted(model: PreTrainedModel) -> bool:
    return bool(get_model_conversion_mapping(model, add_legacy=False))


def _hash_stored(base: SlicedBase, accelerator: Accelerator) -> WeightHashes:
    """The hashes of the weights on the disk, read by the main process a few rows at a time."""
    found: list[WeightHashes | None] = [None]
    if accelerator.is_main_process:
        first = base.plan.first_new_id
        found = [hash_weights(base.model, first, lambda name, rows: pieces_of(name, base.stored[name], rows))]
    wait_for_all(accelerator)
    hashes = broadcast_object_list(found)[0] if accelerator.num_processes > 1 else found[0]
    assert isinstance(hashes, WeightHashes)
    return hashes
