"""Dropout that draws sixteen bits an element: on a CPU torch's own spends more time than the layers it stands between.

The share dropped is the asked one rounded to a multiple of 2**-16, and what is kept is scaled by exactly that share, so
the expectation is exact. The bits come from numpy's SFC64, seeded for each call from torch's own generator: what sets
or restores torch's seed (a step of the loop, gradient checkpointing) decides these masks too.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEVELS = 2**16


class MaskSource:
    """Masks of one call, in the order in which they are asked for; the same seed draws the same again."""

    def __init__(self, dropped_share: float, seed: int | None = None) -> None:
        self.threshold = round(dropped_share * LEVELS)
        self.seed = int(torch.randint(torch.iinfo(torch.int64).max, ())) if seed is None else seed
        self.bits = np.random.SFC64(self.seed)

    @property
    def scale(self) -> float:
        """What the kept elements are multiplied by."""
        return LEVELS / (LEVELS - self.threshold)

    def draw(self, shape: torch.Size) -> Tensor:
        """1 where an element is kept, else 0, as bytes: torch multiplies by bytes thrice as fast as by booleans."""
        size = shape.numel()
        drawn = torch.from_numpy(self.bits.random_raw(-(-size // 4))).view(torch.int16)[:size]
        return (drawn >= self.threshold - LEVELS // 2).view(torch.uint8).view(shape)


def drop(values: Tensor, dropped_share: float) -> Tensor:
    """The values with a share of them set to 0 and the rest scaled up, which keeps their expectation.

    >>> _ = torch.manual_seed(0)
    >>> sorted(set(drop(torch.ones(1000), 0.5).tolist()))
    [0.0, 2.0]
    """
    if round(dropped_share * LEVELS) in (0, LEVELS):
        return torch.nn.functional.dropout(values, dropped_share)
    source = MaskSource(dropped_share)
    dropped: Tensor = _Drop.apply(values, source.draw(values.shape), source.scale)
    return dropped


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return (values * kept).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        return (upstream * kept).mul_(ctx.scale), None, None
