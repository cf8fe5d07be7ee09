"""How conversations lie in a micro-batch: end to end in one row, a prefix that they share once, or a row of each.

Shapes: B rows of a micro-batch, T tokens of its longest row.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from finetune.chat.rendered import RenderedConversation
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch

LARGEST_FILLING_SHARE = 0.15
SHORTEST_SHARED_PREFIX = 8  # tokens; fewer are not worth another layout

Row = tuple[list[int], list[int]] | tuple[list[int], list[int], list[float]]
"""Ids read and targets, of the same length: the target of a place is the id that follows it.

Where some target counts less than 1 in the loss, there follows how much each counts.
"""


def to_row(rendered: RenderedConversation) -> Row:
    """Ids and targets of a conversation up to the last thing learned: what follows it changes no loss and no gradient.

    >>> to_row(RenderedConversation([5, 6, 7, 8], [False, False, True, False]))
    ([5, 6], [-100, 7])
    """
    learned = np.flatnonzero(rendered.supervised[1:])
    read = int(learned[-1]) + 1 if len(learned) else len(rendered.input_ids) - 1
    following = zip(rendered.input_ids[1 : read + 1], rendered.supervised[1 : read + 1], strict=True)
    targets = [id_ if learned else IGNORED_TARGET for id_, learned in following]
    if rendered.weights is None:
        return rendered.input_ids[:read], targets
    return rendered.input_ids[:read], targets, rendered.weights[1 : read + 1]


def join_by_tokens(rows: Sequence[Row], tokens: int, *, packed: bool, shares_prefix: bool = False) -> list[MicroBatch]:
    """Rows, which come sorted by length, as micro-batches of at most so many tokens each."""
    if packed:
        groups = pack_by_tokens(rows, tokens, shared_prefix(rows) if shares_prefix else 0)
    else:
        groups = cut_by_tokens(rows, tokens)
    return [join(group, packed=packed, shares_prefix=shares_prefix) for group in groups]


def join(rows: Sequence[Row], *, packed: bool, shares_prefix: bool = False) -> MicroBatch:
    """Rows as one micro-batch."""
    if not packed:
        return pad(rows)
    return pack(rows, shared_prefix(rows) if shares_prefix else 0)


def shared_prefix(rows: Sequence[Row]) -> int:
    """How many tokens all rows begin with, nothing learned on the way; each has one more at least. 0 where few.

    >>> opening = [5, 6, 7, 8, 9, 10, 11, 12]
    >>> shared_prefix([(opening + [3], [-100] * 8 + [4]), (opening + [4, 5], [-100] * 9 + [6])])
    8
    """
    first, prefix = rows[0][0], len(rows[0][0]) - 1
    for ids, targets, *_ in rows:
        prefix = min(prefix, len(ids) - 1)
        same = (place for place in range(prefix) if ids[place] != first[place] or targets[place] != IGNORED_TARGET)
        prefix = next(same, prefix)
    return prefix if len(rows) > 1 and prefix >= SHORTEST_SHARED_PREFIX else 0


def cut_by_tokens(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    """Groups of rows, which come sorted by length, each of at most so many tokens and little filling once filled up.

    A row longer than the limit stands alone.

    >>> [len(group) for group in cut_by_tokens([([1] * length, [1] * length) for length in (5, 6, 6, 9)], tokens=100)]
    [3, 1]
    """
    groups: list[list[Row]] = []
    in_group = 0
    for row in rows:
        in_group += len(row[0])
        filled_up = len(row[0]) * (len(groups[-1]) + 1) if groups else 0
        if groups and filled_up <= tokens and filled_up - in_group <= LARGEST_FILLING_SHARE * filled_up:
            groups[-1].append(row)
        else:
            groups.append([row])
            in_group = len(row[0])
    return groups


def cut_evenly(rows: Sequence[Row], parts: int) -> list[Sequence[Row]]:
    """So many groups of as many rows each, up to one; fewer where there are fewer rows.

    >>> [len(group) for group in cut_evenly([([1], [1])] * 7, 3)]
    [3, 2, 2]
    """
    parts = min(parts, len(rows))
    each, more = divmod(len(rows), parts)
    starts = [part * each + min(part, more) for part in range(parts + 1)]
    return [rows[start:end] for start, end in pairwise(starts)]


def pack_by_tokens(rows: Sequence[Row], tokens: int, prefix: int = 0) -> list[list[Row]]:
    """Groups of at most so many tokens, few of them: the longest row first, each into the first group with room.

    A `prefix` of all rows stands once in each group.

    First-fit decreasing takes at most 11/9 of the fewest groups possible, and one more (Johnson 1973). A row longer
    than the limit stands alone.

    >>> rows = [([1] * length, [1] * length) for length in (2, 3, 5, 6, 12)]
    >>> [[len(ids) for ids, _ in group] for group in pack_by_tokens(rows, tokens=8)]
    [[12], [6, 2], [5, 3]]
    """
    sizes = [len(row[0]) - prefix for row in rows]
    return [[rows[place] for place in places] for places in first_fit(sizes, max(tokens - prefix, 1))]


def first_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Places of sizes, the largest first, each in the first group that has room for it.

    >>> first_fit([2, 3, 5, 6, 12], room=8)
    [[4], [3, 0], [2, 1]]
    """
    groups: list[list[int]] = []
    left: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        fitting = next((number for number, free in enumerate(left) if free >= sizes[place]), len(groups))
        if fitting == len(groups):
            groups.append([])
            left.append(room)
        groups[fitting].append(place)
        left[fitting] -= sizes[place]
    return groups


def pad(rows: Sequence[Row]) -> MicroBatch:
    """Rows filled up on the right: `input_ids` with 0, `targets` with -100, each (B, T).

    Where some target counts less than 1, the `weights` of all, float32 (B, T), with 0 for the filling.
    """
    T = max(len(row[0]) for row in rows)
    input_ids = [row[0] + [0] * (T - len(row[0])) for row in rows]
    targets = [row[1] + [IGNORED_TARGET] * (T - len(row[1])) for row in rows]
    padded = {"input_ids": torch.tensor(input_ids), "targets": torch.tensor(targets)}
    if weights := _weights(rows):
        padded["weights"] = torch.tensor([own + [0.0] * (T - len(own)) for own in weights], dtype=torch.float32)
    return padded


def pack(rows: Sequence[Row], prefix: int = 0) -> MicroBatch:
    """Rows one behind the other: `input_ids`, `targets` and `position_ids`, each (1, T), and `weights` as with `pad`.

    A `prefix` that they share is brought by the first of them; the positions of the others go on from there.

    >>> pack([([5, 6], [-100, 7]), ([8], [9])])["position_ids"]
    tensor([[0, 1, 0]])
    >>> pack([([5, 6, 7], [-100, -100, 8]), ([5, 6, 9], [-100, -100, 4])], prefix=2)["position_ids"]
    tensor([[0, 1, 2, 2]])
    """
    begins = [0, *[prefix] * (len(rows) - 1)]
    input_ids = [id_ for row, begin in zip(rows, begins, strict=True) for id_ in row[0][begin:]]
    targets = [target for row, begin in zip(rows, begins, strict=True) for target in row[1][begin:]]
    positions = [position for row, begin in zip(rows, begins, strict=True) for position in range(begin, len(row[0]))]
    packed = {
        "input_ids": torch.tensor([input_ids]),
        "targets": torch.tensor([targets]),
        "position_ids": torch.tensor([positions]),
    }
    if weights := _weights(rows):
        flat = [weight for own, begin in zip(weights, begins, strict=True) for weight in own[begin:]]
        packed["weights"] = torch.tensor([flat], dtype=torch.float32)
    return packed


def _weights(rows: Sequence[Row]) -> list[list[float]]:
    """How much each target of each row counts; nothing where each that is learned counts 1."""
    if all(len(row) == 2 for row in rows):
        return []
    return [row[2] if len(row) == 3 else [float(target != IGNORED_TARGET) for target in row[1]] for row in rows]


def conversation_numbers(targets: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Which conversation of a micro-batch each place belongs to, from 0 on: (B, T), and packed rows' -> (B, T).

    >>> conversation_numbers(torch.zeros(1, 3), torch.tensor([[0, 1, 0]]))
    tensor([[0, 0, 1]])
    """
    if position_ids is None:
        return torch.arange(len(targets), device=targets.device).unsqueeze(1).expand_as(targets)
    return ((position_ids == 0).flatten().cumsum(0) - 1).view_as(targets)
