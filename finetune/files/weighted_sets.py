"""Several sets to read as one, each with the weight that its records have among the others: ``chats.jsonl:2``."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import InputError
from finetune.files.rows_in_memory import RowsInMemory
from scratch_models.embedded_default import EMBEDDED

WEIGHTED = re.compile(r"(?P<name>.+):(?P<weight>[^:/@\\]*)")
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf|nan", re.IGNORECASE)

Data = str | Sequence[str]
"""One name of data, or several, each of which may end in a colon and a weight."""


@dataclass(frozen=True)
class WeightedSet:
    """A name of data, and its weight among others; None where none is given to any."""

    name: str
    weight: float | None = None


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
        raise InputError(f"data: found {EMBEDDED!r} beside others, expected it alone: its held-out questions are made with it")
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
