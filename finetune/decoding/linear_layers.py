"""Linear layers of Hugging Face models, with what LoRA adds to them, as products of few rows."""

import threading
from dataclasses import dataclass, field
from typing import Any

from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from finetune.engine.fused_layers import plain_adapter
from scratch_models.decoding.block_decoder import Part
from scratch_models.decoding.row_products import RowProduct


class NotReadable(Exception):
    """The model computes something that has no parts here."""


class AdapterRows(threading.local):
    """Which rows of the batch that this thread reads go through the adapters; all of them where `rows` is None."""

    rows: Tensor | None = None


@dataclass(frozen=True)
class _LoraPart:
    start: int
    stop: int
    down: Tensor  # (r, K)
    up: Tensor  # (N, r)
    scaling: float


@dataclass(frozen=True)
class ProductWithAdapters:
    """A product, with what LoRA adds to some of its outputs."""

    product: RowProduct
    lora: tuple[_LoraPart, ...]
    adapter_rows: AdapterRows = field(default_factory=AdapterRows)

    def __call__(self, rows: Tensor) -> Tensor:
        """(B, T, K) -> (B, T, N)."""
        output = self.product(rows)
        chosen = self.adapter_rows.rows
        read = rows if chosen is None else rows[chosen]
        for part in self.lora:
            added = F.linear(F.linear(read, part.down), part.up) * part.scaling
            if chosen is None:
                output[..., part.start : part.stop] += added
            else:
                output[chosen, :, part.start : part.stop] += added
        return output


@dataclass(frozen=True)
class LayerReader:
    """Reads the modules of one model."""

    lay_out: bool
    adapter_rows: AdapterRows

    def product(self, *modules: nn.Module) -> Part:
        """The linear layers, which read the same rows, as one product."""
        found = [self._linear(module) for module in modules]
        product = RowProduct([weight for weight, _, _ in found], [bias for _, bias, _ in found], lay_out=self.lay_out)
        lora, start = [], 0
        for weight, _, adapter in found:
            if adapter is not None:
                lora.append(_LoraPart(start, start + len(weight), *adapter))
            start += len(weight)
        return ProductWithAdapters(product, tuple(lora), self.adapter_rows) if lora else product

    def _linear(self, module: nn.Module) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor, float] | None]:
        """Weight (N, K), bias and adapter of a layer."""
        adapter = None
        layer: Any = module
        if isinstance(layer, LoraLinear):
            adapter = _added_by_adapter(layer)
            layer = layer.base_layer
        if type(layer) not in (nn.Linear, Conv1D) or is_watched(layer):
            raise NotReadable(f"{type(layer).__name__} is no plain linear layer")
        weight = layer.weight if isinstance(layer, nn.Linear) else layer.weight.t()
        return weight.detach(), layer.bias, adapter


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
