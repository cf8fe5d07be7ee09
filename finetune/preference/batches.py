"""Preference pairs into micro-batches, as a function of seed and step.

Every pair is read once an epoch. What a step reads does not depend on the number of processes. A micro-batch holds
whole pairs: first all chosen rows, then all rejected rows in the same order, each with the log-probability that the
reference gives it; where some pair counts less than 1 in the loss, there are `pair_weights` (P,).

Shapes: P pairs of a micro-batch, so 2P rows, in B of T tokens; N pairs and M ids of the set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from configs import InputError
from finetune.chat.chat_format import ChatFormat
from finetune.chat.mixing import ReadingOrder, Steps
from finetune.chat.packing import LARGEST_FILLING_SHARE, conversation_numbers, first_fit, join, to_row
from finetune.chat.rendered import RenderedSet
from finetune.conversations.messages import Conversation
from finetune.conversations.pairs import Pair
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch, Unit, name_numbers


@dataclass(frozen=True)
class RenderedPairs:
    """The ids of both conversations of N pairs; supervised is the reply alone, and what ends it."""

    chosen: RenderedSet
    rejected: RenderedSet
    weights: Tensor
    """(N) how much each pair counts in the loss."""

    def __len__(self) -> int:
        return len(self.chosen)

    def lengths(self) -> list[int]:
        """Of each pair, the tokens of the longer conversation."""
        longer: list[int] = np.maximum(self.chosen.lengths, self.rejected.lengths).tolist()
        return longer

    def only(self, numbers: Sequence[int]) -> "RenderedPairs":
        """Some of the pairs; the ids stay where they lie."""
        places = np.array(numbers, dtype=np.int64)
        return RenderedPairs(self.chosen.only(places), self.rejected.only(places), self.weights[places])


def render_pairs(chat: ChatFormat, pairs: Sequence[Pair]) -> RenderedPairs:
    """The pairs in the ids of a chat format, in their order; never cut, and nothing of their prompts supervised.

    Raises:
        InputError: the chat format cannot render a reply of several messages in one row.

    """
    sides = [pair.with_chosen() for pair in pairs], [pair.with_rejected() for pair in pairs]
    asked = [len(pair.prompt) for pair in (*pairs, *pairs)]
    both = [_only_read(whole, number) for whole, number in zip([*sides[0], *sides[1]], asked, strict=True)]
    rendered = chat.render_set(both)
    if len(rendered) != len(both):
        several = both[int(np.flatnonzero(np.bincount(rendered.sources) > 1)[0])]
        raise InputError(
            f"{several.source}: its reply has several turns of the assistant, which the base's chat template renders "
            "one at a time: give one reply a pair"
        )
    weights = torch.tensor([pair.weight for pair in pairs], dtype=torch.float32)
    return RenderedPairs(rendered[: len(pairs)], rendered[len(pairs) :], weights)


def _only_read(conversation: Conversation, messages: int) -> Conversation:
    """The conversation with its first messages read and not learned."""
    asked = [replace(message, weight=0.0) for message in conversation.messages[:messages]]
    return replace(conversation, messages=(*asked, *conversation.messages[messages:]))


class PreferenceBatches:
    """The micro-batches of every step, once the reference's log-probabilities (N, 2) are known.

    With `packed`, the rows of a micro-batch lie in one without any filling; else they are filled up, pairs of like
    length together.
    """

    def __init__(
        self,
        rendered: RenderedPairs,
        pairs_per_step: int,
        tokens_per_micro_batch: int,
        seed: int,
        packed: bool = False,
        order: ReadingOrder | None = None,
    ) -> None:
        self.rendered, self.lengths, self.packed = rendered, rendered.lengths(), packed
        self.per_step, self.tokens_per_micro_batch = pairs_per_step, tokens_per_micro_batch
        self.order = ReadingOrder(len(rendered), seed) if order is None else order
        self.steps_per_epoch = -(-len(rendered) // pairs_per_step)
        self.reference = torch.zeros(len(rendered), 2)
        self._steps = Steps(self.order, pairs_per_step, self.steps_per_epoch)

    def __len__(self) -> int:
        return len(self.rendered)

    def reply_tokens(self) -> Tensor:
        """How many tokens each reply has, (N, 2)."""
        counts = [side.count_supervised() for side in (self.rendered.chosen, self.rendered.rejected)]
        return torch.tensor(np.stack(counts, axis=1))

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """One process's share of a step."""
        chosen = sorted(self._steps.read_in(step), key=lambda pair: (self.lengths[pair], pair))
        mine = chosen[rank::world_size]
        if not mine:  # the last step of an epoch may have fewer pairs than processes; each still takes part in its sums
            return [_without_targets(self._batch(chosen[:1]))]
        return [self._batch(group) for group in self._groups(mine)]

    def describe(self, step: int) -> str:
        """The numbers of a step's pairs, counted from 1 over those that are learned from."""
        return name_numbers("pairs", [number + 1 for number in self._steps.read_in(step)])

    def read_in(self, steps: int) -> list[int]:
        """The numbers of the pairs that so many steps read, without repetition."""
        if steps > self.steps_per_epoch:
            return list(range(len(self)))
        return np.unique(self.order.of_epoch(0)[: steps * self.per_step]).tolist()

    def share_of(self, pairs: Sequence[int], rank: int, world_size: int) -> Iterator[tuple[list[int], MicroBatch]]:
        """One process's share of some pairs, each once: numbers of pairs, and their micro-batch.

        Every process gets as many, since all take part in gathering a sharded model; a last one may be of no pair.
        """
        order = sorted(pairs, key=lambda pair: (self.lengths[pair], pair))
        groups = self._groups(order)
        for start in range(0, len(groups), world_size):
            mine = groups[start + rank] if start + rank < len(groups) else []
            yield mine, self._batch(mine or groups[0][:1])

    def _groups(self, pairs: Sequence[int]) -> list[list[int]]:
        """Pairs, which come sorted by length, as they share micro-batches."""
        if not self.packed:
            return cut_pairs(pairs, self.lengths, self.tokens_per_micro_batch)
        tokens = (self.rendered.chosen.lengths + self.rendered.rejected.lengths).tolist()
        groups = first_fit([tokens[pair] for pair in pairs], self.tokens_per_micro_batch)
        return [[pairs[place] for place in places] for places in groups]

    def _batch(self, pairs: Sequence[int]) -> MicroBatch:
        sides = self.rendered.chosen, self.rendered.rejected
        rows = [to_row(side[pair]) for side in sides for pair in pairs]
        batch = {**join(rows, packed=self.packed), "reference": self.reference[list(pairs)].T.flatten()}  # (2P,)
        weights = self.rendered.weights[list(pairs)]  # (P,)
        return batch if bool((weights == 1).all()) else {**batch, "pair_weights": weights}


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
    return int(are_learned(count_reply_tokens(**micro_batch)).sum())


def weigh_pairs(micro_batch: MicroBatch) -> float:
    """What the pairs of a micro-batch that are learned from weigh together: 1 each, where nothing else is said.

    >>> targets = torch.tensor([[5], [7], [6], [-100]])
    >>> weigh_pairs({"targets": targets, "pair_weights": torch.tensor([0.5, 1.0])})
    0.5
    """
    weights = micro_batch.get("pair_weights")
    if weights is None:
        return float(count_pairs(micro_batch))
    return float(weights[are_learned(count_reply_tokens(**micro_batch))].double().sum())


def are_learned(reply_tokens: Tensor) -> Tensor:
    """Whether both replies of each pair have something to learn: (2P,) -> (P,)."""
    return (reply_tokens > 0).view(2, -1).all(dim=0)


def count_reply_tokens(targets: Tensor, position_ids: Tensor | None = None, **_: Tensor) -> Tensor:
    """How many targets each row of a micro-batch learns, packed or not: (B, T) -> (2P,).

    >>> count_reply_tokens(torch.tensor([[-100, 5, 6, -100, 7]]), torch.tensor([[0, 1, 2, 0, 1]]))
    tensor([2, 1])
    """
    numbers = conversation_numbers(targets, position_ids).flatten()  # (B T,)
    tokens = numbers.new_zeros(int(numbers[-1]) + 1)
    return tokens.index_add_(0, numbers, (targets.flatten() != IGNORED_TARGET).long())


PAIRS = Unit("pairs", count_pairs, weigh_pairs)


def _without_targets(micro_batch: MicroBatch) -> MicroBatch:
    return {**micro_batch, "targets": torch.full_like(micro_batch["targets"], IGNORED_TARGET)}
