"""A disk that is full, said in one line with the bytes that are needed and those that are free."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from configs.errors import FullDisk

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no more in the quota, and a file larger than it may be."""
IN_WORDS = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
"""How libraries in Rust, safetensors and tokenizers, hand on the number of an error; and a copy of a whole folder."""


def check_space(target: Path, needed: int) -> None:
    """Refuses to begin what the disk has no room for.

    Raises:
        FullDisk: there is less free than needed.

    """
    free = free_bytes(target)
    if free < needed:
        raise FullDisk(f"{target}: needs {needed:,} bytes, {free:,} are free: make room or choose another folder")


@contextmanager
def full_disk_said(
    target: Path, needed: Callable[[], int], given_back: Callable[[], int] = lambda: 0
) -> Iterator[None]:
    """Turns the error of a disk that is full into one line.

    Args:
        target: What is written.
        needed: Bytes that it takes, or has taken so far.
        given_back: Of those, what is free again once the half-written one is removed.

    Raises:
        FullDisk: the disk is full.

    """
    try:
        yield
    except Exception as error:
        reason = describe_full_disk(error)
        if reason is None:
            raise
        wanted, free = needed(), free_bytes(target) + given_back()
        least = "" if wanted > free else "more than "  # of what was half written the whole is not known
        raise FullDisk(
            f"{target}: cannot be written ({reason}): needs {least}{wanted:,} bytes, {free:,} are free: make room or "
            "choose another folder; what was there before is as it was"
        ) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, where the system keeps such ones: `TMPDIR` names another place.

    Raises:
        FullDisk: the disk is full there.

    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        with full_disk_said(folder, lambda: bytes_beneath(folder), lambda: bytes_beneath(folder)):
            yield folder


def describe_full_disk(error: BaseException) -> str | None:
    """What the system says of a full disk; None where an error is another."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := IN_WORDS.search(str(error))):
        number = int(found[1] or found[2])
    return os.strerror(number) if number in FULL else None


def free_bytes(target: Path) -> int:
    """Bytes that are free where a file or folder is, or would be."""
    for path in (target, *target.absolute().parents):
        with suppress(FileNotFoundError):  # or another process takes it away between two looks
            return shutil.disk_usage(path).free
    return shutil.disk_usage(Path.cwd()).free


def bytes_beneath(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 where there is nothing."""
    total = 0
    with suppress(OSError):
        for found in (path, *path.rglob("*")):
            total += 0 if found.is_dir() else found.lstat().st_size
    return total
