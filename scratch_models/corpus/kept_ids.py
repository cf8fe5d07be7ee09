"""Ids of a corpus that are kept in the cache: opened where they are there, else made, and read in handy parts."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from configs import InputError
from configs.cache_folder import drop_oldest
from configs.errors import FullDisk

MOST_ENTRIES, MOST_BYTES = 16, 50e9
"""Of a folder of the cache; the newest entry is always kept."""
CHARACTERS_AT_ONCE = 2**20


Kept = TypeVar("Kept")
Part = TypeVar("Part")


def open_or_make(entry: Path, open_entry: Callable[[], Kept | None], make_entry: Callable[[], None]) -> Kept:
    """What an entry of the cache holds, made first where it is not there.

    Args:
        entry: Its folder, beside others of its kind, of which the oldest go.
        open_entry: Gives what it holds; None where it is absent or not whole.
        make_entry: Makes it.

    Raises:
        InputError: what it is made of cannot be read, or the cache has no room.

    """
    found = open_entry()
    if found is not None:
        return found
    try:
        make_entry()
        drop_oldest(entry.parent, MOST_ENTRIES, MOST_BYTES)
        found = open_entry()
    except OSError as error:
        if isinstance(error, InputError) and not isinstance(error, FullDisk):
            raise
        raise InputError(
            f"{entry.parent}: cannot keep the ids of the corpus ({error.strerror or error}): set XDG_CACHE_HOME to a "
            "folder with room for up to four bytes an id"
        ) from None
    if found is None:
        raise InputError(f"{entry}: was removed while it was made: start the command again")
    return found


def in_batches(
    parts: Iterable[Part], characters_of: Callable[[Part], int], at_once: int = CHARACTERS_AT_ONCE
) -> Iterator[list[Part]]:
    """The parts in their order, as many at a time as have about so many characters.

    >>> list(in_batches(["one", "two", "three"], len, at_once=5))
    [['one', 'two'], ['three']]
    """
    some: list[Part] = []
    characters = 0
    for part in parts:
        some.append(part)
        characters += characters_of(part)
        if characters >= at_once:
            yield some
            some, characters = [], 0
    if some:
        yield some
