"""Ids in a file, of which only what is asked for is in memory, so that there may be more of them than fit into it."""

import mmap
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class StoredIds:
    """The ids of a file, an array without a header, read block by block through a map of the file into memory.

    The map is made anew for each read: what one has touched counts as the process's memory until the map is closed.
    The file stays open, so that it can be read to the end of a run even where somebody has removed it.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.dtype = dtype
        self._file = path.open("rb")
        self._bytes = path.stat().st_size

    def __len__(self) -> int:
        return self._bytes // self.dtype.itemsize

    def __getitem__(self, places: slice) -> Tensor:
        """The ids at some places, in memory."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            found = np.frombuffer(mapped, self.dtype)[places].astype(np.int64)
        return torch.from_numpy(found)

    def windows(self, starts: Tensor, size: int) -> Tensor:
        """So many ids from each start on: (B) -> (B, size)."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            places = starts.numpy()[:, None] + np.arange(size)  # (B, size)
            found = np.frombuffer(mapped, self.dtype)[places].astype(np.int64)
        return torch.from_numpy(found)


def windows(ids: Tensor | StoredIds, starts: Tensor, size: int) -> Tensor:
    """So many ids from each start on, wherever they are kept: (B) -> (B, size).

    >>> windows(torch.tensor([5, 6, 7, 8]), torch.tensor([0, 2]), 2).tolist()
    [[5, 6], [7, 8]]
    """
    if isinstance(ids, StoredIds):
        return ids.windows(starts, size)
    return ids[starts[:, None] + torch.arange(size)].long()
