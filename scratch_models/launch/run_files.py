"""The files of a run that goes on, which may come from somebody else: each is a file of that folder, and not huge."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from configs import InputError

WRITTEN = ("run.json", "metrics.jsonl", "report.json", "report.html", "checkpoints", "best", "final", "merged")
"""What a run leaves in its folder; whatever else lies there is not read."""
LARGEST_JSON, LARGEST_METRICS = 2**26, 2**30


def check_run_files(folder: Path) -> None:
    """Refuses a run with a file or folder, of those that a run leaves, that is a link, no regular file, or huge.

    Raises:
        InputError: there is one; the message names it.

    """
    for path in _paths(folder):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            raise InputError(
                f"{path}: is a link to {path.readlink()}, expected a file or folder of the run: put what it points at "
                "in its place"
            )
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise InputError(
                f"{path}: is no regular file, expected what a run wrote there: remove it, or start a new run"
            )
        most = {".json": LARGEST_JSON, ".jsonl": LARGEST_METRICS}.get(path.suffix)
        if most is not None and found.st_size > most:
            raise InputError(
                f"{path}: has {found.st_size:,} bytes, expected at most {most:,}: remove it, or start a new run"
            )


def _paths(folder: Path) -> Iterator[Path]:
    for name in WRITTEN:
        if os.path.lexists(folder / name):
            yield folder / name
        for inside, folders, files in os.walk(folder / name):  # which does not go into links
            yield from (Path(inside, one) for one in (*folders, *files))
