"""Dropout that draws sixteen bits an element: on a CPU torch's own spends more time than the layers it stands between.

The share dropped is the asked one rounded to a multiple of 2**-16, and what is kept is scaled by exactly that share, so
the expectation is exact. The bits come from numpy's SFC64, seeded for each call from torch's own generator: what sets
or restores torch's seed (a step of the loop, gradient checkpointing) decides these masks too. A mask is drawn in
pieces, each from a stream of its own, by as many threads as torch computes with: their number changes no mask.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

LEVELS = 2**16
PIECE = 2**16
"""Elements that one stream draws."""
LEAST_SHARED_PIECES = 4
"""Of a mask that several threads draw: fewer are drawn before another thread has woken."""


class MaskSource:
    """Masks of one call, in the order in which they are asked for; the same seed draws the same again."""

    def __init__(self, dropped_share: float, seed: int | None = None) -> None:
        self.threshold = round(dropped_share * LEVELS)
        self.seed = int(torch.randint(torch.iinfo(torch.int64).max, ())) if seed is None else seed
        self._pieces = 0

    @property
    def scale(self) -> float:
        """What the kept elements are multiplied by."""
        return LEVELS / (LEVELS - self.threshold)

    def draw(self, shape: torch.Size) -> Tensor:
        """1 where an element is kept, else 0, as bytes: torch multiplies by bytes thrice as fast as by booleans."""
        kept: NDArray[np.bool_] = np.empty(shape.numel(), dtype=np.bool_)
        pieces, first = -(-kept.size // PIECE), self._pieces
        self._pieces += pieces

        def draw_piece(number: int) -> None:
            part = kept[number * PIECE : (number + 1) * PIECE]
            stream = np.random.SFC64(_Words(self.seed, first + number))
            bits = stream.random_raw(-(-part.size // 4)).view(np.uint16)[: part.size]
            np.greater_equal(bits, self.threshold, out=part)

        _for_each(draw_piece, pieces)
        return torch.from_numpy(kept.view(np.uint8)).view(shape)


class _Words(ISeedSequence):
    """A stream's state, given as it is: SFC64 mixes it before it draws, and a `SeedSequence` takes longer than that."""

    def __init__(self, seed: int, stream: int) -> None:
        self.seed, self.stream = seed, stream

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return np.array([self.seed, self.stream, *[0] * (n_words - 2)], dtype=np.uint64).astype(dtype)


def _for_each(act: Callable[[int], None], number: int) -> None:
    if torch.get_num_threads() == 1 or number < LEAST_SHARED_PIECES:
        for one in range(number):
            act(one)
    else:
        list(_pool(torch.get_num_threads()).map(act, range(number)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "masks")


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
