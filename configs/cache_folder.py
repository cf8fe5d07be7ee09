"""Where a machine keeps what can be made again."""

import math
import os
import shutil
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """Where things that can be made again are kept: `$XDG_CACHE_HOME/graft`, or `~/.cache/graft`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft"


def drop_oldest(folder: Path, most_entries: int, most_bytes: float = math.inf) -> None:
    """Keeps the entries of a folder that were used last, as many and as much as is allowed, and the newest always.

    A process that has an entry open or mapped keeps reading it.
    """
    used: dict[Path, tuple[float, int]] = {}
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):  # another process has just moved or dropped it
            used[entry] = entry.stat().st_mtime, sum(path.stat().st_size for path in entry.rglob("*"))
    total = 0
    for number, entry in enumerate(sorted(used, key=used.__getitem__, reverse=True)):
        total += used[entry][1]
        if number and (number >= most_entries or total > most_bytes):
            shutil.rmtree(entry, ignore_errors=True)
