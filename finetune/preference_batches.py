"""Preference pairs into micro-batches, as a function of seed and step.

Every pair is read once an epoch. What a step reads does not depend on the number of processes. A micro-batch holds
whole pairs: first all chosen rows, then all rejected rows in the same order, each with the log-probability that the
reference gives it.

Shapes: P pairs of a micro-batch, so 2P rows; T tokens of its longest row; N pairs of the set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune.batches import LARGEST_FILLING_SHARE, pad, to_row
from finetune.chat import ChatFormat, RenderedConversation
from finetune.preference_pairs import Pair
from scratch_models.corpus import IGNORED_TARGET
from scratch_models.micro_batches import MicroBatch
from scratch_models.seeds import seeded_generator


@dataclass(frozen=True)
class RenderedPair:
    """The ids of both conversations of a pair; supervised is the reply alone, and what ends it."""

    chosen: RenderedConversation
    rejected: RenderedConversation

    def tokens(self) -> int:
        """The length of the longer one."""
        return max(len(self.chosen.input_ids), len(self.rejected.input_ids))


def render_pairs(chat: ChatFormat, pairs: Sequence[Pair]) -> list[RenderedPair]:
    """The pairs in the ids of a chat format, in their order; never cut."""
    sides = (pair.with_chosen() for pair in pairs), (pair.with_rejected() for pair in pairs)
    rendered = chat.render_all([one for side in sides for one in side])
    replies = [
        _reply_only(one, len(pair.prompt), chat.end_id) for one, pair in zip(rendered, [*pairs, *pairs], strict=True)
    ]
    return [RenderedPair(*both) for both in zip(replies[: len(pairs)], replies[len(pairs) :], strict=True)]


class PreferenceBatches:
    """The micro-batches of every step, once the reference's log-probabilities (N, 2) are known."""

    def __init__(
        self, rendered: Sequence[RenderedPair], pairs_per_step: int, tokens_per_micro_batch: int, seed: int
    ) -> None:
        self.rows = [(to_row(one.chosen), to_row(one.rejected)) for one in rendered]
        self.lengths = [one.tokens() for one in rendered]
        self.per_step, self.tokens_per_micro_batch, self.seed = pairs_per_step, tokens_per_micro_batch, seed
        self.steps_per_epoch = -(-len(rendered) // pairs_per_step)
        self.reply_tokens = torch.tensor(
            [[sum(one.chosen.supervised), sum(one.rejected.supervised)] for one in rendered]
        )
        self.reference = torch.zeros(len(rendered), 2)
        self._epoch: tuple[int, list[Tensor]] = (-1, [])

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """One process's share of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(epoch))
        chosen = sorted(self._epoch[1][place].tolist(), key=lambda pair: (self.lengths[pair], pair))
        mine = chosen[rank::world_size]
        if not mine:  # the last step of an epoch may have fewer pairs than processes; each still takes part in its sums
            return [_without_targets(self._batch(chosen[:1]))]
        return [self._batch(group) for group in cut_pairs(mine, self.lengths, self.tokens_per_micro_batch)]

    def read_in(self, steps: int) -> list[int]:
        """The numbers of the pairs that so many steps read, without repetition."""
        last_epoch, place = divmod(steps - 1, self.steps_per_epoch)
        if last_epoch:
            return list(range(len(self.rows)))
        return sorted(torch.cat(self._order(0)[: place + 1]).tolist())

    def share_of(self, pairs: Sequence[int], rank: int, world_size: int) -> Iterator[tuple[list[int], MicroBatch]]:
        """One process's share of some pairs, each once: numbers of pairs of like length, and their micro-batch.

        Every process gets as many, since all take part in gathering a sharded model; a last one may be of no pair.
        """
        order = sorted(pairs, key=lambda pair: (self.lengths[pair], pair))
        groups = cut_pairs(order, self.lengths, self.tokens_per_micro_batch)
        for start in range(0, len(groups), world_size):
            mine = groups[start + rank] if start + rank < len(groups) else []
            yield mine, self._batch(mine or groups[0][:1])

    def _order(self, epoch: int) -> list[Tensor]:
        order = torch.randperm(len(self.rows), generator=seeded_generator(self.seed, epoch))
        return list(order.split(self.per_step))

    def _batch(self, pairs: Sequence[int]) -> MicroBatch:
        rows = [self.rows[pair][side] for side in (0, 1) for pair in pairs]
        return {**pad(rows), "reference": self.reference[list(pairs)].T.flatten()}  # (2P,)


def cut_pairs(pairs: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Groups of pairs, which come sorted by length, whose rows filled up have at most so many tokens.

    A pair that is longer stands alone, and so does one that would fill up the others too much.

    >>> cut_pairs([0, 1, 2, 3], lengths=[50, 51, 52, 90], tokens=208)
    [[0, 1], [2], [3]]
    """
    groups: list[list[int]] = []
    for pair in pairs:
        length = lengths[pair]
        like = bool(groups) and lengths[groups[-1][0]] >= (1 - LARGEST_FILLING_SHARE) * length
        if like and 2 * length * (len(groups[-1]) + 1) <= tokens:
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return groups


def count_pairs(micro_batch: MicroBatch) -> int:
    """How many pairs of a micro-batch are learned from.

    >>> count_pairs({"targets": torch.tensor([[-100, 5], [-100, -100], [-100, 6], [-100, -100]])})
    1
    """
    learned = (micro_batch["targets"] != IGNORED_TARGET).any(dim=1)  # (2P,)
    return int(learned.view(2, -1).all(dim=0).sum())


def _reply_only(rendered: RenderedConversation, prompt_messages: int, end_id: int) -> RenderedConversation:
    """The conversation with nothing of its prompt supervised; every message ends in `end_id`, which content lacks."""
    ends = [place for place, id_ in enumerate(rendered.input_ids) if id_ == end_id]
    prompt = ends[prompt_messages - 1] + 1
    return RenderedConversation(rendered.input_ids, [False] * prompt + rendered.supervised[prompt:])


def _without_targets(micro_batch: MicroBatch) -> MicroBatch:
    return {**micro_batch, "targets": torch.full_like(micro_batch["targets"], IGNORED_TARGET)}
