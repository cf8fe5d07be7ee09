"""A folder as it stands at one moment: what is in it, as hashes, and a copy that can be put back."""

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "folder"
DRAWN = re.compile(r"\.tmp\w+")
BETWEEN_RUNS = {"metrics.jsonl", "run.json", ".run.json.partial", ".lock"}


def state_of(folder: Path) -> dict[str, str]:
    """Every file, link and folder beneath one, by its name -> what it holds."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*"))}


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return FOLDER if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def digest(state: dict[str, str]) -> str:
    """One hash of a state."""
    return hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()[:16]


def is_one_change(before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether one call can have made one state of the other: it writes, makes, removes or moves one thing."""
    gone, come = before.items() - after.items(), after.items() - before.items()
    moved = Counter(content for _, content in gone) == Counter(content for _, content in come)
    return moved or len({name for name, _ in gone | come}) <= 1 or _replaces(gone, come)


def _replaces(gone: set[tuple[str, str]], come: set[tuple[str, str]]) -> bool:
    """Whether one file took the name and the place of another one."""
    return len(come) == 1 and len(gone) == 2 and come.pop()[0] in dict(gone)


def mapped_and_moved(before: dict[str, str], after: dict[str, str]) -> tuple[str, str] | None:
    """The names of a file that was filled through mapped memory and moved by a call of the kernel; None if none was.

    safetensors saves so since 0.8, and neither comes by the C library.
    """
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    same = all(before[name] == after[name] for name in before.keys() & after.keys())
    if not (same and len(gone) == len(come) == 1):
        return None
    old, new = gone.pop(), come.pop()
    is_moved = Path(old).parent == Path(new).parent and Path(old).name.startswith(".tmp")
    return (old, new) if is_moved and before[old] != after[new] else None


@contextmanager
def written_through_memory(folder: Path, old: str, new: str) -> Iterator[Callable[[float], None]]:
    """Shows a moved file as it stood before, under its old name, with a share of its bytes there and zeros after."""
    content = (folder / new).read_bytes()
    os.rename(folder / new, folder / old)

    def write(share: float) -> None:
        there = int(len(content) * share)
        (folder / old).write_bytes(content[:there] + bytes(len(content) - there))

    try:
        yield write
    finally:
        os.rename(folder / old, folder / new)


def comparable(state: dict[str, str]) -> dict[str, str]:
    """A state without what two equal runs differ in: times and speeds, ids of processes, names that are drawn."""
    return {DRAWN.sub(".tmp", name): "" if Path(name).name in BETWEEN_RUNS else what for name, what in state.items()}


def put_back(copy: Path, folder: Path) -> None:
    """Has a folder hold what the copy holds, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(copy, folder, symlinks=True)
