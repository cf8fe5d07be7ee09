"""RMSNorm and rotary positions of Llama-like families exchanged for single steps of the graph.

A layer is recognised by its class in transformers, never by what it is called: what another class of the same name
would compute is not known. In single precision on a CPU, where this was measured faster; all else goes its own way.
"""

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from finetune.engine.fused_layers import SwappedForwards
from finetune.engine.llama_functions import rms_norm, rotate

FAMILIES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3": "Gemma3",
    "smollm3": "SmolLM3",
}
"""Folders of transformers' models -> what the names of their classes begin with. SmolLM and SmolLM2 are Llamas."""
ADD_ONE = {"GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm"}
"""Norms that multiply by 1 + weight."""
ROTATION = "apply_rotary_pos_emb"


def swap_llama_layers(model: nn.Module, swapped: SwappedForwards) -> None:
    """Norms and rotations of the known families run as one step each."""
    for module in model.modules():
        kind, make = MAKERS.get(part_of_family(type(module)), ("", None))
        forward = None if make is None else make(module)
        if forward is not None:
            swapped.swap(module, forward, kind)


def part_of_family(layer: type[nn.Module]) -> str | None:
    """What a class is in its family: RMSNorm, MLP, Attention and others; None where it is of no known family."""
    for folder, name in FAMILIES.items():
        if layer.__module__ == f"transformers.models.{folder}.modeling_{folder}" and layer.__name__.startswith(name):
            return layer.__name__.removeprefix(name)
    return None


def _norm(layer: Any) -> Callable[[Tensor], Tensor]:
    adds_one = type(layer).__name__ in ADD_ONE
    epsilon = layer.eps if adds_one else layer.variance_epsilon

    def forward(values: Tensor) -> Tensor:
        if values.dtype != torch.float32:  # the families round half precision each in its own place
            own: Tensor = type(layer).forward(layer, values)
            return own
        weight = layer.weight.float()
        weight = 1.0 + weight if adds_one else weight
        if values.dim() == 4 and not values.is_contiguous():  # heads before tokens, of values that lie token by token
            return rms_norm(values.transpose(1, 2), weight, epsilon).transpose(1, 2)
        return rms_norm(values, weight, epsilon)

    return forward


def _rotated(layer: nn.Module) -> Callable[..., Any] | None:
    forward = _with_our_rotation(type(layer))
    return None if forward is None else MethodType(forward, layer)


def _with_our_rotation(layer: type[nn.Module]) -> FunctionType | None:
    """The class's own forward, in which the name of the rotation stands for ours; None where it does not call it."""
    own = layer.forward
    if not isinstance(own, FunctionType) or ROTATION not in own.__code__.co_names:
        return None
    names = {**own.__globals__, ROTATION: rotate}
    forward = FunctionType(own.__code__, names, own.__name__, own.__defaults__, own.__closure__)
    forward.__kwdefaults__ = own.__kwdefaults__
    return forward


MAKERS: dict[str | None, tuple[str, Callable[[Any], Callable[..., Any] | None]]] = {
    "RMSNorm": ("norms", _norm),
    "Attention": ("rotary positions", _rotated),
}
"""Parts of a family -> what they are counted under, and what makes their forward."""
