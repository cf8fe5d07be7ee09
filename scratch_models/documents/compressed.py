"""Compressed files, unpacked as they are read and never past a limit: a few KB may unpack to a terabyte."""

import io
from pathlib import Path
from typing import Any, BinaryIO

from configs import InputError
from configs.errors import first_line

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
ALWAYS_ALLOWED = 256 * 2**20
LARGEST_RATIO = 100
"""JSON of chats becomes 3 to 10 times smaller; ten equal conversations in a hundred would still pass."""


def open_compressed(path: Path) -> BinaryIO:
    """The content of a ``.gz`` or ``.zst`` file; InputError is raised where it is damaged or unpacks too far."""
    import pyarrow

    packed = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), COMPRESSIONS[path.suffix.lower()])
    limit = max(ALWAYS_ALLOWED, LARGEST_RATIO * path.stat().st_size)
    return io.BufferedReader(_Unpacked(packed, path, limit), 2**20)


class _Unpacked(io.RawIOBase):
    """What an Arrow stream unpacks, up to a limit of bytes."""

    def __init__(self, packed: Any, path: Path, limit: int) -> None:
        self.packed, self.path, self.limit, self.bytes_read = packed, path, limit, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self.packed.read(len(buffer))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be unpacked ({first_line(error)}), pack it again") from None
        self.bytes_read += len(content)
        if self.bytes_read > self.limit:
            raise InputError(
                f"{self.path}: unpacks to more than {self.limit // 2**20} MiB, which is the limit for a file of "
                f"{self.path.stat().st_size:,} bytes; unpack it yourself if that is meant"
            )
        buffer[: len(content)] = content
        return len(content)
