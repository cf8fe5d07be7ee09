"""The heart of byte pair encoding: one pre-token, joined pair by pair, lowest rank first."""

import heapq
import math
from collections.abc import Mapping
from typing import AnyStr


def merge_by_rank(piece: AnyStr, ranks: Mapping[AnyStr, int], *, below: int | None = None) -> list[AnyStr]:
    """The tokens of `piece`, which is bytes or characters.

    While neighbours join to a token, those of the lowest rank do, the leftmost of them first.

    With `below`, only ranks smaller than that take part. Takes n log n steps for n bytes.

    >>> merge_by_rank(b"abcab", {b"ab": 0, b"bc": 1, b"cab": 2})
    [b'ab', b'cab']
    """
    limit = math.inf if below is None else below
    end: int = len(piece)
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
        parts[place], parts[partner] = parts[place] + parts[partner], piece[:0]
        following[place] = following[partner]
        previous[following[place]] = place
        for changed in (previous[place], place):
            heapq.heappush(waiting, (rank_at(changed), changed))
    return [part for part in parts if part]
