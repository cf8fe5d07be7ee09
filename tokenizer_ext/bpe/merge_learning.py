"""The one learner of merges: from single bytes it trains a vocabulary, from the ids of an existing one it continues it.

Byte pair encoding after Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units"
(ACL 2016), section 3.2. What differs is the bookkeeping: pair counts change only where a merge was applied, so learning
takes time in proportion to the ids that are merged, whatever the length of a piece.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Pair = tuple[int, int]

_BETWEEN_PIECES = -1  # stands on both sides of every piece, so that no pair spans two of them
_MERGED_AWAY = -2


@dataclass(frozen=True)
class Merge:
    """One learned merge: `left` and `right`, side by side, become `token`."""

    left: int
    right: int
    token: int
    token_bytes: bytes
    count: int
    """How often the pair stood side by side when it was chosen (later merges may hide the token inside longer ones)."""


@dataclass(frozen=True)
class WholeToken:
    """A token that no merge makes: a character that SentencePiece had no token for, or a whole pre-token."""

    token: int
    token_bytes: bytes
    parts: tuple[int, ...]
    """What stands in its place without it, in ids before it."""
    count: int
    """How often the text to learn from holds it."""


NewToken = Merge | WholeToken


def learn_merges(
    pieces: Mapping[tuple[int, ...], int],
    token_bytes: Sequence[bytes] | Mapping[int, bytes],
    *,
    new_tokens: int,
    first_id: int,
    minimum_count: int = 2,
    maximum_bytes: int | None = None,
    allow: Callable[[bytes], bool] | None = None,
    refused_pairs: Collection[Pair] = (),
) -> list[Merge]:
    """The merges that shorten `pieces` most, greedily: always the pair that occurs most often now.

    Ties go to the smaller pair of ids. Ids count up from `first_id`. A pair is left out, and learning goes on with the
    next one, where it is one of `refused_pairs`, `allow` refuses its bytes, they are more than `maximum_bytes`, or they
    are a token already. Fewer than `new_tokens` merges come back when no pair with `minimum_count` occurrences is left.

    `pieces` maps each distinct pre-token, as ids, to how often it occurs; merges never cross its ends.

    >>> pieces = {(0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 3): 1}
    >>> merges = learn_merges(pieces, [b"a", b"b", b"d", b"c"], new_tokens=9, first_id=4)
    >>> [(merge.token, merge.token_bytes, merge.count) for merge in merges]
    [(4, b'aa', 4), (5, b'ab', 2), (6, b'aaab', 2)]
    """
    pairs = PairIndex(pieces)
    known = dict(token_bytes) if isinstance(token_bytes, Mapping) else dict(enumerate(token_bytes))
    taken, refused = set(known.values()), frozenset(refused_pairs)
    merges: list[Merge] = []
    candidates = pairs.most_frequent(minimum_count)
    while len(merges) < new_tokens and (candidate := next(candidates, None)):
        (left, right), count = candidate
        joined = known[left] + known[right]
        if (left, right) in refused or joined in taken or not _is_allowed(joined, maximum_bytes, allow):
            continue
        token = first_id + len(merges)
        known[token] = joined
        taken.add(joined)
        pairs.apply((left, right), token)
        merges.append(Merge(left, right, token, joined, count))
    return merges


def _is_allowed(token: bytes, maximum_bytes: int | None, allow: Callable[[bytes], bool] | None) -> bool:
    return not (maximum_bytes and len(token) > maximum_bytes) and (allow is None or allow(token))


def base_ids(tokens: Iterable[NewToken]) -> list[list[int]]:
    """The ids of the base that each new token stands for; they come in the order of their ids.

    >>> base_ids([Merge(7, 8, 100, b"ab", 5), Merge(100, 7, 101, b"aba", 3)])
    [[7, 8], [7, 8, 7]]
    """
    ids: dict[int, list[int]] = {}
    for token in tokens:
        parts = token.parts if isinstance(token, WholeToken) else (token.left, token.right)
        ids[token.token] = [id_ for part in parts for id_ in ids.get(part, [part])]
    return list(ids.values())


class PairIndex:
    """Where each pair of neighbouring ids stands, over all pieces, kept true while merges are applied.

    All pieces lie in one row of cells, linked to the neighbours that are still alive. The places of a pair are in
    ascending order; a place that a later merge made stale is recognised when it is visited.
    """

    def __init__(self, pieces: Mapping[tuple[int, ...], int]) -> None:
        self.ids = [_BETWEEN_PIECES]
        self.occurrences = [0]  # how often the piece of this cell occurs
        self.counts: dict[Pair, int] = defaultdict(int)
        self.places: dict[Pair, list[int]] = defaultdict(list)
        for piece, count in pieces.items():
            if len(piece) > 1:
                self._append(piece, count)
        self.following = list(range(1, len(self.ids) + 1))
        self.previous = list(range(-1, len(self.ids) - 1))
        self.queue = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.queue)

    def _append(self, piece: tuple[int, ...], count: int) -> None:
        start = len(self.ids)
        self.ids.extend(piece)
        self.ids.append(_BETWEEN_PIECES)
        self.occurrences.extend([count] * (len(piece) + 1))
        for place, pair in enumerate(pairwise(piece), start):
            self.counts[pair] += count
            self.places[pair].append(place)

    def most_frequent(self, minimum_count: int) -> Iterator[tuple[Pair, int]]:
        """Each pair once, the most frequent of the moment first."""
        while self.queue:
            negative_count, pair = heapq.heappop(self.queue)
            count = self.counts[pair]
            if count < minimum_count:
                continue
            if count < -negative_count:  # merges took some of its places since it was queued: wait for its turn
                heapq.heappush(self.queue, (-count, pair))
            else:
                yield pair, count

    def apply(self, pair: Pair, token: int) -> int:
        """Replace `pair` by `token`, from left to right, and queue the pairs that this creates.

        Returns how often that was, which is by how many ids the texts got shorter.
        """
        left, right = pair
        created: set[Pair] = set()
        replaced = 0
        for place in self.places.pop(pair, ()):
            partner = self.following[place]
            if self.ids[place] == left and self.ids[partner] == right:
                replaced += self.occurrences[place]
                created.update(self._replace(place, partner, token))
        self.counts.pop(pair, None)  # no merge can bring the same pair back, for what it creates has a new id
        for new_pair in created:
            if count := self.counts[new_pair]:
                heapq.heappush(self.queue, (-count, new_pair))
        return replaced

    def pieces(self) -> Iterator[tuple[int, ...]]:
        """What the pieces of two ids or more have become, in their order."""
        piece: list[int] = []
        for id_ in self.ids[1:]:
            if id_ == _BETWEEN_PIECES:
                yield tuple(piece)
                piece = []
            elif id_ != _MERGED_AWAY:
                piece.append(id_)

    def _replace(self, place: int, partner: int, token: int) -> Iterator[Pair]:
        ids, count = self.ids, self.occurrences[place]
        before, after = self.previous[place], self.following[partner]
        if ids[before] != _BETWEEN_PIECES:
            self.counts[ids[before], ids[place]] -= count
            yield self._found((ids[before], token), before, count)
        if ids[after] != _BETWEEN_PIECES:
            self.counts[ids[partner], ids[after]] -= count
            yield self._found((token, ids[after]), place, count)
        ids[place], ids[partner] = token, _MERGED_AWAY
        self.following[place], self.previous[after] = after, place

    def _found(self, pair: Pair, place: int, count: int) -> Pair:
        self.counts[pair] += count
        self.places[pair].append(place)
        return pair
