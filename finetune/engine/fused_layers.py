"""Layers of a Hugging Face model exchanged for fused ones that compute the same, up to rounding.

What is exchanged: linear layers whose weight is frozen, with plain LoRA or without; dropout on a CPU; the activations
that transformers writes out in many steps of which torch has one. All else (DoRA, quantised layers, adapters that
are switched off, merged or several at once) goes the way it always went.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from finetune.engine.dropout import drop
from finetune.engine.fused_linear import FrozenProduct, multiply, multiply_with_adapter
from tokenizer_ext.held_weights.stored_layers import HeldLayer


class SwappedForwards:
    """What is exchanged now."""

    def __init__(self) -> None:
        self._modules: dict[str, list[nn.Module]] = {}

    def swap(self, module: nn.Module, forward: Callable[..., Any], kind: str) -> None:
        """Lets calls of the module go to `forward`; `kind` is what it is counted under."""
        assert "forward" not in module.__dict__, "a forward that is swapped already"
        module.__dict__["forward"] = forward  # not by setattr, which nn.Module watches
        self._modules.setdefault(kind, []).append(module)

    def counts(self) -> dict[str, int]:
        """How many modules of each kind are exchanged."""
        return {kind: len(modules) for kind, modules in self._modules.items()}

    def undo(self) -> None:
        """Every module computes by its own class again."""
        for modules in self._modules.values():
            for module in modules:
                module.__dict__.pop("forward", None)
        self._modules.clear()


ONE_KERNEL: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    NewGELUActivation: lambda values: F.gelu(values, approximate="tanh"),
}
"""Activations in many steps -> the same in one."""


def swap_activations(model: nn.Module, swapped: SwappedForwards) -> None:
    """Activations run as one kernel."""
    for module in model.modules():
        if type(module) in ONE_KERNEL:
            swapped.swap(module, ONE_KERNEL[type(module)], "activations")


def swap_dropout(model: nn.Module, swapped: SwappedForwards) -> None:
    """Dropout draws its masks faster."""
    for module in model.modules():
        if type(module) is nn.Dropout and module.p and not module.inplace:
            swapped.swap(module, _drop_in_training(module), "dropout")


def swap_frozen_linears(model: nn.Module, dtype: torch.dtype, swapped: SwappedForwards) -> None:
    """Frozen linear layers of the blocks, and LoRA on them, become one step of the graph, in the given type."""
    for module in list(_of_blocks(model)):
        base = module.base_layer if type(module) is LoraLinear else None
        if isinstance(module, LoraLinear) and isinstance(base, nn.Module) and _is_frozen_linear(base):
            frozen = FrozenProduct(base, dtype)
            swapped.swap(module, _lora(module, frozen), "linear layers with LoRA")
            swapped.swap(base, _frozen_linear(base, frozen), "frozen linear layers")
        elif _is_frozen_linear(module) and "forward" not in module.__dict__:
            swapped.swap(module, _frozen_linear(module, FrozenProduct(module, dtype)), "frozen linear layers")


def _of_blocks(model: nn.Module) -> Iterator[nn.Module]:
    for stack in model.modules():
        # peft keeps adapters in dictionaries and lists too, but of theirs nothing is frozen.
        if isinstance(stack, nn.ModuleList) and not isinstance(stack, nn.ParameterList):
            yield from stack.modules()


def _is_frozen_linear(module: nn.Module) -> bool:
    own = [one for one in (module._parameters.get("weight"), module._parameters.get("bias")) if one is not None]
    is_plain = type(module) in (nn.Linear, Conv1D) or isinstance(module, HeldLayer)
    return is_plain and not any(one.requires_grad for one in own)


def _lora(layer: LoraLinear, frozen: FrozenProduct) -> Callable[..., Tensor]:
    def forward(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if layer.merged and not layer.disable_adapters:  # peft merges without a trace that a copy could follow
            merged: Tensor = type(layer.base_layer).forward(layer.base_layer, values)
            return merged
        name = plain_adapter(layer)
        if name is None or args or kwargs:
            output: Tensor = type(layer).forward(layer, values, *args, **kwargs)
            return output
        dropout = layer.lora_dropout[name]
        drops = isinstance(dropout, nn.Dropout) and dropout.p and layer.training
        weights = layer.lora_A[name].weight, layer.lora_B[name].weight
        product = multiply_with_adapter(
            values, dropout(values) if drops else None, frozen, *weights, layer.scaling[name]
        )
        return product if layer.training else product.to(values.dtype)

    return forward


def plain_adapter(layer: LoraLinear) -> str | None:
    """The one adapter that adds nothing but its product, or None where there is more to it or nothing."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or len(names) != 1 or names[0] in layer.lora_variant:
        return None
    return None if layer.lora_bias[names[0]] else names[0]


def _frozen_linear(layer: nn.Module, frozen: FrozenProduct) -> Callable[[Tensor], Tensor]:
    def forward(values: Tensor) -> Tensor:
        product = multiply(values, frozen)
        return product if layer.training else product.to(values.dtype)

    return forward


def _drop_in_training(layer: nn.Dropout) -> Callable[[Tensor], Tensor]:
    return lambda values: drop(values, layer.p) if layer.training else values
