"""Linear layers of Hugging Face models, with what LoRA adds to them, as products of few rows."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from finetune.engine.fused_layers import plain_adapter
from scratch_models.decoding.block_decoder import Part
from scratch_models.decoding.row_products import RowProduct
from tokenizer_ext.held_weights.stored_layers import HeldLayer


class NotReadable(Exception):
    """The model computes something that has no parts here."""


@dataclass(frozen=True)
class LoraPart:
    """What LoRA adds to the outputs of a product from `start` to `stop`."""

    start: int
    stop: int
    down: Tensor  # (r, K)
    up: Tensor  # (N, r)
    scaling: float


@dataclass(frozen=True, eq=False)
class Adapter:
    """What one adapter adds to each product of its model, in the order in which the products are read."""

    products: tuple[tuple[LoraPart, ...], ...]


class TogetherAdapters:
    """Several adapters as one that is as wide as all of them: two products, where apart they are two for each."""

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        self.adapters = tuple(adapters)
        products = list(zip(*(adapter.products for adapter in adapters), strict=True))
        self.parts = [_joined([part for parts in product for part in parts]) for product in products]
        self.widths = [tuple(sum(len(part.down) for part in parts) for parts in product) for product in products]

    def for_rows(self, adapters: Sequence[Adapter | None], device: torch.device) -> "TogetherRows":
        """Each row goes through its own of them, or through none."""
        places = [-1 if adapter is None else self.adapters.index(adapter) for adapter in adapters]
        rows, hidden = torch.tensor(places, device=device)[:, None], {}  # (B, 1)
        for widths in set(self.widths):
            owners = [place for place, width in enumerate(widths) for _ in range(width)]
            hidden[widths] = (rows != torch.tensor(owners, device=device))[:, None]  # (B, 1, all r)
        return TogetherRows(self, hidden)


@dataclass(frozen=True)
class TogetherRows:
    """What of adapters that stand together the rows of a batch do not see."""

    together: TogetherAdapters
    hidden: Mapping[tuple[int, ...], Tensor]

    def add_to(self, output: Tensor, rows: Tensor, number: int) -> None:
        """Adds to the outputs of a product: (B, T, N) and (B, T, K)."""
        hidden = self.hidden[self.together.widths[number]]
        for part in self.together.parts[number]:
            low = F.linear(rows, part.down).masked_fill_(hidden, 0)  # (B, T, all r)
            output[..., part.start : part.stop] += F.linear(low, part.up)


Chosen = Sequence[tuple[Adapter, Tensor]] | TogetherRows


class AdapterRows(threading.local):
    """Which rows of the batch that this thread reads go through which adapters, of any model over the same base.

    Rows that are not named go through none. Where `chosen` is None, all go through those of the model itself.
    """

    chosen: Chosen | None = None


@dataclass(frozen=True)
class HeldProduct:
    """Layers that read the same rows, some of whose matrices are made whenever they are multiplied."""

    layers: tuple[nn.Module, ...]

    def __call__(self, rows: Tensor) -> Tensor:
        """(B, T, K) -> (B, T, N)."""
        return torch.cat([layer(rows) for layer in self.layers], dim=-1)


@dataclass(frozen=True)
class ProductWithAdapters:
    """A product, with what LoRA adds to some of its outputs."""

    product: RowProduct | HeldProduct
    number: int
    """Its place among the products of the model."""
    own: tuple[LoraPart, ...]
    """What the model's own adapter adds."""
    adapter_rows: AdapterRows

    def __call__(self, rows: Tensor) -> Tensor:
        """(B, T, K) -> (B, T, N)."""
        output, chosen = self.product(rows), self.adapter_rows.chosen
        if chosen is None:
            for part in self.own:
                output[..., part.start : part.stop] += _added(rows, part)
            return output
        if isinstance(chosen, TogetherRows):
            chosen.add_to(output, rows, self.number)
            return output
        for adapter, which in chosen:
            for part in adapter.products[self.number]:
                output[which, :, part.start : part.stop] += _added(rows[which], part)
        return output


def _added(rows: Tensor, part: LoraPart) -> Tensor:
    return F.linear(F.linear(rows, part.down), part.up) * part.scaling


@dataclass(frozen=True)
class LayerReader:
    """Reads the modules of one model."""

    lay_out: bool
    adapter_rows: AdapterRows
    _own: list[tuple[LoraPart, ...]] = field(default_factory=list)

    @property
    def own(self) -> Adapter:
        """The adapter of the products that were read."""
        return Adapter(tuple(self._own))

    def product(self, *modules: nn.Module) -> Part:
        """The linear layers, which read the same rows, as one product."""
        found = [_linear(module) for module in modules]
        product = self._product([layer for layer, _ in found])
        lora, start = [], 0
        for layer, adapter in found:
            stop = start + (layer.nf if isinstance(layer, Conv1D) else layer.out_features)
            if adapter is not None:
                lora.append(LoraPart(start, stop, *adapter))
            start = stop
        # What is joined is a copy, and would not follow weights that change.
        self._own.append(_joined(lora) if self.lay_out and len(lora) > 1 else tuple(lora))
        return ProductWithAdapters(product, len(self._own) - 1, self._own[-1], self.adapter_rows)

    def _product(self, layers: Sequence[Any]) -> RowProduct | HeldProduct:
        if any(isinstance(layer, HeldLayer) for layer in layers):
            return HeldProduct(tuple(layers))
        weights = [layer.weight.t() if isinstance(layer, Conv1D) else layer.weight for layer in layers]  # (N, K) each
        return RowProduct([one.detach() for one in weights], [layer.bias for layer in layers], lay_out=self.lay_out)


def _linear(module: nn.Module) -> tuple[Any, tuple[Tensor, Tensor, float] | None]:
    """A layer that is a matrix and a bias, and its adapter."""
    adapter = None
    layer: Any = module
    if isinstance(layer, LoraLinear):
        adapter = _added_by_adapter(layer)
        layer = layer.base_layer
    if (type(layer) not in (nn.Linear, Conv1D) and not isinstance(layer, HeldLayer)) or is_watched(layer):
        raise NotReadable(f"{type(layer).__name__} is no plain linear layer")
    return layer, adapter


def _joined(parts: Sequence[LoraPart]) -> tuple[LoraPart, ...]:
    """The same as two products instead of two for each part: what each part goes up by stands in its own columns."""
    if not parts:
        return ()
    start, stop = min(part.start for part in parts), max(part.stop for part in parts)
    down = torch.cat([part.down for part in parts])  # (all r, K)
    up, column = down.new_zeros(stop - start, len(down)), 0  # (N, all r)
    for part in parts:
        width = len(part.down)
        up[part.start - start : part.stop - start, column : column + width] = part.up * part.scaling
        column += width
    return (LoraPart(start, stop, down, up, 1.0),)


def _added_by_adapter(layer: LoraLinear) -> tuple[Tensor, Tensor, float] | None:
    """The two matrices and the scaling of the one adapter that adds nothing but its product; None where none adds."""
    if layer.merged and layer.disable_adapters:
        raise NotReadable("an adapter that is merged and switched off")
    if layer.merged or layer.disable_adapters or not any(name in layer.lora_A for name in layer.active_adapters):
        return None
    name = plain_adapter(layer)
    if name is None:
        raise NotReadable("an adapter that adds more than its product")
    return layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach(), layer.scaling[name]


def is_watched(module: nn.Module) -> bool:
    """Whether something listens to the module or acts around it."""
    return bool(module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook"))
