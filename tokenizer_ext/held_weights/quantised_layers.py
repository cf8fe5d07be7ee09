"""Linear layers whose frozen matrix is quantised to 8 or 4 bits, and made again whenever it is multiplied.

Of the matrices those inside the repeated blocks alone are quantised, as QLoRA does (Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314, section 3): embedding and head stay as they are stored.

A quantised layer knows where its matrix stands on the disk, so that hashes, certificates and saves are of that one.

Shapes: I width of the input, O width of the output.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from configs import InputError
from tokenizer_ext.foreign.files_in_folder import weight_files
from tokenizer_ext.foreign.weight_headers import StoredTensor, read_headers
from tokenizer_ext.held_weights.packed_matrices import (
    KINDS,
    Bits,
    expect_bitsandbytes,
    made_in_parts,
    made_whole,
    packed,
    rounded,
)
from tokenizer_ext.held_weights.stored_layers import (
    HALF,
    NUMBERS_AT_ONCE,
    HeldLayer,
    StoredLinear,
    holds_half,
    parts_on,
)
from tokenizer_ext.held_weights.stored_slices import TYPES, read_rows
from tokenizer_ext.huggingface.hf_model import expect_finite
from tokenizer_ext.pages.progress import tracked

HeldBits = Literal[32, 16, 8, 4]
EXPECTED = "expected weights that are stored as they are held: use --base_bits 16"


@dataclass(frozen=True)
class OnDisk:
    """Where a matrix stands."""

    name: str
    """In its file."""
    stored: StoredTensor

    def read(self) -> Tensor:
        """It, in memory of its own: pages of a mapped file would stay while anything of that file is held."""
        return read_rows(self.name, self.stored, 0, self.stored.shape[0])

    def mapped(self) -> Tensor:
        """It, mapped from the file: many of them take no memory that the system cannot take back."""
        with safe_open(self.stored.file, framework="pt") as file:
            tensor: Tensor = file.get_tensor(self.name)
        return tensor


class QuantisedLinear(HeldLayer, nn.Linear):
    """`nn.Linear` whose matrix is quantised: `weight` is what bitsandbytes packs it into."""

    origin: OnDisk
    state: Any
    """bitsandbytes' `QuantState`."""
    bits: Bits

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix as the quantised numbers have it."""
        return made_whole(self.weight.detach(), self.state, self.bits, dtype)

    def columns(self, dtype: torch.dtype, numbers_at_once: int = NUMBERS_AT_ONCE) -> Iterator[Tensor]:
        """The same, (I, O), of which few rows are made at once."""
        numbers = self.weight.detach()
        at_once = parts_on(numbers.device, numbers_at_once)
        rows = made_in_parts(numbers, self.state, self.bits, dtype, self.in_features, at_once)
        yield from map(Tensor.t, rows)  # which holds none of them while the next is made


def quantise(model: nn.Module, bits: Bits, folder: Path, device: torch.device) -> int:
    """Quantises the linear layers of a model's blocks one by one, in place; returns how many.

    Each matrix is read from its file, quantised and freed before the next one: neither memory nor device has all.

    Args:
        model: As it was mapped from the folder, on the CPU; no number of its matrices is looked at, but two rows.
        bits: 4 or 8.
        folder: Where its weights stand.
        device: Where the packed numbers go.

    Raises:
        InputError: bitsandbytes is missing, a matrix does not stand in the folder as the model has it, or is not
            finite.

    """
    expect_bitsandbytes()
    stored = read_headers(weight_files(folder))
    layers = list(linear_layers_of_blocks(model))
    if turned := next((name for name, layer in layers if not isinstance(layer, nn.Linear)), None):
        raise InputError(
            f"base_bits: {turned} of {type(model).__name__} is a Conv1D, as GPT-2 has them, expected nn.Linear, which "
            "peft puts adapters on when it is quantised: use --base_bits 16"
        )
    for name, layer in tracked(layers, f"quantising to {bits} bits", "matrices"):
        _quantise(layer, bits, _find(f"{name}.weight", model, stored), device)
    return len(layers)


def linear_layers_of_blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The linear layers inside a model's repeated blocks, with their names; the head is none of them."""
    blocks = {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and any(name.startswith(f"{block}.") for block in blocks):
            yield name, module


@torch.no_grad()
def round_blocks(model: nn.Module, bits: Bits) -> dict[nn.Parameter, Tensor]:
    """Gives the linear layers of a model's blocks the numbers that they have once quantised, in place.

    Returns what each weight held before. Layers of adapters stay as they are.

    Raises:
        InputError: bitsandbytes is missing.

    """
    expect_bitsandbytes()
    before = {}
    for name, layer in tracked(list(linear_layers_of_blocks(model)), f"rounding to {bits} bits", "matrices"):
        if "lora_" not in name:
            weight: nn.Parameter = layer.weight  # type: ignore[assignment]
            before[weight] = weight.data
            weight.data = rounded(weight.data, bits, weight.dtype)
    return before


def originals(model: nn.Module) -> dict[int, OnDisk]:
    """What the packed weights of a model were made of, by the id of each; empty where it has none."""
    return {id(module.weight): module.origin for module in quantised_layers(model)}


def sizes_of(model: nn.Module) -> dict[int, int]:
    """How many numbers the packed weights of a model stand for, by the id of each."""
    return {id(module.weight): module.in_features * module.out_features for module in quantised_layers(model)}


def put_originals_back(model: nn.Module) -> None:
    """Has quantised layers hold what stands on the disk again, in place: that is what is saved."""
    for module in quantised_layers(model):
        weight = module.origin.mapped()
        module.weight = nn.Parameter(weight.to(module.weight.device), requires_grad=False)
        module.__class__ = StoredLinear if weight.dtype in HALF else nn.Linear  # type: ignore[assignment]


def held_bits(model: nn.Module) -> HeldBits:
    """The bits that a model's frozen matrices are held in."""
    if quantised := quantised_layers(model):
        return quantised[0].bits
    return 16 if holds_half(model) else 32


def describe_held(model: nn.Module) -> str:
    """The same as a run says it; nothing of a model in single precision.

    >>> describe_held(nn.Linear(2, 2))
    ''
    """
    bits = held_bits(model)
    if bits == 32:
        return ""
    return "frozen weights as they are stored" if bits == 16 else f"frozen weights of the blocks in {KINDS[bits]}"


def quantised_layers(model: nn.Module) -> "list[QuantisedLinear]":
    """The layers of a model that are quantised."""
    return [module for module in model.modules() if isinstance(module, QuantisedLinear)]


@torch.no_grad()
def _quantise(layer: nn.Module, bits: Bits, origin: OnDisk, device: torch.device) -> None:
    weight, held = origin.read(), layer.weight
    assert isinstance(held, Tensor)
    expect_finite(weight, origin.name, str(origin.stored.file))
    # What transformers puts together anew while it reads may have the name and the shape of what is stored.
    if weight.shape != held.shape or not torch.equal(weight[:2].to(held.dtype), held[:2]):
        raise InputError(
            f"base_bits: {origin.stored.file} holds {origin.name} in another order than its model does, {EXPECTED}"
        )
    numbers, state = packed(weight.to(device, held.dtype), bits)
    layer.weight = nn.Parameter(numbers, requires_grad=False)
    layer.__class__ = QuantisedLinear
    layer.origin, layer.state, layer.bits = origin, state, bits  # type: ignore[assignment]


def _find(name: str, model: nn.Module, stored: Mapping[str, StoredTensor]) -> OnDisk:
    short = name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")  # as GPT-2's first folders name them
    for key in (name, short):
        if key in stored and stored[key].type in TYPES:
            return OnDisk(key, stored[key])
    raise InputError(
        f"base_bits: {type(model).__name__} holds {name}, which stands by that name in no file of its base, {EXPECTED}"
    )
