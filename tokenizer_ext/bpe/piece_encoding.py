"""The heart of byte pair encoding: one pre-token, joined pair by pair, lowest rank first."""

import heapq
import math
from collections.abc import Mapping


def merge_by_rank(piece: bytes, ranks: Mapping[bytes, int], *, below: int | None = None) -> list[bytes]:
    """The tokens of `piece`: while neighbours join to a token, join those of the lowest rank (the leftmost first).

    With `below`, only ranks smaller than that take part. Takes n log n steps for n bytes.

    >>> merge_by_rank(b"abcab", {b"ab": 0, b"bc": 1, b"cab": 2})
    [b'ab', b'cab']
    """
    limit = math.inf if below is None else below
    end = len(piece)
    # The part that was joined to the one before it is left empty, as is the one past the end, which is also parts[-1].
    parts = [piece[place : place + 1] for place in range(end + 1)]
    following, previous = [*range(1, end + 1), end], list(range(-1, end))

    def rank_at(place: int) -> float:
        left, right = parts[place], parts[following[place]]
        return ranks.get(left + right, limit) if left and right else limit

    waiting = [(rank_at(place), place) for place in range(end)]
    heapq.heapify(waiting)
    while waiting and waiting[0][0] < limit:
        rank, place = heapq.heappop(waiting)
        if rank_at(place) != rank:  # one of the two was joined to something else since
            continue
        partner = following[place]
        parts[place], parts[partner] = parts[place] + parts[partner], b""
        following[place] = following[partner]
        previous[following[place]] = place
        for changed in (previous[place], place):
            heapq.heappush(waiting, (rank_at(changed), changed))
    return [part for part in parts if part]
