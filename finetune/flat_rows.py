"""Rows of different lengths as one row without filling, and without what comes after the last thing learned.

No position of a causal model sees what follows it, so what stands behind a conversation's last target changes neither
the loss nor a gradient. What is left is laid end to end; attention keeps the conversations apart by their lengths.

Shapes: B rows, T tokens of the longest, N tokens that are left, S conversations that are left.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scratch_models.loop.micro_batches import IGNORED_TARGET


@dataclass(frozen=True)
class FlatRows:
    """Conversations end to end."""

    input_ids: Tensor
    """(1, N)"""
    targets: Tensor
    """(1, N)"""
    position_ids: Tensor
    """(1, N), from 0 in each conversation."""
    lengths: Tensor
    """Tokens of each conversation, (S,)."""


def lay_end_to_end(
    input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None, multiple: int = 1
) -> FlatRows:
    """The conversations of B rows; with `position_ids`, which start anew at 0, a row may hold several.

    With a `multiple`, a last conversation in which nothing is learned fills N up to one: a CPU compiles the products of
    half precision anew for every N that it has not met.

    Where nothing at all is learned, one token is left, so that every process still takes part in its sums.

    >>> rows = lay_end_to_end(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[-100, 7, -100], [9, 4, -100]]))
    >>> rows.input_ids.tolist(), rows.lengths.tolist()
    ([[5, 6, 8, 9]], [2, 2])
    """
    if position_ids is None:
        position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    position_ids = position_ids.expand_as(input_ids).flatten()  # (B T,)
    ids, flat_targets = input_ids.flatten(), targets.flatten()
    conversation = (position_ids == 0).cumsum(0) - 1  # (B T,), whose position it is
    learned = flat_targets != IGNORED_TARGET
    # The place just behind the last target of each conversation, 0 where it has none.
    ends = torch.zeros(int(conversation[-1]) + 1, dtype=torch.int64, device=ids.device)
    ends.scatter_reduce_(0, conversation, torch.where(learned, position_ids + 1, 0), "amax")
    if not bool(learned.any()):
        ends[0] = 1
    kept = (position_ids < ends[conversation]).nonzero().squeeze(1)  # (N,)
    filling = -len(kept) % multiple
    return FlatRows(
        input_ids=F.pad(ids[kept], (0, filling)).unsqueeze(0),
        targets=F.pad(flat_targets[kept], (0, filling), value=IGNORED_TARGET).unsqueeze(0),
        position_ids=F.pad(position_ids[kept], (0, filling)).unsqueeze(0),
        lengths=F.pad(ends[ends > 0], (0, int(filling > 0)), value=filling),
    )
