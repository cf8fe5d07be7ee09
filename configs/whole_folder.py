"""Folders and files that are complete or absent, wherever whoever writes them is stopped.

What is new is written beside its place, flushed to the disk, and moved there by one rename. A kill leaves the old, the
new, or for a moment neither, and beside them names that begin with a dot, which the next write clears.
"""

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.errors import InputError


@contextmanager
def whole_folder(target: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `target` at the end; after an exception nothing is left.

    Args:
        target: What is there already is removed once the new one is in its place.
        shared: Whether others may write the same folder at the same time; the last of them stays.

    """
    target = Path(target).resolve()
    partial, replaced = _beside(target, "partial", shared=shared), _beside(target, "replaced", shared=shared)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _flush_folder(partial)
        _put(partial, target, replaced)
        _flush(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_whole(folder: Path) -> None:
    """Removes a folder so that it is whole or gone under its name, wherever that is stopped."""
    gone = _beside(folder.resolve(), "replaced")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(folder, gone)
    shutil.rmtree(gone)


def check_new_folder(folder: str | Path) -> None:
    """Refuses a folder that holds something, or that the finished one could not replace."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"output_dir {path}: is not an empty folder: choose a new one")
    if path.is_mount() or path.resolve() == Path.cwd():  # the finished folder takes its place as a whole
        raise InputError(f"output_dir {path}: cannot be replaced by the finished folder: name a new folder inside it")


def write_whole(target: str | Path, content: str | bytes, *, shared: bool = False) -> None:
    """Writes a file, text in UTF-8, that holds the old content or the new one; `shared` as for a folder."""
    target = Path(target).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(target, "partial", shared=shared)
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    _flush(target.parent)


def _flush_folder(folder: Path) -> None:
    """Has the disk hold every file of a folder, and the names of those."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _beside(target: Path, what: str, *, shared: bool = False) -> Path:
    writer = f".{os.getpid()}-{threading.get_ident()}" if shared else ""
    return target.with_name(f".{target.name}{writer}.{what}")


def _put(partial: Path, target: Path, replaced: Path) -> None:
    """Moves the new folder to its place, the old one away before it; where that fails the old one is put back."""
    try:
        while not _renamed(partial, target):
            shutil.rmtree(replaced, ignore_errors=True)
            with suppress(FileNotFoundError):  # whoever writes the same one moved it away already
                os.rename(target, replaced)
    except BaseException:
        if replaced.exists() and not target.exists():
            os.rename(replaced, target)
        raise


def _renamed(partial: Path, target: Path) -> bool:
    """Whether the folder could be moved: a folder that holds something stands in its way, an empty one does not."""
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
