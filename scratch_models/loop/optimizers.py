"""Optimizers and the course of their learning rate."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from configs import InputError
from scratch_models.loop.loop_settings import LoopSettings


def make_optimizers(
    model: nn.Module, settings: LoopSettings, *, muon_learning_rate: float | None = None
) -> list[Optimizer]:
    """AdamW on everything that trains; with `muon_learning_rate`, Muon on the matrices inside the blocks instead.

    Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. Embeddings and head stay with AdamW, as there.

    Raises:
        InputError: every parameter is frozen, or Muon is asked for and there is no matrix inside a block.

    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise InputError("nothing to train: every parameter is frozen")
    optimizers: list[Optimizer] = []
    if muon_learning_rate is not None:
        hidden = [name for name, parameter in named.items() if parameter.ndim == 2 and ".blocks." in f".{name}"]
        if not hidden:
            raise InputError("muon_learning_rate: the model has no blocks for Muon to train, leave it out")
        optimizers.append(torch.optim.Muon([named.pop(name) for name in hidden], muon_learning_rate, weight_decay=0.0))
    matrices = [parameter for parameter in named.values() if parameter.ndim >= 2]
    vectors = [parameter for parameter in named.values() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
        {"params": vectors, "lr": settings.learning_rate, "weight_decay": 0.0},
    ]
    return [*optimizers, adamw(groups)]


def adamw(groups: Sequence[dict[str, Any]]) -> Optimizer:
    """AdamW on the groups that hold a parameter, in one kernel; each group's `lr` is its peak."""
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def learning_rate_factor(step: int, settings: LoopSettings) -> float:
    """The share of its peak that the learning rate has in a step, the first step being 0.

    >>> settings = LoopSettings(max_steps=100, learning_rate=1e-3, warmup_steps=10, schedule="cosine")
    >>> [round(learning_rate_factor(step, settings), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(settings.max_steps - settings.warmup_steps, 1)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))
