"""Low-rank adaptation (LoRA): a frozen weight W, and beside it a product of two thin matrices, which is learned.

    W x + b + (alpha / rank) * B (A x)        A is (rank, inputs), B is (outputs, rank)

B starts as zeros, so that the model is at first what it was. The names `lora_A` and `lora_B` are those of peft, whose
outputs and gradients are the same.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs import InputError


class LowRankLinear(nn.Module):
    """A frozen linear layer with a low-rank update that trains."""

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.lora_A = nn.Parameter(frozen.weight.new_empty(rank, frozen.in_features))
        self.lora_B = nn.Parameter(frozen.weight.new_zeros(frozen.out_features, rank))
        self.scaling = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """The frozen layer's output and the update's: (..., inputs) -> (..., outputs)."""
        updated: Tensor = self.frozen(inputs) + self.scaling * (inputs @ self.lora_A.T @ self.lora_B.T)
        return updated

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that computes the same, with the update added to the weight in place."""
        self.frozen.weight += self.scaling * (self.lora_B @ self.lora_A)  # (outputs, inputs)
        return self.frozen


def attach_low_rank(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> None:
    """Freezes the model and gives each linear layer whose name ends in a target, as `attention.projection`, an update.

    Raises:
        InputError: the rank is below 1, no linear layer has such a name, or another layer reads the same weight.
    """
    layers = _linear_layers(model, targets, rank)
    model.requires_grad_(False)
    for name, layer in layers.items():
        model.set_submodule(name, LowRankLinear(layer, rank, alpha))


def merge_low_rank(model: nn.Module) -> None:
    """Adds every update to its weight: the model has its first layers again, and its new outputs."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LowRankLinear):
            model.set_submodule(name, module.merged())


def _linear_layers(model: nn.Module, targets: Sequence[str], rank: int) -> dict[str, nn.Linear]:
    if rank < 1:
        raise InputError(f"rank is {rank}, expected at least 1")
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    found = {}
    for target in targets:
        named = {name: layer for name, layer in linear.items() if f".{name}".endswith(f".{target}")}
        if not named:
            known = sorted({".".join(name.split(".")[-2:]) for name in linear})
            raise InputError(f"{target}: no linear layer is called so, expected one of {', '.join(known)}")
        found.update(named)
    weights = [id(weight) for _, weight in model.named_parameters(remove_duplicate=False)]
    for name, layer in found.items():
        if weights.count(id(layer.weight)) > 1:
            raise InputError(f"{name}: another layer reads the same weight, expected one that is not tied")
    return found
