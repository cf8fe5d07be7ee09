"""Whether a text nearly equals one of some that are known, so that nothing held out is learned from.

The measure is that of `near_duplicates`: a Jaccard similarity of at least 0.7 of the sets of word trigrams. It is
computed exactly, and what is kept in memory grows with the known texts alone, not with those that are asked about.
"""

from collections import Counter
from collections.abc import Iterable

from scratch_models.documents.near_duplicates import SIMILARITY, shingles, words_of


class KnownTexts:
    """Texts that others are compared with.

    >>> known = KnownTexts(["Return the sum of x.", "An entirely different text here."])
    >>> known.has_near("return the SUM of x"), known.has_near("Return the product of x and y, as a float.")
    (True, False)
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._sizes: list[int] = []
        self._with: dict[int, list[int]] = {}
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, text: str) -> None:
        """Makes a text known."""
        runs = shingles(words_of(text))
        for run in runs:
            self._with.setdefault(hash(run), []).append(len(self._sizes))
        self._sizes.append(len(runs))

    def has_near(self, text: str) -> bool:
        """Whether one of the known texts is a near-duplicate of it."""
        runs = shingles(words_of(text))
        shared = Counter(number for run in runs for number in self._with.get(hash(run), ()))
        return any(both >= SIMILARITY * (len(runs) + self._sizes[number] - both) for number, both in shared.items())
