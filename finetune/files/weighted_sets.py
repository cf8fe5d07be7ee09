"""Several sets to read as one, each with the weight that its records have among the others: ``chats.jsonl:2``."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs import InputError
from finetune.files.rows_in_memory import RowsInMemory
from scratch_models.embedded.default import EMBEDDED

WEIGHTED = re.compile(r"(?P<name>.+):(?P<weight>[^:/@\\]*)")
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf|nan", re.IGNORECASE)

Data = str | Sequence[str]
"""One name of data, or several, each of which may end in a colon and a weight."""


@dataclass(frozen=True)
class WeightedSet:
    """A name of data, and its weight among others; None where none is given to any."""

    name: str
    weight: float | None = None


@dataclass(frozen=True)
class Mixture:
    """Which of several sets each of some records is of, and how much the sets weigh."""

    sets: tuple[WeightedSet, ...]
    set_of: np.ndarray
    """The number of its set for each record, (N,)."""

    @classmethod
    def of(cls, sets: Sequence[WeightedSet], set_of: np.ndarray) -> "Mixture":
        """The mixture of some records.

        Raises:
            InputError: a set has none of them.

        """
        counts = np.bincount(set_of, minlength=len(sets))
        for one, count in zip(sets, counts, strict=True):
            if not count:
                raise InputError(f"{one.name}: nothing of it is left to learn from, expected some: take it out of data")
        return cls(tuple(sets), set_of)

    @property
    def shares(self) -> np.ndarray:
        """The share of each set in what is read, (S,); they add up to 1."""
        weights = np.array([one.weight or 1.0 for one in self.sets])
        return weights / weights.sum()

    def only(self, numbers: np.ndarray) -> "Mixture":
        """The mixture of some of the records."""
        return self.of(self.sets, self.set_of[numbers])

    def describe(self) -> str:
        """How often an epoch, which is as many records as there are, reads each set.

        >>> print(Mixture.of([WeightedSet("a.jsonl", 2.0), WeightedSet("b.csv", 1.0)], np.array([0, 0, 1])).describe())
        a.jsonl (weight 2): 2 read 1 times an epoch; b.csv (weight 1): 1 read 1 times an epoch
        """
        counts = np.bincount(self.set_of)
        often = self.shares * counts.sum() / counts
        return "; ".join(
            f"{one.name} (weight {one.weight:g}): {count:,} read {times:.3g} times an epoch"
            for one, count, times in zip(self.sets, counts, often, strict=True)
        )


def find_twins(sets: Sequence[WeightedSet], hashes: np.ndarray, set_of: np.ndarray) -> np.ndarray:
    """The places of records that a set before theirs holds too, by their hashes and the numbers of their sets, (N,).

    >>> sets = [WeightedSet("a.jsonl"), WeightedSet("b.jsonl")]
    >>> find_twins(sets, np.array([5, 6, 6, 7]), np.array([0, 0, 1, 1])).tolist()
    [2]

    Raises:
        InputError: all of a set stands in another, which would be read twice.

    """
    found: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    own = [np.flatnonzero(set_of == number) for number in range(len(sets))]
    for later, one in enumerate(own):
        for earlier, other in enumerate(own[:later]):
            both = np.intersect1d(hashes[one], hashes[other])
            sizes = [len(np.unique(hashes[which])) for which in (other, one)]
            if len(both) and len(both) == min(sizes):
                raise InputError(
                    f"data: {sets[earlier].name} and {sets[later].name} hold the same rows ({len(both):,} of "
                    f"{sizes[0]:,} and of {sizes[1]:,}), expected different ones: take one of them out"
                )
            found.append(one[np.isin(hashes[one], both)])
    return np.unique(np.concatenate(found))


def read_sets(data: Data) -> list[WeightedSet]:
    """The sets that are named. Where one has a weight, those without have 1.

    >>> read_sets(["chats.jsonl:2", "owner/talks:en@train"])
    [WeightedSet(name='chats.jsonl', weight=2.0), WeightedSet(name='owner/talks:en@train', weight=1.0)]
    >>> read_sets("chats.jsonl")
    [WeightedSet(name='chats.jsonl', weight=None)]

    Raises:
        InputError: there is none, a weight is no number above 0, or one is not to be mixed.

    """
    if isinstance(data, RowsInMemory):
        return [WeightedSet(data)]
    names = [data] if isinstance(data, str) else list(data)
    if not names:
        raise InputError("data: found no name, expected one or more of files, folders and Hub names")
    sets = [_read_set(name) for name in names]
    if len(sets) == 1:
        return [WeightedSet(sets[0].name)]
    if any(one.name == EMBEDDED for one in sets):
        raise InputError(
            f"data: found {EMBEDDED!r} beside others, expected it alone: its held-out questions are made with it"
        )
    if all(one.weight is None for one in sets):
        return sets
    return [WeightedSet(one.name, 1.0 if one.weight is None else one.weight) for one in sets]


def describe_data(data: Data) -> str:
    """The names as they were given, in one line.

    >>> describe_data(["chats.jsonl:2", "talks.csv"])
    'chats.jsonl:2, talks.csv'
    """
    return data if isinstance(data, str) else ", ".join(data)


def _read_set(name: str) -> WeightedSet:
    found = WEIGHTED.fullmatch(name)
    if found is None or _is_there(name):
        return WeightedSet(name)
    weight = found["weight"]
    if not NUMBER.fullmatch(weight):
        if not _is_there(found["name"]):
            return WeightedSet(name)  # what stands there is the configuration of a set on the Hub
        raise InputError(f"data: {name} has the weight {weight!r}, expected a number above 0, as {found['name']}:2")
    if not 0 < float(weight) < math.inf:
        raise InputError(f"data: {name} has the weight {weight}, expected a finite number above 0")
    return WeightedSet(found["name"], float(weight))


def _is_there(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError):  # no name that a file could have
        return False
