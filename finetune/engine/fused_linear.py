"""Linear layers whose own weight is frozen, with or without a LoRA adapter, as one step each of the graph.

peft adds an adapter in four steps, of which each makes a tensor as large as the layer's output: product, adapter's
product, its scaling, the sum. Here the adapter is added into the layer's output where it stands, and the backward pass
makes the gradient of the input, A and B only. In bfloat16 a frozen weight in single precision is cast once, not at
every use; one that is held in half precision or quantised is cast at every use, so that no copy of it stays.

The arithmetic is peft's up to rounding: y = x W + b + s (x A^T) B^T.

Shapes: N tokens, I width of the input, O width of the output, R rank.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from tokenizer_ext.held_weights.quantised_layers import QuantisedLinear
from tokenizer_ext.held_weights.stored_layers import HeldLayer, multiply_back
from tokenizer_ext.held_weights.stored_layers import multiply as held_product


class FrozenProduct:
    """The frozen part of a layer: its weight, (I, O), and bias in the type that it is multiplied in.

    A weight that is held in half precision is cast at every use, whole: the product is that of single precision to the
    bit. A quantised one is made part by part while it is multiplied.
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer, dtype
        self.parts = self._cast()

    def multiply(self, values: Tensor) -> Tensor:
        """Values in that type, (N, I), times the weight: (N, O)."""
        layer = self._made_in_parts()
        return values @ self._weight() if layer is None else held_product(values, layer)

    def multiply_back(self, upstream: Tensor) -> Tensor:
        """A gradient in that type, (N, O), times the weight turned: (N, I)."""
        layer = self._made_in_parts()
        return upstream @ self._weight().T if layer is None else multiply_back(upstream, layer)

    @property
    def bias(self) -> Tensor | None:
        """It as it is now."""
        return self._now()[1]

    def _made_in_parts(self) -> QuantisedLinear | None:
        is_so = isinstance(self.layer, QuantisedLinear) and not torch.compiler.is_compiling()
        return cast(QuantisedLinear, self.layer) if is_so else None

    def _weight(self) -> Tensor:
        weight, layer = self._now()[0], self.layer
        if not isinstance(layer, HeldLayer):
            return weight
        dense = layer.dense(self.dtype).detach()
        return dense if layer.turned else dense.T

    def _now(self) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Both as they are now, cast anew where the layer has others; of a held layer what it holds."""
        if self.parts[2] != _version(self.layer):
            self.parts = self._cast()
        return self.parts

    def _cast(self) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        bias, weight = self.layer.bias, _weight(self.layer).detach()
        assert bias is None or isinstance(bias, Tensor)
        if not isinstance(self.layer, HeldLayer):
            weight = (weight if isinstance(self.layer, Conv1D) else weight.T).to(self.dtype)
        return weight, None if bias is None else bias.detach().to(self.dtype), _version(self.layer)


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _version(layer: nn.Module) -> tuple[int, int]:
    return _weight(layer).data_ptr(), _weight(layer)._version


def multiply(values: Tensor, frozen: FrozenProduct) -> Tensor:
    """A frozen layer's output: (..., I) -> (..., O)."""
    flat = values.reshape(-1, values.shape[-1])  # (N, I)
    product: Tensor = _Product.apply(flat, None, frozen, None, None, 1.0)
    return product.view(*values.shape[:-1], -1)


def multiply_with_adapter(
    values: Tensor, adapter_values: Tensor | None, frozen: FrozenProduct, down: Tensor, up: Tensor, scaling: float
) -> Tensor:
    """A frozen layer's output with its adapter's: (..., I) -> (..., O).

    Args:
        values: What the layer reads.
        adapter_values: What the adapter reads, where that is not the same: after LoRA's dropout.
        frozen: The layer.
        down: The adapter's A, (R, I).
        up: Its B, (O, R).
        scaling: What their product is multiplied by.

    """
    flat = values.reshape(-1, values.shape[-1])  # (N, I)
    adapter_flat = None if adapter_values is None else adapter_values.reshape(flat.shape)
    product: Tensor = _Product.apply(flat, adapter_flat, frozen, down, up, scaling)
    return product.view(*values.shape[:-1], -1)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        adapter_values: Tensor | None,
        frozen: FrozenProduct,
        down: Tensor | None,
        up: Tensor | None,
        scaling: float,
    ) -> Tensor:
        ctx.types = [None if one is None else one.dtype for one in (values, adapter_values, down, up)]
        ctx.scaling, ctx.frozen = scaling, frozen
        dtype, bias = frozen.dtype, frozen.bias
        with torch.autocast(values.device.type, enabled=False):
            values = values.to(dtype)
            out = frozen.multiply(values)  # (N, O)
            if down is None or up is None:
                return out if bias is None else out.add_(bias)
            read = values if adapter_values is None else adapter_values.to(dtype)
            down, up = down.to(dtype), up.to(dtype).T.contiguous()  # (R, I), (R, O)
            narrow = (read @ down.T).mul_(scaling)  # (N, R)
            if bias is None:
                out.addmm_(narrow, up)
            else:  # The bias comes along as one rank more: added by itself it would cost another pass over all.
                out.addmm_(F.pad(narrow, (0, 1), value=1.0), torch.cat([up, bias.unsqueeze(0)]))
        ctx.is_apart = adapter_values is not None
        ctx.save_for_backward(read, narrow, down, up)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        of_adapter = ctx.saved_tensors
        of_values = ctx.frozen.multiply_back(upstream) if ctx.needs_input_grad[0] else None  # (N, I)
        if not of_adapter:
            return _as(of_values, ctx.types[0]), None, None, None, None, None
        read, narrow, down, up = of_adapter
        of_narrow = (upstream @ up.T).mul_(ctx.scaling)  # (N, R)
        of_down = of_narrow.T @ read  # (R, I)
        of_up = (narrow.T @ upstream).T  # (O, R); this order reads what is wide row by row
        of_read = None
        if ctx.is_apart:
            of_read = of_narrow @ down if ctx.needs_input_grad[1] else None
        elif of_values is not None:
            of_values.addmm_(of_narrow, down)
        gradients = (of_values, of_read, of_down, of_up)
        cast = [_as(gradient, dtype) for gradient, dtype in zip(gradients, ctx.types, strict=True)]
        return cast[0], cast[1], None, cast[2], cast[3], None


def _as(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if gradient is None else gradient.to(dtype)
