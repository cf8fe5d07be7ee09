"""Weights mapped from their files: what of them is never asked for never comes into memory, nor stays by being checked.

A page of a map takes memory from the first look at it on. Whoever looks at all of a weight once (its hash, whether its
numbers are finite) reads the file instead, a few rows at a time. That the weight is that very stretch of the file is
what the system says of the pages (https://docs.kernel.org/filesystems/proc.html, `maps`;
https://docs.kernel.org/admin-guide/mm/pagemap.html, bits 61 to 63); where it does not, memory is read.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs import InputError
from tokenizer_ext.foreign.json_in_folder import GET_ANEW
from tokenizer_ext.foreign.weight_headers import StoredTensor
from tokenizer_ext.held_weights.stored_slices import TYPES, pieces_of

NUMBERS_AT_ONCE = 2**22
"""Of a weight that is in memory: what looking makes of a whole table would be the largest thing there."""
LEAST_BYTES = 2**20
"""Of a weight that is worth asking the system for."""
PRESENT, SWAPPED, OF_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))
NAMES = {dtype: name for name, dtype in TYPES.items()}


def map_rows(name: str, stored: StoredTensor, first: int, rows: int) -> Tensor:
    """So many rows of a stored tensor, from the first one on, mapped from their file: (rows, ...).

    What is written into them stays in this process.

    Raises:
        InputError: the file ends before them, or cannot be read.

    """
    dtype, shape = TYPES[stored.type], (rows, *stored.shape[1:])
    row_bytes = math.prod(stored.shape[1:]) * dtype.itemsize
    try:
        place, size = stored.start + first * row_bytes, rows * row_bytes
        numbers = np.memmap(stored.file, dtype=np.uint8, mode="c", offset=place, shape=(size,))
    except (OSError, ValueError) as error:
        raise InputError(f"{stored.file}: {name} cannot be mapped ({error}): {GET_ANEW}") from None
    return torch.from_numpy(numbers).view(dtype).view(shape)


def pieces(weight: Tensor) -> Iterator[Tensor]:
    """The numbers of a weight in their order, some at a time; from its file where it is mapped from there.

    >>> [piece.tolist() for piece in pieces(torch.ones(2, 2))]
    [[1.0, 1.0, 1.0, 1.0]]
    """
    stored = place_in_file(weight)
    if stored is None:
        yield from weight.detach().reshape(-1).split(NUMBERS_AT_ONCE)
    else:
        yield from pieces_of("a weight", stored, stored.shape[0])


def place_in_file(weight: Tensor) -> StoredTensor | None:
    """Where in a file a weight's memory is mapped from, if no number of it was changed since; None where it is not."""
    if weight.device.type != "cpu" or weight.nbytes < LEAST_BYTES or weight.dtype not in NAMES:
        return None
    if not weight.is_contiguous() or weight.ndim == 0:
        return None
    begin, end = weight.data_ptr(), weight.data_ptr() + weight.nbytes
    try:
        found = _find_map(begin, end)
        if found is None or not _is_unchanged(begin, end):
            return None
    except (OSError, ValueError):  # another system, or one that does not say it
        return None
    return StoredTensor(NAMES[weight.dtype], tuple(weight.shape), *found)


def _find_map(begin: int, end: int) -> tuple[Path, int] | None:
    """The file that addresses are mapped from, and the first one's place there."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            addresses, _, offset, device, inode, *path = line.rstrip("\n").split(maxsplit=5)
            first, last = (int(address, 16) for address in addresses.split("-"))
            if first <= begin and end <= last:
                file = Path(path[0]) if path else None
                is_there = file is not None and _is_file(file, device, int(inode))
                return (file, begin - first + int(offset, 16)) if is_there and file is not None else None
    return None


def _is_file(path: Path, device: str, inode: int) -> bool:
    """Whether what a map is of still stands by its name."""
    state = os.stat(path)
    return inode == state.st_ino and device == f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}"


def _is_unchanged(begin: int, end: int) -> bool:
    """Whether each page of some addresses is the file's own: a page that was written to is a copy."""
    page = os.sysconf("SC_PAGE_SIZE")
    first, last = begin // page, -(-end // page)
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(8 * first)
        states = np.frombuffer(pagemap.read(8 * (last - first)), dtype=np.uint64)
    copies = ((states & PRESENT != 0) & (states & OF_FILE == 0)) | (states & SWAPPED != 0)
    return len(states) == last - first and not copies.any()
