"""Frozen matrices kept in half precision, as they are stored, and multiplied in the type of what they multiply.

A model in float32 takes twice the memory of a base that is stored in bfloat16. A model in bfloat16 rounds every
activation, and what trains too. Here the matrices alone stay in half precision: a lookup gives float32, so that what
flows through the model is float32, and a product casts its matrix while it is made, forward and once more backward.
The casts are exact, so the model says what the same weights in float32 say. Under autocast the product is made in
autocast's type, in which the matrix mostly is already.

Shapes: N tokens, I width of the input, O width of the output.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

HALF = (torch.bfloat16, torch.float16)
CACHED_NUMBERS = 2**19
"""Of a matrix that are cast at once on the way forward, where they are still in the cache when they are multiplied: it
takes a sixth of the time for a token, and half for 512 of them. A matrix in single precision would be among the largest
things in memory."""
NUMBERS_AT_ONCE = 2**20
"""The same on the way back, where the products of the parts are added up, each into what there is."""
NUMBERS_AT_ONCE_ON_A_GPU = 2**25
"""Its kernels are slow to start, and fast with much at once."""


def parts_on(device: torch.device, numbers_at_once: int) -> int:
    """How many numbers of a matrix are made at once on a device, where a CPU makes so many."""
    return numbers_at_once if device.type == "cpu" else NUMBERS_AT_ONCE_ON_A_GPU


class HeldLayer(nn.Module):
    """A linear layer whose frozen matrix is made in the type that it is multiplied in whenever it is needed."""

    turned = False
    """Whether the matrix lies as (I, O), as that of Conv1D does, and not as (O, I)."""

    @property
    def width(self) -> int:
        """O."""
        return int(self.nf if self.turned else self.out_features)  # type: ignore[arg-type]  # of Conv1D, of nn.Linear

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix in a type, in the layer's own layout."""
        raise NotImplementedError

    def columns(self, dtype: torch.dtype, numbers_at_once: int = NUMBERS_AT_ONCE) -> Iterator[Tensor]:
        """The matrix that values are multiplied with from the left, (I, O) in a type, in parts of fewer columns."""
        dense = self.dense(dtype).detach()
        yield dense if self.turned else dense.T

    def forward(self, values: Tensor) -> Tensor:
        """What the linear layer gives: (..., I) -> (..., O), in the type of the values, or autocast's."""
        weight = self._parameters.get("weight")
        if torch.compiler.is_compiling() or (weight is not None and weight.requires_grad):
            dense = self.dense(values.dtype)
            return F.linear(values, dense.T if self.turned else dense, self._parameters.get("bias"))
        flat = values.reshape(-1, values.shape[-1])  # (N, I)
        product: Tensor = _HeldProduct.apply(flat, self._parameters.get("bias"), self)
        return product.view(*values.shape[:-1], -1)


class StoredLinear(HeldLayer, nn.Linear):
    """`nn.Linear` with its matrix in half precision."""

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix, (O, I)."""
        return self.weight.to(dtype)

    def columns(self, dtype: torch.dtype, numbers_at_once: int = NUMBERS_AT_ONCE) -> Iterator[Tensor]:
        """The matrix, (I, O), of which no more is cast at once than is needed."""
        weight = self.weight.detach()
        at_once = max(1, parts_on(weight.device, numbers_at_once) // self.in_features)
        for rows in weight.split(at_once if weight.dtype != dtype else len(weight)):  # what is not cast is not made
            yield rows.to(dtype).T


class StoredConv1D(HeldLayer, Conv1D):
    """transformers' `Conv1D` with its matrix in half precision."""

    turned = True

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix, (I, O)."""
        weight: Tensor = self.weight  # type: ignore[assignment]
        return weight.to(dtype)


class StoredEmbedding(nn.Embedding):
    """A lookup in half precision that gives float32; scaled where its class scales, as Gemma 3's does."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Rows of the ids: (B, T) -> (B, T, D)."""
        rows = F.embedding(input_ids, self.weight, self.padding_idx).float()
        # The buffer was rounded to half precision when the model was read in it; the number beside it was not.
        scale = getattr(self, "scalar_embed_scale", getattr(self, "embed_scale", None))
        return rows if scale is None else rows * torch.as_tensor(scale).to(rows)


class _HeldProduct(torch.autograd.Function):
    """A product that keeps the layer for the backward pass, and not its cast matrix."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bias: Tensor | None, layer: HeldLayer) -> Tensor:
        device = values.device.type
        is_cast = torch.is_autocast_enabled(device)
        ctx.layer, ctx.type, ctx.type_of_bias = layer, values.dtype, None if bias is None else bias.dtype
        ctx.multiplied_in = torch.get_autocast_dtype(device) if is_cast else values.dtype
        with torch.autocast(device, enabled=False):
            values = values.to(ctx.multiplied_in)
            out = multiply(values, layer)  # (N, O)
            return out if bias is None else out.add_(bias.to(out.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        of_bias = upstream.sum(dim=0).to(ctx.type_of_bias) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, of_bias, None
        return multiply_back(upstream.to(ctx.multiplied_in), ctx.layer).to(ctx.type), of_bias, None


def multiply(values: Tensor, layer: HeldLayer) -> Tensor:
    """The values, (N, I), times the layer's matrix, each part's product written where it belongs: (N, O)."""
    out, start = values.new_empty(len(values), layer.width), 0
    for part in layer.columns(values.dtype, CACHED_NUMBERS):  # (I, some of O)
        torch.mm(values, part, out=out[:, start : start + part.shape[1]])
        start += part.shape[1]
        del part  # or it would be held while the next one is made
    return out


def multiply_back(upstream: Tensor, layer: HeldLayer) -> Tensor:
    """A gradient, (N, O), times the layer's matrix turned, the products of its parts added up: (N, I)."""
    of_values, start = upstream, 0
    for part in layer.columns(upstream.dtype):  # (I, some of O)
        of_part = upstream[:, start : start + part.shape[1]]  # (N, some of O)
        of_values = of_values.addmm_(of_part, part.T) if start else of_part @ part.T
        start += part.shape[1]
        del part
    return of_values


@dataclass(frozen=True)
class Held:
    """What of a model's weights is held how, in bytes."""

    stored: int
    """In the type that they are stored in, or quantised."""
    widened: int
    """In float32: vectors, and matrices of kinds that have no product of ours."""


def hold_as_stored(model: nn.Module) -> Held:
    """Has a model that was read in half precision compute in single, its matrices kept as they are, in place.

    Norms, biases and matrices of layers that are neither linear nor a lookup become float32.
    """
    held = [module._parameters["weight"] for module in model.modules() if _holds(module)]
    stored = {id(weight): weight for weight in held if weight is not None}
    widened: dict[int, nn.Parameter] = {}
    for parameter in model.parameters():
        if parameter.dtype in HALF and id(parameter) not in stored:
            parameter.data = parameter.data.float()
            widened[id(parameter)] = parameter
    for buffer in model.buffers():
        if buffer.dtype in HALF:
            buffer.data = buffer.data.float()
    return Held(sum(one.nbytes for one in stored.values()), sum(one.nbytes for one in widened.values()))


@contextmanager
def seen_in_single(model: nn.Module) -> Iterator[None]:
    """Has the matrices that are held look like those of single precision meanwhile, without their numbers.

    peft makes an adapter in the type of the weight under it: a start that is drawn in half precision would be another
    than on the same base in single.
    """
    layers = [module for module in model.modules() if isinstance(module, HeldLayer) and isinstance(module, nn.Linear)]
    weights = [layer.weight for layer in layers]
    try:
        for layer in layers:
            nothing = torch.zeros((), device=layer.weight.device).expand(layer.out_features, layer.in_features)
            layer.weight = nn.Parameter(nothing, requires_grad=False)
        yield
    finally:
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight = weight.requires_grad_(False)


def _holds(module: nn.Module) -> bool:
    """Whether a layer keeps its matrix; its class is exchanged for one that does."""
    weight = module._parameters.get("weight")
    if weight is None or weight.dtype not in HALF:
        return False
    if type(module) is nn.Linear:
        module.__class__ = StoredLinear
    elif type(module) is Conv1D:
        module.__class__ = StoredConv1D
    elif is_lookup(module):
        module.__class__ = StoredEmbedding
    return isinstance(module, HeldLayer | StoredEmbedding)


def is_lookup(module: nn.Module) -> bool:
    """Whether a module looks rows up and does nothing more with them than to scale them, as Gemma 3's does.

    A subclass may hold its rows quantised, or change what it looks up: it is known by what it gives.
    """
    if type(module) in (nn.Embedding, StoredEmbedding):
        return True
    scale = getattr(module, "embed_scale", None)
    if not isinstance(module, nn.Embedding) or scale is None:
        return False
    ids = torch.arange(min(2, module.num_embeddings), device=module.weight.device)
    return torch.equal(module(ids), module.weight[ids] * torch.as_tensor(scale).to(module.weight))


def computes_in(model: nn.Module) -> torch.dtype:
    """The type of what flows through a model: single where its matrices are held, else that of its weights."""
    return torch.float32 if holds_half(model) else next(model.parameters()).dtype


def holds_half(model: nn.Module) -> bool:
    """Whether any matrix of a model is held here."""
    return any(isinstance(module, HeldLayer | StoredEmbedding) for module in model.modules())


def is_linear(module: nn.Module | None) -> bool:
    """Whether a module is a plain linear layer, as `nn.Linear` has it or as it is held here; no subclass of others."""
    return type(module) is nn.Linear or (isinstance(module, HeldLayer) and isinstance(module, nn.Linear))
