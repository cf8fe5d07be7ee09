"""In what order rows are read: each once an epoch, or of several sets as often as their weights say; or some drawn.

With a mixture an epoch still is as many rows as there are. Each set has a permutation of its own after another, so that
a set that is read more often than once in an epoch is read evenly; the sets lie spread over one another by their
shares, so that every step has of each what it should, up to one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from finetune.conversations.messages import Conversation
from finetune.conversations.splits import ConversationSplits, Drawn
from finetune.files.stored_items import ChosenItems, StoredItems
from finetune.files.weighted_sets import Mixture
from scratch_models.loop.seeds import mixed_seed, seeded_generator

RENDERED_WHOLE = 20_000
"""Conversations up to which all are rendered, however few a run reads."""


@dataclass(frozen=True)
class ReadingOrder:
    """The order of N rows in every epoch, a function of the seed and the epoch alone."""

    rows: int
    seed: int
    mixture: Mixture | None = None
    share: float = 1.0
    """The part of all rows that these are; an epoch of all is so much longer, and ends before it reads one twice."""

    def of_epoch(self, epoch: int) -> np.ndarray:
        """The numbers of the rows that an epoch reads, one behind the other, (N,).

        >>> sorted(ReadingOrder(3, seed=0).of_epoch(0).tolist())
        [0, 1, 2]
        >>> from finetune.files.weighted_sets import WeightedSet
        >>> mixture = Mixture.of([WeightedSet("a", 3.0), WeightedSet("b", 1.0)], np.array([0, 1, 0, 1]))
        >>> int((mixture.set_of[ReadingOrder(4, seed=0, mixture=mixture).of_epoch(0)] == 0).sum())
        3
        """
        if self.mixture is None:
            return torch.randperm(self.rows, generator=seeded_generator(self.seed, epoch)).numpy()
        parts, times = list[np.ndarray](), list[np.ndarray]()
        for number, (first, end) in enumerate(zip(self._read_before(epoch), self._read_before(epoch + 1), strict=True)):
            parts.append(self._of_set(number, first, end))
            times.append((np.arange(end - first) + 0.5) / max(end - first, 1))
        return np.concatenate(parts)[np.argsort(np.concatenate(times), kind="stable")]

    def _read_before(self, epoch: int) -> list[int]:
        """How many rows of each set are read before an epoch: its share of all, rounded so that the sum is right."""
        assert self.mixture is not None
        ends = np.rint(np.cumsum(self.mixture.shares) * (epoch * self.rows)).astype(np.int64)
        return np.diff(ends, prepend=0).tolist()

    def _of_set(self, number: int, first: int, end: int) -> np.ndarray:
        """The rows that are read of a set from the `first` time to the last before `end`."""
        assert self.mixture is not None
        own = np.flatnonzero(self.mixture.set_of == number)
        cycles = range(first // len(own), -(-end // len(own)))
        orders = [torch.randperm(len(own), generator=seeded_generator(self.seed, number, cycle)) for cycle in cycles]
        read = torch.cat([*orders, torch.zeros(0, dtype=torch.int64)]).numpy()
        return own[read][first - cycles.start * len(own) : end - cycles.start * len(own)]


class Steps:
    """What each step reads of an order; the epoch under way is kept, so that it is not drawn anew for every step."""

    def __init__(self, order: ReadingOrder, per_step: int, steps_of_rows: int) -> None:
        """Takes how many rows a step reads, and how many steps all rows come to."""
        self.order, self.per_step, self.steps_of_rows = order, per_step, steps_of_rows
        self._epoch: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))

    def read_in(self, step: int) -> list[int]:
        """The numbers of the rows that a step reads over all processes, in the order of the epoch."""
        epoch, place = divmod(step, self.steps_of_rows)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.order.of_epoch(epoch))
        numbers: list[int] = self._epoch[1][place * self.per_step : (place + 1) * self.per_step].tolist()
        return numbers


def enough_to_draw(wanted: int | None, conversations: int) -> int | None:
    """How many conversations to draw for a run that reads `wanted` rows, some of which will not fit; None for all.

    >>> enough_to_draw(80, 3_000_000), enough_to_draw(80, 7_000), enough_to_draw(None, 3_000_000)
    (2096, None, None)
    """
    if wanted is None or conversations <= RENDERED_WHOLE:
        return None
    number = wanted + wanted // 5 + 2000
    return number if number <= conversations // 2 else None


def draw(splits: ConversationSplits, number: int, seed: int) -> ConversationSplits:
    """The splits with so many conversations to learn from, or fewer where a small set is read more than once."""
    order = ReadingOrder(len(splits.training), mixed_seed(seed, number), splits.mixture)
    of_each = [] if splits.mixture is None else np.unique(splits.mixture.set_of, return_index=True)[1].tolist()
    chosen = np.unique([*order.of_epoch(0)[:number].tolist(), *of_each])  # a set of which less than one is read, too
    training = splits.training
    if isinstance(training, StoredItems | ChosenItems):
        some: Sequence[Conversation] = training.only(chosen)
    else:
        some = [training[place] for place in chosen]
    mixture = None if splits.mixture is None else splits.mixture.only(chosen)
    return replace(splits, training=some, mixture=mixture, drawn=Drawn(number, len(training)))
