"""A base that no process holds whole: made without weights, given its adapters, and read slice by slice.

It is for a sharded launch on a folder of Hugging Face whose tokens stay as they are: plain LoRA, whatever it is tuned
for, and the tuning of every weight. Whatever else trains loads its base whole in every process, as it does without
sharding; `why_whole.py` says why, and the run prints it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator, init_empty_weights
from accelerate.utils import broadcast_object_list
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from configs import InputError
from configs.read_in_one_line import read_in_one_line
from finetune.chat.choose_format import ChatChoice
from finetune.engine.freed_memory import LEAST_MMAP_THRESHOLD, keep_no_freed_memory, return_freed_memory
from finetune.export.base_on_disk import BaseOnDisk, base_on_disk, note_base, stored_type
from finetune.export.saved_model import find_model, load_start_tokenizer
from finetune.lora.held_base import held_as_set
from finetune.lora.lora import attach_lora, check_lora
from finetune.lora.trainable_model import TrainableModel, plan_vocabulary
from finetune.lora.tuning_settings import TuningSettings
from finetune.sliced.why_whole import why_whole_by_settings, why_whole_by_weights
from scratch_models.launch.waiting import first_said, wait_for_all
from scratch_models.loop.sharding import make_mesh, wants_sharding
from scratch_models.sharded.sliced_model import SlicedModel, fill_with_nothing
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.embeddings.token_rows import check_rows
from tokenizer_ext.extension.certificate import WeightHashes, hash_weights
from tokenizer_ext.extension.checks import certify_unchanged
from tokenizer_ext.extension.extension import Extended
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.foreign.checked_folder import check_model_folder
from tokenizer_ext.foreign.config_numbers import check_size
from tokenizer_ext.foreign.weight_headers import StoredTensor
from tokenizer_ext.held_weights.stored_layers import HALF, hold_as_stored
from tokenizer_ext.held_weights.stored_slices import find_stored, pieces_of
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hub_folder import fetch
from tokenizer_ext.pages.progress import shown

EXPECTED = "expected a folder with config.json, model.safetensors and tokenizer.json"


@dataclass(frozen=True)
class SlicedBase:
    """A base without weights, and where they stand."""

    model: PreTrainedModel
    plan: Plan
    stored: Mapping[str, StoredTensor]
    """By the name of the parameter."""


def open_sliced(
    base: str,
    settings: TuningSettings,
    accelerator: Accelerator,
    chat: ChatChoice | None = None,
    *,
    learns_tokens: bool = False,
    has_reference: bool = False,
) -> SlicedBase | None:
    """The base without weights, where the launch shards; None, and a line that says why, where it must be loaded whole.

    Args:
        base: What the user called it.
        settings: How it is tuned.
        accelerator: Of the launch.
        chat: The chat format that is asked for; None where none is trained.
        learns_tokens: Whether new tokens are learned from a corpus.
        has_reference: Whether the base is asked beside what it is tuned to.

    Raises:
        InputError: there is no such base, it is damaged, it cannot have such an adapter, or the processes cannot be
            shared out.

    """
    if not wants_sharding(accelerator):
        return None
    make_mesh(accelerator)  # refuses a plan that has too few processes
    path = find_model(base)
    why = why_whole_by_settings(settings, path, learns_tokens=learns_tokens, has_reference=has_reference)
    if why is None:
        tokenizer = load_start_tokenizer(base)
        plan = Plan(base=tokenizer, tokenizer=tokenizer) if chat is None else plan_vocabulary(tokenizer, [], 0, chat)
        why = "it gets rows for control tokens" if plan.control_tokens else None
    if why is None:
        opened = _open(base, str(path), plan, settings, accelerator.device)
        if isinstance(opened, SlicedBase):
            return opened
        why = opened
    accelerator.print(f"{base}: every process loads the whole base and keeps its slice of it: {why}")
    return None


@shown("reading slices of the base")
def train_in_slices(
    base: SlicedBase, settings: TuningSettings, accelerator: Accelerator
) -> tuple[TrainableModel, SlicedModel]:
    """The base with its adapters, or with every weight to train, spread over the processes, each with its slices.

    Raises:
        InputError: a weight is not finite, or a file is shorter than it says.

    """
    model, plan = base.model, base.plan
    keep_no_freed_memory(LEAST_MMAP_THRESHOLD)  # blocks come and go: what glibc keeps of one may not fit the next
    hashes = _hash_stored(base, accelerator)
    extended = Extended(plan.tokenizer, model, certify_unchanged(plan, model, hashes), plan)
    tables = find_tables(model)
    adapted = None if settings.lora is None else attach_lora(model, settings.lora)
    if adapted is None:
        for weight in model.parameters():
            weight.requires_grad_()
    sliced = SlicedModel(
        model=model,
        root=model.base_model,
        tables=[table for table in (tables.embedding, tables.head) if table is not None],
        stored=base.stored,
        device=accelerator.device,
    )
    sliced.shard(make_mesh(accelerator))
    if wrong := first_said(sliced.load(), accelerator):
        opened = base_on_disk(model)
        assert opened is not None
        raise InputError(f"{opened.given}: {wrong}")
    return_freed_memory()  # of adapters that were whole
    return TrainableModel(model, adapted, extended), sliced


def _open(given: str, name: str, plan: Plan, settings: TuningSettings, device: torch.device) -> SlicedBase | str:
    """The base without weights, or why it cannot be read by slices."""
    name = plain_folder(name)
    folder = fetch(name)
    stored = check_model_folder(folder, name)
    with read_in_one_line(f"{given}: no causal model", EXPECTED):
        check_size(folder, stored)
        model = _without_weights(folder, settings)
    model.name_or_path = model.config._name_or_path = name
    found = find_stored(model, stored, model.base_model_prefix)
    if why := why_whole_by_weights(model, stored, found):
        return why
    if missing := sorted(dict(model.named_parameters()).keys() - found.keys()):
        raise InputError(
            f"{given}: its weights lack {missing[0]}, expected every weight of {type(model).__name__} in the shape "
            "that config.json gives it: get the model anew"
        )
    fill_with_nothing(model, device)
    check_rows(model, plan.base)
    if settings.lora is not None:
        check_lora(model, settings.lora)
    note_base(model, BaseOnDisk(given=given, folder=folder, stored_as=stored_type(folder)))
    return SlicedBase(model.eval(), plan, found)


def _without_weights(folder: Path, settings: TuningSettings) -> PreTrainedModel:
    stored_as, held_as = stored_type(folder), held_as_set(settings)
    if held_as.bits is None and stored_as in HALF:
        held_as = replace(held_as, bits=16)
    is_half = settings.lora is not None and held_as.choose(stored_as, 0, torch.device("cpu")) == 16
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
