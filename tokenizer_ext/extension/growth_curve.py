"""How many new tokens are worth it: bytes per token of held-out text as the vocabulary grows, and who sees each token.

Merges applied in order, each from left to right in every piece, are exact BPE. So one pass over the counted pieces
gives the number of tokens after each merge, and no text is encoded twice.

A row of the embedding learns only where its token stands in the text of the training. Joining two tokens takes both
away from where they stood, so each merge has to be counted again when later ones were applied.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenizer_ext.bpe.merge_learning import Merge, PairIndex
from tokenizer_ext.extension.piece_counts import Piece
from tokenizer_ext.pages.progress import tracked

POINTS_PER_DECADE = 8


@dataclass(frozen=True)
class GrowthPoint:
    """A vocabulary with so many of the new tokens, the first ones learned."""

    new_tokens: int
    bytes_per_token: float
    """Of the held-out text."""
    rarely_seen: int
    """How many of these tokens training sees too rarely to learn them."""


@dataclass(frozen=True)
class GrowthCurve:
    """What each further token gains, and how often training sees it."""

    points: tuple[GrowthPoint, ...]
    """From none to all new tokens, close together where there are few."""
    knee: GrowthPoint
    """One of the points: where further tokens begin to gain less than on average."""
    uses: tuple[float, ...]
    """For each new token, how often training sees it when all are in use."""
    held_out_uses: tuple[int, ...] = ()
    """The same in the held-out text: how often each stands on its own there, not within a longer one."""


def measure_growth(
    pieces: Mapping[Piece, int],
    held_out_pieces: Mapping[Piece, int],
    held_out_bytes: int,
    merges: Sequence[Merge],
    first_new_id: int,
    *,
    characters: Sequence[int] = (),
    rarely: float = 100,
    epochs: float = 1.0,
) -> GrowthCurve:
    """The curve of `characters` and then `merges`, whose ids count up from `first_new_id`.

    `characters` are tokens that no merge makes: for each, by how many tokens it shortens the held-out text.
    `pieces` are those of the text that will be trained on for `epochs`, `held_out_pieces` those of other text with
    `held_out_bytes` of UTF-8, both counted with the tokenizer before it got the merges. A token that stands in the
    training fewer than `rarely` times is rarely seen.
    """
    first_merge, end = first_new_id + len(characters), first_new_id + len(characters) + len(merges)
    assert all(merge.token == first_merge + index for index, merge in enumerate(merges))
    steps = len(merges) + 1
    tokens = list(tracked(_token_counts(held_out_pieces, merges), "measuring held-out text", "tokens", steps))
    tokens = [tokens[0] + sum(characters[place:]) for place in range(len(characters))] + tokens
    bytes_per_token = [held_out_bytes / max(count, 1) for count in tokens]
    knee = knee_of(bytes_per_token)
    shown = {*_log_spaced(end - first_new_id), knee}
    points: list[GrowthPoint] = []
    uses: list[float] = []
    counted = tracked(_use_counts(pieces, merges), "measuring the growth", "tokens", steps)
    for size, counts in enumerate(counted, len(characters)):
        for new_tokens in sorted(shown.intersection([size] if points else range(size + 1))):
            uses = [epochs * counts[token] for token in range(first_new_id, first_new_id + new_tokens)]
            points.append(GrowthPoint(new_tokens, bytes_per_token[new_tokens], len(rarely_seen(uses, rarely))))
    *_, held_out_counts = _use_counts(held_out_pieces, merges)
    return GrowthCurve(
        points=tuple(points),
        knee=next(point for point in points if point.new_tokens == knee),
        uses=tuple(uses),
        held_out_uses=tuple([held_out_counts[token] for token in range(first_new_id, end)]),
    )


def rarely_seen(uses: Sequence[float], rarely: float = 100) -> list[int]:
    """The indices of the merges whose tokens training sees fewer than `rarely` times: their rows stay near their start.

    >>> rarely_seen([500, 3, 100, 0])
    [1, 3]
    """
    return [index for index, count in enumerate(uses) if count < rarely]


def knee_of(values: Sequence[float]) -> int:
    """The index at which a curve of evenly spaced values is farthest above the straight line between its ends.

    Satopää, Albrecht, Irwin and Raghavan, "Finding a 'Kneedle' in a Haystack" (ICDCS workshops 2011), section III.

    >>> knee_of([0, 6, 9, 10, 10.5, 11])
    2
    """
    steps = max(len(values) - 1, 1)
    rise = (values[-1] - values[0]) / steps
    return max(range(len(values)), key=lambda index: values[index] - values[0] - rise * index)


def _token_counts(pieces: Mapping[Piece, int], merges: Sequence[Merge]) -> Iterator[int]:
    """The number of ids that `pieces` come to: before all merges, then after each."""
    index = PairIndex(pieces)
    tokens = sum(len(piece) * count for piece, count in pieces.items())
    yield tokens
    for merge in merges:
        tokens -= index.apply((merge.left, merge.right), merge.token)
        yield tokens


def _use_counts(pieces: Mapping[Piece, int], merges: Sequence[Merge]) -> Iterator[Counter[int]]:
    """How often each new token stands in `pieces`: before all merges, then after each. One Counter, kept true."""
    index = PairIndex(pieces)
    counts: Counter[int] = Counter()
    for piece, occurrences in pieces.items():
        for id_ in piece:
            counts[id_] += occurrences
    yield counts
    for merge in merges:
        replaced = index.apply((merge.left, merge.right), merge.token)
        counts[merge.token] = replaced
        counts[merge.left] -= replaced
        counts[merge.right] -= replaced
        yield counts


def _log_spaced(end: int) -> set[int]:
    """0, `end`, and between them numbers that grow by the same factor.

    >>> sorted(_log_spaced(10))
    [0, 1, 2, 3, 4, 6, 7, 10]
    """
    points = {0, end}
    exponent = 0
    while (point := round(10 ** (exponent / POINTS_PER_DECADE))) < end:
        points.add(point)
        exponent += 1
    return points
