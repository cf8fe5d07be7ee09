"""A process that is killed at each call that changes a file, one after the other, as by SIGKILL or a lost machine."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

# What Python itself tells of changes to files (docs.python.org/3/library/audit_events.html); an `open` for reading is
# told apart by its mode. Files that safetensors writes by itself lie between two of them.
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"}


def kill_at_every_change(write: Callable[[], Any], beneath: Path, most: int = 200) -> Iterator[int]:
    """Yields after each write that was killed: at the first change beneath a folder, then at the second, and so on.

    The last write, which came to its end, yields nothing; it must have made changes, and not fail.
    """
    for number in range(most):
        child = os.fork()
        if child == 0:
            _write_and_die(write, beneath, number)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            yield number
            continue
        assert os.waitstatus_to_exitcode(status) == 0, "the write failed by itself"
        assert number > 0, "nothing was written"
        return
    raise AssertionError(f"more than {most} changes")


def _write_and_die(write: Callable[[], Any], beneath: Path, number: int) -> None:
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if not _changes(event, arguments) or not _lies_beneath(arguments[0], beneath):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sys.addaudithook(watch)
    _write_and_leave(write)


def _write_and_leave(write: Callable[[], Any]) -> NoReturn:
    status = 1
    try:
        write()
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.__stderr__, flush=True)
    finally:
        os._exit(status)


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        return any(one in (mode or "") for one in "wax+") or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in CHANGES


def _lies_beneath(path: Any, beneath: Path) -> bool:
    # Python removes what lies in a folder by names relative to it.
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    return not os.path.isabs(name) or name.startswith(str(beneath))


def assert_complete_or_absent(write: Callable[[Path], Any], target: Path, *, replaces: bool = False) -> None:
    """A kill at any change leaves what was there, all that an unbroken write makes, or nothing; the next one works.

    Every write happens in a process of its own, so `write` may use up what it saves.

    Args:
        write: Writes the folder that it is given.
        target: A folder that is not there yet, alone in its parent.
        replaces: Whether it may be written over another one.

    """

    def put_back() -> None:
        shutil.rmtree(target, ignore_errors=True)
        for name in old:
            target.mkdir()
            (target / name).touch()

    _run_in_child(lambda: write(target))
    new, old = _files(target), {"old": b""} if replaces else {}
    put_back()
    for number in kill_at_every_change(lambda: write(target), target.parent):
        found = _files(target) if target.is_dir() else {}
        assert found in ({}, old, new), f"change {number}: half a folder: {sorted(found)} of {sorted(new)}"
        assert all(path.name.startswith(f".{target.name}.") for path in target.parent.iterdir() if path != target)
        put_back()
        if number % 5 == 0:  # after every kind of change, which come in groups
            _run_in_child(lambda: write(target))
            assert _files(target) == new
            assert [path.name for path in target.parent.iterdir()] == [target.name]
            put_back()
    assert _files(target) == new


def _run_in_child(write: Callable[[], Any]) -> None:
    child = os.fork()
    if child == 0:
        _write_and_leave(write)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the write failed by itself"


def _files(folder: Path) -> dict[str, bytes]:
    """What the files hold; of a report, whose plots name the moment they were made, the end alone."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content[-10:] if name.endswith(".html") else content for name, content in files.items()}
