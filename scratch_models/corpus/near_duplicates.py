"""Groups of near-duplicate texts, so that a split never puts two versions of one text on both sides.

Two texts are near-duplicates when the Jaccard similarity of their sets of word trigrams is at least 0.7 (after Lee et
al. 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2). Groups are the connected components.
MinHash (Broder 1997, in datasketch) proposes pairs at a lower similarity, and each proposal is then checked exactly.
"""

import re
import zlib
from collections.abc import Hashable, Iterable, Sequence

from configs import InputError
from tokenizer_ext.pages.progress import shown

SIMILARITY = 0.7
PROPOSAL_SIMILARITY = 0.5
WORDS_PER_SHINGLE = 3
PERMUTATIONS = 64
WORD = re.compile(r"\w+")


@shown("looking for near-duplicates")
def near_duplicate_groups(texts: Sequence[str]) -> list[int]:
    """The group of each text, named by the position of its first member.

    >>> near_duplicate_groups(["Return the sum of x.", "An entirely different text here.", "return the SUM of x"])
    [0, 1, 0]

    Raises:
        InputError: the package datasketch is missing.

    """
    groups = _Groups(len(texts))
    words = [words_of(text) for text in texts]
    first_with: dict[tuple[str, ...], int] = {}
    for position, key in enumerate(words):
        groups.join(first_with.setdefault(tuple(key), position), position)
    distinct = sorted(first_with.values())
    shingle_sets = [shingles(words[position]) for position in distinct]
    for first, second in _proposed_pairs(shingle_sets):
        left, right = distinct[first], distinct[second]
        if groups.of(left) != groups.of(right) and jaccard(shingle_sets[first], shingle_sets[second]) >= SIMILARITY:
            groups.join(left, right)
    return [groups.of(position) for position in range(len(texts))]


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without what stands between them.

    >>> words_of("Return the SUM, of x_1!")
    ['return', 'the', 'sum', 'of', 'x_1']
    """
    return WORD.findall(text.lower())


def shingles(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """The set of runs of three words; a shorter text is one run.

    >>> sorted(shingles(["a", "b", "c", "d"]))
    [('a', 'b', 'c'), ('b', 'c', 'd')]
    """
    if len(words) < WORDS_PER_SHINGLE:
        return frozenset((tuple(words),))
    return frozenset(zip(*(words[start:] for start in range(WORDS_PER_SHINGLE)), strict=False))


def jaccard(left: frozenset[Hashable], right: frozenset[Hashable]) -> float:
    """Shared members over all members.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    return len(left & right) / len(left | right)


class _Groups:
    """Disjoint sets of positions; a set is named by its smallest position."""

    def __init__(self, size: int) -> None:
        self.parents = list(range(size))

    def of(self, position: int) -> int:
        while self.parents[position] != position:
            self.parents[position] = self.parents[self.parents[position]]
            position = self.parents[position]
        return position

    def join(self, left: int, right: int) -> None:
        first, second = sorted((self.of(left), self.of(right)))
        self.parents[second] = first


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _proposed_pairs(shingle_sets: Sequence[frozenset[tuple[str, ...]]]) -> Iterable[tuple[int, int]]:
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as missing:
        raise InputError("near-duplicate groups need datasketch: pip install 'graft-lm[embedded]'") from missing
    index = MinHashLSH(threshold=PROPOSAL_SIMILARITY, num_perm=PERMUTATIONS)
    encoded = ([" ".join(shingle).encode() for shingle in members] for members in shingle_sets)
    for position, sketch in enumerate(MinHash.generator(encoded, num_perm=PERMUTATIONS, hashfunc=zlib.crc32)):
        for earlier in index.query(sketch):
            yield earlier, position
        index.insert(position, sketch, check_duplication=False)
