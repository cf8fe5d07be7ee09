"""Folders and files that are complete or absent, wherever whoever writes them is stopped.

What is new is written beside its place, flushed to the disk, and moved there by one rename. A kill leaves the old, the
new, or for a moment neither, and beside them names that begin with a dot, which the next write clears. A link that
stands at any of these names is replaced and never followed: the folder of a run may come from somebody else.
"""

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.disk_space import bytes_beneath, check_space, full_disk_said
from configs.errors import InputError


@contextmanager
def whole_folder(target: str | Path, *, shared: bool = False, needed: int = 0) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `target` at the end; after an exception nothing is left.

    Args:
        target: What is there already is removed once the new one is in its place.
        shared: Whether others may write the same folder at the same time; the last of them stays.
        needed: Bytes that it will take at least, where that is known.

    Raises:
        FullDisk: the disk has no room for it.

    """
    target = _own_place(target)
    partial, replaced = _beside(target, "partial", shared=shared), _beside(target, "replaced", shared=shared)
    for leftover in (partial, replaced):
        _remove(leftover)
    check_space(target, needed)
    try:
        with full_disk_said(target, lambda: max(needed, bytes_beneath(partial)), lambda: bytes_beneath(partial)):
            partial.mkdir(parents=True)
            yield partial
            _flush_folder(partial)
            _put(partial, target, replaced)
        _flush(target.parent)
        _remove(replaced)
    finally:
        _remove(partial)


def remove_whole(folder: Path) -> None:
    """Removes a folder so that it is whole or gone under its name, wherever that is stopped."""
    gone = _beside(_own_place(folder), "replaced")
    _remove(gone)
    os.rename(folder, gone)
    _remove(gone)


def check_new_folder(folder: str | Path) -> None:
    """Refuses a folder that holds something, or that the finished one could not replace."""
    path = Path(folder)
    if path.is_symlink():
        raise InputError(
            f"output_dir {path}: is a link, which the finished folder would replace: name {path.resolve()}"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"output_dir {path}: is not an empty folder: choose a new one")
    if path.is_mount() or path.resolve() == Path.cwd():  # the finished folder takes its place as a whole
        raise InputError(f"output_dir {path}: cannot be replaced by the finished folder: name a new folder inside it")


def write_whole(target: str | Path, content: str | bytes, *, shared: bool = False) -> None:
    """Writes a file, text in UTF-8, that holds the old content or the new one; `shared` as for a folder.

    Raises:
        FullDisk: the disk has no room for it.

    """
    target = _own_place(target)
    written = content.encode() if isinstance(content, str) else content
    partial = _beside(target, "partial", shared=shared)
    try:
        with full_disk_said(target, lambda: len(written), lambda: bytes_beneath(partial)):
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            with partial.open("xb") as file:  # a link that somebody put there meanwhile is no new file
                file.write(written)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
    finally:
        _remove(partial)
    _flush(target.parent)


def _own_place(target: str | Path) -> Path:
    """The absolute name of a file or folder; links on the way to it are followed, what stands there itself is not."""
    absolute = Path(os.path.abspath(target))
    return absolute.parent.resolve() / absolute.name


def _remove(path: Path) -> None:
    """Removes a folder, a file or a link, whatever is there; what cannot be removed stays."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


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
            _remove(replaced)
            with suppress(FileNotFoundError):  # whoever writes the same one moved it away already
                os.rename(target, replaced)
    except BaseException:
        if os.path.lexists(replaced) and not os.path.lexists(target):
            os.rename(replaced, target)
        raise


def _renamed(partial: Path, target: Path) -> bool:
    """Whether the folder could be moved: a folder that holds something, a file or a link stand in its way."""
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
