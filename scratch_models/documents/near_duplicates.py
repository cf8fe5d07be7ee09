"""Groups of near-duplicate texts, so that a split never puts two versions of one text on both sides.

Two texts are near-duplicates when the Jaccard similarity of their sets of word trigrams is at least 0.7 (after Lee et
al. 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2). Groups are the connected components.
MinHash (Broder 1997, in datasketch) proposes pairs at a lower similarity, and each proposal is then checked exactly.
"""

import re
import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from configs import InputError
from tokenizer_ext.pages.progress import shown

SIMILARITY = 0.7
PROPOSAL_SIMILARITY = 0.5
WORDS_PER_SHINGLE = 3
PERMUTATIONS = 64
PERMUTATIONS_OF_A_STREAM = 128
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


def seen_before() -> Callable[[str], bool]:
    """A test of whether a near-duplicate of a text has come before, which remembers every text that had none.

    For texts that do not all fit into memory: it keeps a sketch of each (some 3 KB), and estimates the similarity from
    two sketches, within about 0.05, where `near_duplicate_groups` computes it.

    >>> is_known = seen_before()
    >>> [is_known(text) for text in ("Return the sum of x.", "An entirely different text here.", "return the SUM of x")]
    [False, False, True]

    Raises:
        InputError: the package datasketch is missing.

    """
    _require_datasketch()
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=PROPOSAL_SIMILARITY, num_perm=PERMUTATIONS_OF_A_STREAM)
    sketches: list[Any] = []

    def is_known(text: str) -> bool:
        sketch = MinHash(num_perm=PERMUTATIONS_OF_A_STREAM, hashfunc=zlib.crc32)
        sketch.update_batch(_encoded(shingles(words_of(text))))
        if any(sketch.jaccard(sketches[earlier]) >= SIMILARITY for earlier in index.query(sketch)):
            return True
        index.insert(len(sketches), sketch, check_duplication=False)
        sketches.append(sketch)
        return False

    return is_known


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


def _require_datasketch() -> None:
    try:
        import datasketch  # noqa: F401
    except ImportError as missing:
        raise InputError("near-duplicates need datasketch: pip install 'graft-lm[embedded]'") from missing


def _encoded(members: Iterable[tuple[str, ...]]) -> list[bytes]:
    return [" ".join(shingle).encode() for shingle in members]


def _proposed_pairs(shingle_sets: Sequence[frozenset[tuple[str, ...]]]) -> Iterable[tuple[int, int]]:
    _require_datasketch()
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=PROPOSAL_SIMILARITY, num_perm=PERMUTATIONS)
    encoded = map(_encoded, shingle_sets)
    for position, sketch in enumerate(MinHash.generator(encoded, num_perm=PERMUTATIONS, hashfunc=zlib.crc32)):
        for earlier in index.query(sketch):
            yield earlier, position
        index.insert(position, sketch, check_duplication=False)
