"""Items in the order in which they were read: in memory while they are few, else in a file that no one else sees."""

import pickle
from array import array
from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any, Generic, TypeVar

import numpy as np

from configs import InputError
from configs.cache_folder import cache_folder

Item = TypeVar("Item")

BYTES_IN_MEMORY = 64 * 2**20
BYTES_READ_AT_ONCE = 4 * 2**20


class StoredItems(Sequence[Item]):
    """Items that can be read by their number, whatever memory all of them would take.

    They are pickled one behind the other. The file lies beside the caches, since a folder for temporary files may be
    one in memory; it has no name, and the system clears it however the process ends.

    >>> stored = StoredItems([("user", "1+1?"), ("assistant", "2")])
    >>> stored[1], len(stored), list(stored.only(np.array([1, 0])))
    (('assistant', '2'), 2, [('assistant', '2'), ('user', '1+1?')])
    """

    def __init__(self, items: Sequence[Item] = ()) -> None:
        cache_folder().mkdir(parents=True, exist_ok=True)
        self._file = SpooledTemporaryFile(BYTES_IN_MEMORY, dir=str(cache_folder()))  # noqa: SIM115 - open as long as this is
        self._ends = array("q", [0])
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Puts an item behind the others.

        Raises:
            InputError: the disk is full.

        """
        content = pickle.dumps(item, protocol=5)
        try:
            self._file.seek(self._ends[-1])
            self._file.write(content)
        except OSError as error:
            raise InputError(
                f"{cache_folder()}: {error.strerror} after {self._ends[-1] >> 20:,} MiB; what does not fit into memory "
                "is kept there while it is read: make room, or set XDG_CACHE_HOME to a folder that has some"
            ) from None
        self._ends.append(self._ends[-1] + len(content))

    def only(self, numbers: np.ndarray) -> "ChosenItems[Item]":
        """The items of some numbers, which stay where they lie."""
        return ChosenItems(self, numbers)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.only(np.arange(len(self))[number])
        place = range(len(self))[number]
        return pickle.loads(self._read(place, place + 1))

    def __iter__(self) -> Iterator[Item]:
        return self.read(np.arange(len(self)))

    def read(self, numbers: np.ndarray) -> Iterator[Item]:
        """The items of some numbers one by one; those that follow one another are read together."""
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
            content = memoryview(self._read(first, last))
            for number in range(first, last):
                begin, end = (self._ends[one] - self._ends[first] for one in (number, number + 1))
                yield pickle.loads(content[begin:end])
            place += last - first

    def _read(self, first: int, last: int) -> bytes:
        self._file.seek(self._ends[first])
        return self._file.read(self._ends[last] - self._ends[first])

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

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: Any) -> Any:
        chosen = self.numbers[number]
        return ChosenItems(self.store, chosen) if isinstance(number, slice) else self.store[int(chosen)]

    def __iter__(self) -> Iterator[Item]:
        return self.store.read(self.numbers)

    def __eq__(self, other: object) -> bool:
        return _are_equal(self, other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none


def _are_equal(left: Sequence[Any], right: object) -> bool:
    return (
        isinstance(right, Sequence)
        and len(left) == len(right)
        and all(one == other for one, other in zip(left, right, strict=True))
    )
