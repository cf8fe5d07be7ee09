"""In how many bits a run holds the weights of its base that do not train, and how that base is opened."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from torch import nn
from transformers import PreTrainedModel

from configs import InputError
from configs.one_line_ending import say
from finetune.engine.freed_memory import keep_no_freed_memory
from finetune.lora.adapter_shape import BaseBits
from finetune.lora.changed_base import HARMLESS_STARTS
from finetune.lora.tuning_settings import TuningSettings
from scratch_models.loop.precision import has_bf16
from tokenizer_ext.foreign.files_in_folder import weight_files
from tokenizer_ext.foreign.weight_headers import read_headers
from tokenizer_ext.held_weights.mapped_weights import pieces
from tokenizer_ext.held_weights.packed_matrices import expect_bitsandbytes
from tokenizer_ext.held_weights.quantised_layers import quantise
from tokenizer_ext.held_weights.stored_layers import HALF, hold_as_stored
from tokenizer_ext.huggingface.hf_model import check_finite, load_model, map_model

SHARE_OF_FREE_MEMORY, SHARE_TO_ASK = 0.25, 0.45
"""What a base in float32 may take of it, where that makes replies and steps faster; and a model that is only asked."""
READ_WEIGHTS = ("use_dora", "modules_to_save", "kasa_config", "velora_config")
"""Options of peft that read or train the base's own matrices, which a quantised layer does not have."""


@dataclass(frozen=True)
class HeldAs:
    """What a run asks of the weights that do not train."""

    bits: BaseBits | None = None
    """None: as they are stored, or in float32 where that is faster and fits."""
    trains_all: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the adapter."""

    def choose(self, stored_as: torch.dtype, parameters: int, device: torch.device) -> BaseBits:
        """The bits that a base is held in.

        Args:
            stored_as: The type of its weights on the disk.
            parameters: How many numbers they are.
            device: Where it goes.

        Raises:
            InputError: what is asked for cannot be had with this base, adapter or launch.

        """
        self.check(stored_as)
        if self.bits is not None:
            return self.bits
        if self.trains_all or stored_as not in HALF or self._starts_by_changing() or _is_sharded():
            return 32
        return 32 if _fits_in_single(parameters, device) else 16

    def check(self, stored_as: torch.dtype, *, merged_in_memory: bool = False) -> None:
        """Refuses what cannot be had with this base, adapter or launch.

        Args:
            stored_as: As for `choose`.
            merged_in_memory: Whether the base is an adapter, whose merged weights stand nowhere.

        Raises:
            InputError: something cannot.

        """
        bits = self.bits
        if bits in (None, 32):
            return
        if self.trains_all:
            raise InputError(
                f"base_bits: found {bits} with --method full, in which every weight trains, expected an adapter: leave "
                "it out, or use --method lora"
            )
        if bits == 16 and stored_as not in HALF:
            raise InputError(
                "base_bits: found 16, but the base is stored in float32, which it would be rounded from, expected one "
                "in bfloat16 or float16: use 8, 4 or 32"
            )
        if self._starts_by_changing():
            start = self.options.get("init_lora_weights")
            raise InputError(
                f"base_bits: found {bits} with init_lora_weights {start!r}, which starts by changing the base's "
                "weights, expected them in float32: use 32, or another start"
            )
        if bits != 16:
            self._check_quantised()
            if merged_in_memory:
                raise InputError(
                    f"base_bits: found {bits} on a base that is an adapter, merged in memory alone, expected one whose "
                    "weights stand in its folder: write it there with `python -m finetune.merge` first"
                )

    def _check_quantised(self) -> None:
        if named := [name for name in READ_WEIGHTS if self.options.get(name)]:
            raise InputError(
                f"base_bits: found {self.bits} with lora_options.{named[0]}, which reads the base's own matrices, "
                "expected plain LoRA: use 16, or leave the option out"
            )
        if _is_sharded():
            raise InputError(
                f"base_bits: found {self.bits} in a sharded launch, which spreads weights as they are stored, expected "
                "16 or 32: leave it out, or launch without FSDP"
            )
        expect_bitsandbytes()

    def _starts_by_changing(self) -> bool:
        return self.options.get("init_lora_weights", True) not in HARMLESS_STARTS


IN_SINGLE = HeldAs(32)


def held_as_set(settings: TuningSettings) -> HeldAs:
    """What a run's settings ask."""
    return HeldAs(settings.base_bits, trains_all=settings.method == "full", options=settings.lora_options)


def open_held(
    name: str, folder: Path, stored_as: torch.dtype, held_as: HeldAs, device: torch.device
) -> PreTrainedModel:
    """The model of a folder on a device, its weights held as is asked.

    Args:
        name: What the user called it.
        folder: Where its weights stand.
        stored_as: Their type there.
        held_as: What is asked.
        device: Where it goes.

    Raises:
        InputError: there is no model, or it cannot be held so.

    """
    numbers = sum(tensor.numbers for tensor in read_headers(weight_files(folder)).values())
    bits = _same_everywhere(held_as.choose(stored_as, numbers, device))
    if bits == 32:
        return load_model(name).to(device)
    if bits != 16:
        keep_no_freed_memory()  # or packed numbers would lie scattered among what their matrices took
    model = map_model(name, stored_as)
    if bits != 16:
        quantise(model, bits, folder, device)
    check_finite(model, name, pieces)  # from the files: a row of a table that no text asks for stays there
    hold_as_stored(model)
    return model.to(device)


def type_to_ask(name: str, folder: Path, stored_as: torch.dtype) -> torch.dtype:
    """What the matrices of a model that is only asked are held in: float32, or its own half where that hardly fits.

    Its logits are the same, bit for bit (`hold_as_stored`). Where they stay in half precision a line says so.

    Args:
        name: What the user called it.
        folder: Where its weights stand.
        stored_as: Their type there.

    """
    if stored_as not in HALF:
        return torch.float32
    numbers = sum(tensor.numbers for tensor in read_headers(weight_files(folder)).values())
    free = _free_memory()
    if 4 * numbers <= SHARE_TO_ASK * free:
        return torch.float32
    say(
        f"{name}: its weights stay {str(stored_as).removeprefix('torch.')}, {2 * numbers / 1e9:.1f} GB, and are cast "
        f"when they are multiplied: in float32 they would take {4 * numbers / 1e9:.1f} of {free / 1e9:.1f} GB that are "
        "free. Replies are the same, and slower",
        sys.stderr,
    )
    return stored_as


def _free_memory() -> int:
    """Bytes that are free where models are asked: of the first GPU, or of this machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def hold_merged(
    model: PreTrainedModel, stored_as: torch.dtype, held_as: HeldAs, device: torch.device
) -> PreTrainedModel:
    """A model that an adapter was merged into, rounded to the type that it will be stored in, held as is asked.

    Raises:
        InputError: it is to be quantised, which is done to weights that stand on the disk.

    """
    held_as.check(stored_as, merged_in_memory=True)
    bits = _same_everywhere(held_as.choose(stored_as, sum(one.numel() for one in model.parameters()), device))
    model.to(stored_as)
    if bits == 16:
        hold_as_stored(model)
    return model.to(device) if bits == 16 else model.float().to(device)


def widen_what_trains(model: nn.Module) -> None:
    """Has every parameter that trains be in single precision, in place, whatever it was copied from."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in HALF:
            parameter.data = parameter.data.float()


def _fits_in_single(parameters: int, device: torch.device) -> bool:
    """Whether float32 is what this device computes in, and has the memory for without a thought."""
    if device.type != "cpu" or has_bf16(device):
        return False
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 4 * parameters * processes <= SHARE_OF_FREE_MEMORY * psutil.virtual_memory().available


def _is_sharded() -> bool:
    return bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))


def _same_everywhere(bits: BaseBits) -> BaseBits:
    """What the main process chose: another one may see less free memory."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return bits
    chosen: BaseBits = broadcast_object_list([bits])[0]
    return chosen
