"""Which conversations of packed rows go on from a prefix that an earlier one brings along.

transformers asks for a mask without saying at which positions conversations begin: what computes packed rows says so
here, and what makes their mask asks. Each context of execution has its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_positions: ContextVar[Tensor | None] = ContextVar("positions of a packed micro-batch", default=None)


@contextmanager
def packed_at(position_ids: Tensor | None) -> Iterator[None]:
    """While a model computes packed rows: transformers' mask says where conversations begin, not at which position."""
    token = _positions.set(position_ids)
    try:
        yield
    finally:
        _positions.reset(token)


def prefixes_at(starts: Tensor) -> list[int]:
    """The position that each conversation begins at: as many tokens it shares with one before it."""
    positions = _positions.get()
    if positions is None:
        return [0] * (len(starts) - 1)
    found: list[int] = positions.flatten()[starts[:-1]].tolist()
    return found
