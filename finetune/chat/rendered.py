"""Conversations as ids, each with what of it is learned; many of them lie in three flat arrays.

A list of Python integers takes eight times the memory of an array and has to be made anew in every process. The arrays
may as well lie in a file that is mapped into memory, see `token_cache`.

Shapes: N rows, most often one a conversation, M ids of all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from configs import InputError

ROW_FACTS = np.dtype(
    [(name, np.int32) for name in ("supervised", "turns", "ends", "partly_learned_ends", "said_bytes")]
)
"""What is counted of a row: ids that are learned; turns of the assistant that are; of their ends, those learned, and
those that count less than 1; UTF-8 bytes of what is said in these turns."""


@dataclass(frozen=True)
class RenderedConversation:
    """The ids of a conversation, and for each whether it is learned: assistant content and the ``<|end|>`` after it."""

    input_ids: list[int]
    supervised: list[bool]
    weights: list[float] | None = None
    """How much each id counts in the loss, 0 where it is not learned; None where all that is learned counts 1."""


class RenderedSet(Sequence[RenderedConversation]):
    """Many rendered conversations, which are read like a list of them.

    >>> both = RenderedSet.of([RenderedConversation([5, 6], [False, True]), RenderedConversation([7], [False])])
    >>> both[0].input_ids, both[0].supervised, both.lengths.tolist()
    ([5, 6], [False, True], [2, 1])
    """

    def __init__(
        self,
        input_ids: np.ndarray,
        supervised: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        sources: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        facts: np.ndarray | None = None,
    ) -> None:
        """Of flat arrays: int32 ids and bool flags (M,), start and number of ids of each row (N,).

        `sources` is the number of the conversation that each row is of, (N,): a conversation that is learned one reply
        at a time has several; by default each has one. `weights` is how much each id counts in the loss, float32 (M,),
        0 where it is not learned; None where all that is learned counts 1. `facts` is what was counted of each row
        where it was rendered, (N,) of `ROW_FACTS`.
        """
        self.input_ids, self.supervised = input_ids, supervised
        self.starts, self.lengths, self.weights = starts, lengths, weights
        self.sources = np.arange(len(lengths), dtype=np.int32) if sources is None else sources
        self.facts = facts

    @classmethod
    def of(cls, conversations: Iterable[RenderedConversation]) -> "RenderedSet":
        """The set of these; one that is a set already is returned as it is."""
        if isinstance(conversations, RenderedSet):
            return conversations
        conversations = list(conversations)
        ids = [id_ for rendered in conversations for id_ in rendered.input_ids]
        flags = [learned for rendered in conversations for learned in rendered.supervised]
        lengths = np.array([len(rendered.input_ids) for rendered in conversations], dtype=np.int32)
        parts = [one.supervised if one.weights is None else one.weights for one in conversations]
        weighed = any(one.weights is not None for one in conversations)
        weights = np.array([weight for part in parts for weight in part], dtype=np.float32) if weighed else None
        flat = np.array(ids, dtype=np.int32), np.array(flags, dtype=np.bool_)
        return cls(*flat, starts_of(lengths), lengths, weights=weights)

    @classmethod
    def joined(cls, parts: Sequence["RenderedSet"]) -> "RenderedSet":
        """All rows of the parts, in their order; each part must be whole, not a choice of `only`, its sources too."""
        lengths = np.concatenate([np.zeros(0, dtype=np.int32), *(part.lengths for part in parts)])
        ids = np.concatenate([np.zeros(0, dtype=np.int32), *(part.input_ids for part in parts)])
        flags = np.concatenate([np.zeros(0, dtype=np.bool_), *(part.supervised for part in parts)])
        sources = np.concatenate([np.zeros(0, dtype=np.int32), *(part.sources for part in parts)])
        weighed = any(part.weights is not None for part in parts)
        weights = [part.supervised if part.weights is None else part.weights for part in parts] if weighed else None
        joined = None if weights is None else np.concatenate(weights, dtype=np.float32)
        facts = [part.facts for part in parts if part.facts is not None]
        counted = np.concatenate(facts) if facts and len(facts) == len(parts) else None
        return cls(ids, flags, starts_of(lengths), lengths, sources, joined, counted)

    def only(self, wanted: np.ndarray | slice) -> "RenderedSet":
        """The conversations at some places, or at those where a flag is set; the ids stay where they lie."""
        chosen = self.starts[wanted], self.lengths[wanted], self.sources[wanted]
        facts = None if self.facts is None else self.facts[wanted]
        return RenderedSet(self.input_ids, self.supervised, *chosen, self.weights, facts)

    def unweighted(self) -> "RenderedSet":
        """The same, all that is learned counting 1; the ids stay where they lie."""
        return RenderedSet(self.input_ids, self.supervised, self.starts, self.lengths, self.sources)

    def place_of(self, number: int) -> slice:
        """Where the ids of a conversation lie in the flat arrays."""
        start = int(self.starts[number])
        return slice(start, start + int(self.lengths[number]))

    def count_supervised(self, id_: int | None = None) -> np.ndarray:
        """How many ids of each conversation are learned, or how many of those that equal `id_`: (N,)."""
        if id_ is None and self.facts is not None:
            return self.facts["supervised"]
        counted = self.supervised if id_ is None else self.supervised & (self.input_ids == id_)  # (M,)
        stretches = np.stack([self.starts, self.starts + self.lengths], axis=1).ravel()  # (2 N,)
        sums = np.add.reduceat(np.append(counted, False), stretches, dtype=np.int64)[::2]  # (N,)
        return np.where(self.lengths > 0, sums, 0)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, number: int) -> RenderedConversation: ...
    @overload
    def __getitem__(self, number: slice) -> "RenderedSet": ...
    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.only(number)
        place = self.place_of(number)
        weights = None if self.weights is None else self.weights[place]
        if weights is not None and np.array_equal(weights, self.supervised[place]):
            weights = None
        own = self.input_ids[place].tolist(), self.supervised[place].tolist()
        return RenderedConversation(*own, None if weights is None else weights.tolist())

    def __iter__(self) -> Iterator[RenderedConversation]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none


def as_learned(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Of what ids count in the loss, (M,): which are learned, and their weights; None where all of these are 1.

    >>> as_learned(np.array([0.0, 1.0])), as_learned(np.array([0.0, 0.5]))[1].tolist()
    ((array([False,  True]), None), [0.0, 0.5])
    """
    supervised, kept = weights > 0, np.asarray(weights, dtype=np.float32)
    return supervised, None if np.array_equal(kept, supervised) else kept


def find_fitting(lengths: Sequence[int] | np.ndarray, maximum_tokens: int, what: str) -> np.ndarray:
    """The places of those that are no longer than the limit; `what` they are called.

    >>> find_fitting([5, 9, 7], maximum_tokens=8, what="pairs").tolist()
    [0, 2]

    Raises:
        InputError: nothing fits.

    """
    fitting = np.flatnonzero(np.asarray(lengths) <= maximum_tokens)
    if not len(fitting):
        raise InputError(
            f"maximum_tokens {maximum_tokens}: none of {len(lengths)} {what} fits, the shortest has "
            f"{min(lengths, default=0)} tokens: raise the limit or give shorter ones"
        )
    return fitting


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """The first place of each of some stretches that lie one behind the other.

    >>> starts_of(np.array([3, 2, 4])).tolist()
    [0, 3, 5]
    """
    return np.cumsum(lengths) - lengths
