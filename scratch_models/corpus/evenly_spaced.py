"""Some of many, spread evenly over all."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], number: int) -> list[Item]:
    """So many of the items, evenly from the first to the last; all of them where there are no more.

    >>> evenly_spaced("abcdefg", 3), evenly_spaced("ab", 3)
    (['a', 'c', 'e'], ['a', 'b'])
    """
    number = min(number, len(items))
    return [items[place * len(items) // number] for place in range(number)]
