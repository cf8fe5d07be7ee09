"""Items in the order in which they were read: in memory while they are few, else in a file that no one else sees."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Generic, TypeVar

import numpy as np

from configs import InputError
from configs.cache_folder import cache_folder

Item = TypeVar("Item")

BYTES_IN_MEMORY = 64 * 2**20
BYTES_READ_AT_ONCE = 4 * 2**20


@dataclass(frozen=True)
class Codec(Generic[Item]):
    """How an item is written as bytes, and read again."""

    write: Callable[[Item], bytes]
    read: Callable[[bytes], Item]


class StoredItems(Sequence[Item]):
    """Items that can be read by their number, whatever memory all of them would take.

    They lie one behind the other, in a file once they are many. It is beside the caches, since a folder for temporary
    files may be one in memory; it has no name, and the system clears it however the process ends.

    >>> stored = StoredItems(Codec(str.encode, bytes.decode))
    >>> for text in ("user", "1+1?", "2"):
    ...     stored.append(text)
    >>> stored[1], len(stored), list(stored.only(np.array([2, 0])))
    ('1+1?', 3, ['2', 'user'])
    """

    def __init__(self, codec: Codec[Item], kept: tuple[Path, Path] | None = None) -> None:
        """None as yet, or those `kept` in two files: the items, and where each of them ends."""
        self.codec = codec
        self._file: IO[bytes]
        if kept is None:
            self._file = SpooledTemporaryFile(BYTES_IN_MEMORY, dir=str(cache_folder()))  # noqa: SIM115 - stays open
            self._ends: array[int] | np.ndarray = array("q", [0])
        else:
            self._file = kept[0].open("rb")
            self._ends = np.fromfile(kept[1], dtype=np.int64)

    def append(self, item: Item) -> None:
        """Puts an item behind the others.

        Raises:
            InputError: the disk is full, or closed to us.

        """
        assert isinstance(self._ends, array)
        content = self.codec.write(item)
        end = self._ends[-1] + len(content)
        with self._named_errors():
            if self._ends[-1] <= BYTES_IN_MEMORY < end:  # now the file is made
                cache_folder().mkdir(parents=True, exist_ok=True)
            self._file.seek(self._ends[-1])
            self._file.write(content)
        self._ends.append(end)

    @property
    def size(self) -> int:
        """The bytes of all items."""
        return int(self._ends[-1]) if len(self._ends) else -1

    def only(self, numbers: np.ndarray) -> "ChosenItems[Item]":
        """The items of some numbers, which stay where they lie."""
        return ChosenItems(self, numbers)

    def keep(self, items: Path, ends: Path) -> None:
        """Writes all items, and where each ends, into two files."""
        self.only(np.arange(len(self))).keep(items, ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.only(np.arange(len(self))[number])
        place = range(len(self))[number]
        return self.codec.read(self._between(place, place + 1))

    def __iter__(self) -> Iterator[Item]:
        return iter(self.only(np.arange(len(self))))

    def contents(self, numbers: np.ndarray) -> Iterator[bytes]:
        """The items of some numbers one by one as bytes; those that follow one another are read together."""
        place = 0
        while place < len(numbers):
            first = int(numbers[place])
            last = first + 1
            while (
                place + last - first < len(numbers)
                and numbers[place + last - first] == last
                and self._ends[last] - self._ends[first] < BYTES_READ_AT_ONCE
            ):
                last += 1
            content = self._between(first, last)
            ends = [int(end - self._ends[first]) for end in self._ends[first : last + 1]]
            yield from (content[begin:end] for begin, end in pairwise(ends))
            place += last - first

    def _between(self, first: int, last: int) -> bytes:
        with self._named_errors():  # what was written last may still be on its way to the disk
            self._file.seek(int(self._ends[first]))
            return self._file.read(int(self._ends[last] - self._ends[first]))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with suppress(OSError):  # it tries once more to write, which must not be told by the interpreter at its end
                self._file.close()
            raise InputError(
                f"{cache_folder()}: {error.strerror} after {self.size >> 20:,} MiB; what does not fit into memory "
                "is kept there while it is read: make room, or set XDG_CACHE_HOME to a folder that has some"
            ) from None

    def __eq__(self, other: object) -> bool:
        return _are_equal(self, other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none


class ChosenItems(Sequence[Item], Generic[Item]):
    """Some of the items of a store, in an order of their own."""

    def __init__(self, store: StoredItems[Item], numbers: np.ndarray) -> None:
        self.store, self.numbers = store, numbers

    def only(self, numbers: np.ndarray) -> "ChosenItems[Item]":
        """Those at some places among these."""
        return ChosenItems(self.store, self.numbers[numbers])

    def keep(self, items: Path, ends: Path) -> None:
        """Writes these items, and where each ends, into two files."""
        lengths = array("q", [0])
        with items.open("wb") as file:
            for content in self.store.contents(self.numbers):
                lengths.append(file.write(content))
        np.cumsum(np.frombuffer(lengths, dtype=np.int64)).tofile(ends)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: Any) -> Any:
        chosen = self.numbers[number]
        return ChosenItems(self.store, chosen) if isinstance(number, slice) else self.store[int(chosen)]

    def __iter__(self) -> Iterator[Item]:
        return map(self.store.codec.read, self.store.contents(self.numbers))

    def __eq__(self, other: object) -> bool:
        return _are_equal(self, other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none


Stored = StoredItems[Item] | ChosenItems[Item]


def _are_equal(left: Sequence[Any], right: object) -> bool:
    return (
        isinstance(right, Sequence)
        and len(left) == len(right)
        and all(one == other for one, other in zip(left, right, strict=True))
    )
