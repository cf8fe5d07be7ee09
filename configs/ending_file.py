"""What a command came to, in a file that whoever started it has made: its status, and its one line.

Whoever starts a command names the file in `GRAFT_ENDING`. It has its full length before the command begins, so that
even on a disk that is full the command can write into it why it ends.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "GRAFT_ENDING"
FILE_BYTES = 8192
MOST_LETTERS = 1_000


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    status: int
    """What the process ends with; 0 after success, and after a run that was asked to end has saved what it did."""
    line: str = ""
    """The one line that it said; empty after success."""
    stopped: bool = False
    """Whether it was asked to end, has saved, and can go on later."""


def prepare_ending(path: Path) -> None:
    """Makes the file, in its full length and without an ending."""
    with path.open("wb") as file:
        file.write(b" " * FILE_BYTES)
        file.flush()
        os.fsync(file.fileno())


def read_ending(path: Path) -> Ending | None:
    """What the command wrote; None where it has not ended, or was killed."""
    try:
        found = json.loads(path.read_bytes())
        return Ending(int(found["status"]), str(found["line"]), bool(found["stopped"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def take_ending_file() -> Path | None:
    """The file that this process was told to write into; it is told once, processes that it starts are not."""
    name = os.environ.pop(VARIABLE, "")
    return Path(name) if name else None


def write_ending(path: Path | None, ending: Ending) -> None:
    """Writes how this process ends, where somebody asked for it; that it cannot be written changes nothing."""
    if path is None:
        return
    fields = {**asdict(ending), "line": ending.line[:MOST_LETTERS]}
    content = json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace")
    with suppress(OSError), path.open("r+b") as file:
        file.write(content.ljust(FILE_BYTES))
