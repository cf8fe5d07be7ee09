"""One process at a time writes into the folder of a run: a mark in it names the process, its start and its machine.

A mark whose process is gone counts as none, so whoever was killed need not be cleaned up after. On another machine that
cannot be known: there the mark stays until somebody removes it.
"""

import atexit
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLock, Timeout

from configs import InputError

LOCK = ".lock"
SECONDS_TO_WRITE = 2.0
_held: dict[Path, SoftFileLock] = {}


def hold_folder(folder: Path) -> None:
    """Keeps other processes from writing into the folder, until `release_folders` or the end of this process.

    Raises:
        InputError: another process writes into it.

    """
    folder = folder.resolve()
    if folder in _held:
        return
    lock = SoftFileLock(folder / LOCK)
    # A mark of a process that is gone is taken away by the first attempt, and the second finds none.
    for attempts_left in (2, 1, 0):
        _drop_unfinished(folder / LOCK, lock)
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not attempts_left:
                raise InputError(_describe_holder(folder, lock)) from None
    _held[folder] = lock


def refuse_held(folder: Path) -> None:
    """Refuses a folder into which another process writes.

    Raises:
        InputError: one does.

    """
    if folder.resolve() not in _held and (folder / LOCK).exists():
        hold_folder(folder)
        _held.pop(folder.resolve()).release()


@contextmanager
def folders_released() -> Iterator[None]:
    """Releases what is held inside, however it ends; serves as decorator of what makes a run."""
    try:
        yield
    finally:
        release_folders()


@atexit.register
def release_folders() -> None:
    """Lets other processes write into the folders that this one held."""
    while _held:
        with suppress(OSError):
            _held.popitem()[1].release()


def _drop_unfinished(mark: Path, lock: SoftFileLock) -> None:
    """Takes away a mark without a whole name, once it is too old to get one: its process was killed as it wrote."""
    with suppress(OSError):  # it is gone, or it is none that this process may take away
        while lock.pid is None:
            if (left := mark.stat().st_mtime + SECONDS_TO_WRITE - time.time()) <= 0:
                mark.unlink()
            time.sleep(max(0.0, min(left, SECONDS_TO_WRITE)))


def _describe_holder(folder: Path, lock: SoftFileLock) -> str:
    try:
        pid, host, *_ = (folder / LOCK).read_text(encoding="utf-8").splitlines()
        holder = f"process {pid} on {host}"
    except (OSError, ValueError):
        holder = f"process {lock.pid or 'unknown'}"
    return (
        f"output_dir {folder}: another run writes into it ({holder}): wait for its end or choose another folder; if "
        f"that process is gone, remove {folder / LOCK}"
    )
