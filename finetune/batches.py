"""Conversations into micro-batches of like length, as a function of seed and step.

Every conversation is read once an epoch. What a step reads does not depend on the number of processes.

Shapes: B rows of a micro-batch, T tokens of its longest row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from configs import InputError
from finetune.chat import RenderedConversation
from scratch_models.corpus import IGNORED_TARGET
from scratch_models.seeds import seeded_generator
from scratch_models.training import MicroBatch

LARGEST_FILLING_SHARE = 0.15


@dataclass(frozen=True)
class Fitting:
    """The conversations that fit a length limit, and how many do not."""

    kept: list[RenderedConversation]
    too_long: int


def keep_fitting(rendered: Sequence[RenderedConversation], maximum_tokens: int) -> Fitting:
    """Leaves out what is longer than the limit: a conversation that is cut would teach a reply without its end.

    Raises:
        InputError: nothing fits.

    """
    kept = [one for one in rendered if len(one.input_ids) <= maximum_tokens]
    if not kept:
        shortest = min((len(one.input_ids) for one in rendered), default=0)
        raise InputError(
            f"maximum_tokens {maximum_tokens}: none of {len(rendered)} conversations fits, the shortest has {shortest} "
            "tokens: raise the limit or give shorter conversations"
        )
    return Fitting(kept, len(rendered) - len(kept))


class ConversationBatches:
    """The micro-batches of every step.

    An epoch is a permutation, cut into steps: each learns from conversations of all lengths and kinds. Inside a step,
    rows of like length share a micro-batch.
    """

    def __init__(
        self,
        rendered: Sequence[RenderedConversation],
        conversations_per_step: int,
        tokens_per_micro_batch: int,
        seed: int,
    ) -> None:
        self.rows = [to_row(one) for one in rendered]
        self.per_step, self.tokens_per_micro_batch, self.seed = conversations_per_step, tokens_per_micro_batch, seed
        self.steps_per_epoch = -(-len(rendered) // conversations_per_step)
        self._epoch: tuple[int, list[Tensor]] = (-1, [])

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """One process's share of a step: `input_ids` and `targets`, each (B, T), filled up on the right."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(epoch))
        chosen = sorted(self._epoch[1][place].tolist(), key=lambda row: (len(self.rows[row][0]), row))
        mine = chosen[rank::world_size]
        if not mine:  # the last step of an epoch may have fewer rows than processes; each still takes part in its sums
            ids, targets = self.rows[chosen[0]]
            return [pad([(ids, [IGNORED_TARGET] * len(targets))])]
        return [pad(rows) for rows in cut_by_tokens([self.rows[row] for row in mine], self.tokens_per_micro_batch)]

    def _order(self, epoch: int) -> list[Tensor]:
        order = torch.randperm(len(self.rows), generator=seeded_generator(self.seed, epoch))
        return list(order.split(self.per_step))


Row = tuple[list[int], list[int]]
"""Ids read and targets, of the same length: the target of a place is the id that follows it."""


def to_row(rendered: RenderedConversation) -> Row:
    """Ids and targets of a conversation.

    >>> to_row(RenderedConversation([5, 6, 7], [False, False, True]))
    ([5, 6], [-100, 7])
    """
    following = zip(rendered.input_ids[1:], rendered.supervised[1:], strict=True)
    return rendered.input_ids[:-1], [id_ if learned else IGNORED_TARGET for id_, learned in following]


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


def pad(rows: Sequence[Row]) -> MicroBatch:
    """Rows filled up on the right: `input_ids` with 0, `targets` with -100, each (B, T)."""
    T = max(len(ids) for ids, _ in rows)
    input_ids = [ids + [0] * (T - len(ids)) for ids, _ in rows]
    targets = [targets + [IGNORED_TARGET] * (T - len(targets)) for _, targets in rows]
    return {"input_ids": torch.tensor(input_ids), "targets": torch.tensor(targets)}
