"""Which block is read when: each text's blocks in a new order every epoch, the texts mixed by their shares.

All of it is a function of the seed and of how many blocks were read before, and none of it is kept: so a run that goes
on reads what the unbroken one would have, and the number of blocks costs no memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scratch_models.loop.seeds import mixed_seed

ROUNDS = 4


def shuffled_place(place: int, size: int, *key: int) -> int:
    """Where the thing at a place stands in an order that the key decides: a permutation of `size` places.

    A Feistel network over at least as many places (Luby and Rackoff 1988), walked until it comes back inside (Black and
    Rogaway 2002, "Ciphers with Arbitrary Finite Domains", section 3).

    >>> sorted(shuffled_place(place, 10, 3) for place in range(10)) == list(range(10))
    True
    """
    bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << bits) - 1
    while True:
        left, right = place >> bits, place & mask
        for turn in range(ROUNDS):
            left, right = right, left ^ (mixed_seed(*key, turn, right) & mask)
        place = (left << bits) | right
        if place < size:
            return place


@dataclass(frozen=True)
class BlockOrder:
    """Where each block of a run begins."""

    tokens: Sequence[int]
    """Of each text."""
    shares: Sequence[float]
    """Of each text in what is read; they add up to 1."""
    block_size: int
    seed: int

    def blocks_of(self, text: int) -> int:
        """Whole blocks with their targets that a text has."""
        return (self.tokens[text] - 1) // self.block_size

    def read_before(self, blocks: int) -> list[int]:
        """How many blocks of each text are among the first so many: its share, rounded so that the sum is right.

        >>> BlockOrder([999, 999], [0.75, 0.25], block_size=8, seed=0).read_before(8)
        [6, 2]
        """
        ends = np.rint(np.cumsum(self.shares) * blocks).astype(np.int64)
        return np.diff(ends, prepend=0).tolist()

    def starts(self, first: int, end: int) -> list[tuple[int, int]]:
        """Text and first token of the blocks from number `first` to before `end` of the run."""
        found = []
        for text, (begin, stop) in enumerate(zip(self.read_before(first), self.read_before(end), strict=True)):
            found += [(text, self._start(text, number)) for number in range(begin, stop)]
        return found

    def _start(self, text: int, number: int) -> int:
        blocks = self.blocks_of(text)
        epoch, place = divmod(number, blocks)
        spare = (self.tokens[text] - 1) % self.block_size
        shift = mixed_seed(self.seed, text, epoch) % (spare + 1)  # so that an epoch leaves out another end
        return shift + self.block_size * shuffled_place(place, blocks, self.seed, text, epoch)
