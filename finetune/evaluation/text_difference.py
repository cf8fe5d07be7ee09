"""One text as two models score it, token by token: probability, rank, what the change is worth, and the divergence.

Logits of both come side by side, a few positions at a time. Where the two cut the text differently, the stretches
between cuts that both make are compared.

Shapes: P positions, V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LIKELIEST = 10


@dataclass(frozen=True)
class Likely:
    """An id that a model finds likely in a place."""

    id: int
    logprob: float


@dataclass(frozen=True)
class ScoredToken:
    """A token of the text as one model scores it, in nats."""

    id: int
    bytes: bytes
    logprob: float | None = None
    """None where nothing stands before it that it could follow from."""
    rank: int | None = None
    """1 for the likeliest."""
    likeliest: tuple[Likely, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A text as one model reads it."""

    ids: Sequence[int]
    pieces: Sequence[bytes]
    """The bytes of each id."""
    logits: Iterable[Tensor]
    """Those that each id is scored by, (P, V) at a time, in order."""
    unscored: int = 0
    """How many ids at the beginning have none: 1 where nothing stands before the text."""
    given: frozenset[int] = frozenset()
    """Places of ids that the model does not say itself; their scores are left out."""


@dataclass(frozen=True)
class Span:
    """A stretch of the text that both begin and end with a token: nearly always one token of each."""

    base: tuple[ScoredToken, ...]
    tuned: tuple[ScoredToken, ...]
    divergence: float | None = None
    """KL(base || tuned) of what both expect in the place of a token that is one of both, in nats."""

    @property
    def bytes(self) -> bytes:
        """What it says."""
        return min((b"".join(token.bytes for token in side) for side in (self.base, self.tuned)), key=len)

    @property
    def base_logprob(self) -> float | None:
        """Of all of it to the base."""
        return _sum(self.base)

    @property
    def tuned_logprob(self) -> float | None:
        """Of all of it to the tuned model."""
        return _sum(self.tuned)

    @property
    def change(self) -> float | None:
        """By how much likelier the tuned model finds it: the difference of log-probabilities."""
        if self.base_logprob is None or self.tuned_logprob is None:
            return None
        return self.tuned_logprob - self.base_logprob


@dataclass(frozen=True)
class TextDifference:
    """A text as both score it."""

    base: tuple[ScoredToken, ...]
    tuned: tuple[ScoredToken, ...]
    spans: tuple[Span, ...]
    """In the order of the text; a single one where the two read other bytes."""
    is_paired: bool
    """Whether ids mean the same to both, and both cut the text into as many tokens."""


def compare_readings(base: Reading, tuned: Reading, *, share_ids: bool) -> TextDifference:
    """What two models make of one text.

    Args:
        base: The first model's reading.
        tuned: The second's.
        share_ids: Whether an id is the same token to both.
    """
    is_paired = share_ids and len(base.ids) == len(tuned.ids)
    left, right = _Scoring(base), _Scoring(tuned)
    divergences: list[float | None] = []
    if is_paired:
        divergences += [None] * max(base.unscored, tuned.unscored)
        for side in (left, right):
            side.score(len(divergences) - side.reading.unscored)
        while both := min(left.at_hand(), right.at_hand()):
            divergences += kl_divergence(left.score(both), right.score(both)).tolist()
    else:
        for side in (left, right):
            while few := side.at_hand():
                side.score(few)
    spans = _spans(left.tokens, right.tokens, divergences)
    return TextDifference(tuple(left.tokens), tuple(right.tokens), tuple(spans), is_paired)


def kl_divergence(base: Tensor, tuned: Tensor) -> Tensor:
    """KL(base || tuned) of log-probabilities, in nats: (P, V) twice -> (P).

    Where one model knows more ids, it is that of the ids which both know, given that it is one of these.
    """
    known = min(base.shape[-1], tuned.shape[-1])
    base, tuned = (side if side.shape[-1] == known else side[:, :known].log_softmax(-1) for side in (base, tuned))
    # Where the base has no probability at all, there is nothing to diverge.
    return (base.exp() * (base - tuned)).nan_to_num_(nan=0.0, posinf=math.inf).sum(-1).clamp_min(0)


def bits_per_byte(tokens: Sequence[ScoredToken]) -> float | None:
    """What the tokens that are scored cost a model; None where none is."""
    scored = [(token.logprob, len(token.bytes)) for token in tokens if token.logprob is not None]
    length = sum(count for _, count in scored)
    return -sum(logprob for logprob, _ in scored) / math.log(2) / length if length else None


class _Scoring:
    """One reading whose tokens are scored as its logits come."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.coming = reading, iter(reading.logits)
        self.held: Tensor | None = None
        self.pairs = list(zip(reading.ids, reading.pieces, strict=True))
        self.tokens = [ScoredToken(*pair) for pair in self.pairs[: reading.unscored]]

    def at_hand(self) -> int:
        """Positions that can be scored now; 0 at the end."""
        if self.held is None or not len(self.held):
            self.held = next(self.coming, None)
        return 0 if self.held is None else len(self.held)

    def score(self, positions: int) -> Tensor:
        """Scores the next positions, of those at hand at most; their log-probabilities, (P, V)."""
        if positions == 0:
            return torch.empty(0)
        assert self.at_hand() >= positions and self.held is not None
        logits, self.held = self.held[:positions], self.held[positions:]
        logprobs = logits.float().log_softmax(-1)  # (P, V)
        pairs = self.pairs[len(self.tokens) :][:positions]
        chosen = torch.tensor([id_ for id_, _ in pairs], device=logits.device)[:, None]  # (P, 1)
        own = logprobs.gather(-1, chosen)  # (P, 1)
        ranks = torch.count_nonzero(logprobs > own, dim=-1) + 1  # (P)
        values, ids = logprobs.topk(min(LIKELIEST, logprobs.shape[-1]))
        for pair, logprob, rank, *top in zip(
            pairs, own[:, 0].tolist(), ranks.tolist(), ids.tolist(), values.tolist(), strict=True
        ):
            score = () if len(self.tokens) in self.reading.given else (logprob, rank, tuple(map(Likely, *top)))
            self.tokens.append(ScoredToken(*pair, *score))
        return logprobs


def _spans(
    base: Sequence[ScoredToken], tuned: Sequence[ScoredToken], divergences: Sequence[float | None]
) -> Iterator[Span]:
    """Both texts cut where both have a cut, counted from their ends: what a format puts before a text may differ."""
    said = [b"".join(token.bytes for token in side) for side in (base, tuned)]
    if not (said[0].endswith(said[1]) or said[1].endswith(said[0])):
        yield Span(tuple(base), tuple(tuned))
        return
    ends = [{left: place for place, left in enumerate(_bytes_left(side), 1)} for side in (base, tuned)]
    first = second = 0
    for left in sorted(ends[0].keys() & ends[1].keys(), reverse=True):
        last, other = ends[0][left], ends[1][left]
        is_one_each = first == second and last - first == other - second == 1
        divergence = divergences[first] if is_one_each and first < len(divergences) else None
        yield Span(tuple(base[first:last]), tuple(tuned[second:other]), divergence)
        first, second = last, other


def _bytes_left(tokens: Sequence[ScoredToken]) -> Iterator[int]:
    """How many bytes follow after each token."""
    left = sum(len(token.bytes) for token in tokens)
    for token in tokens:
        left -= len(token.bytes)
        yield left


def _sum(tokens: Sequence[ScoredToken]) -> float | None:
    known = [token.logprob for token in tokens if token.logprob is not None]
    return sum(known) if tokens and len(known) == len(tokens) else None
