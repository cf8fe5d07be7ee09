"""What happened to a job, in the order in which it did: changes of its state, and the lines of its run's metrics."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from configs import InputError
from finetune.runs.database import Database
from finetune.runs.job import Job, JobEvent
from finetune.runs.job_files import METRICS

Level = Literal["info", "warn", "error"]
PREFIX = "ftevent-"


def note_event(
    connection: sqlite3.Connection, job: str, message: str, data: Mapping[str, Any], level: Level = "info"
) -> None:
    """Adds what happened, within the transaction that made it happen."""
    connection.execute(
        "INSERT INTO events (job, created_at, level, type, message, data) VALUES (?, ?, ?, 'message', ?, ?)",
        (job, time.time(), level, message, json.dumps(data)),
    )


def events_of(
    database: Database, job: str, *, after: str | None, limit: int | None, newest_first: bool
) -> list[JobEvent]:
    """The events of a job, from the oldest or from the newest on.

    Args:
        database: The queue.
        job: The job's id.
        after: The event behind which, in that order, they begin.
        limit: How many at most.
        newest_first: The order.

    Raises:
        InputError: `after` is no event of that job.

    """
    query, values = "SELECT * FROM events WHERE job = ?", [job]
    with database.reading() as connection:
        if after is not None:
            number = _number(after)
            if not connection.execute("SELECT 1 FROM events WHERE job = ? AND number = ?", (job, number)).fetchone():
                raise InputError(f"after: {after!r} is no event of {job}, expected the id of one")
            query += f" AND number {'<' if newest_first else '>'} ?"
            values.append(str(number))
        query += f" ORDER BY number {'DESC' if newest_first else 'ASC'} LIMIT ?"
        rows = connection.execute(query, (*values, -1 if limit is None else limit)).fetchall()
    return [_event(row) for row in rows]


class MetricsReader:
    """Makes events of the lines of metrics of a run, each once, also after a resume has written the file anew."""

    def __init__(self, database: Database, job: Job) -> None:
        self.database = database
        self.job = job
        self.path = job.output_dir / METRICS
        self._file = (0, 0)
        self._read_bytes = 0

    def read(self) -> None:
        """Adds the lines that are new."""
        lines, file, read_bytes = _new_lines(self.path, self._file, self._read_bytes)
        if lines:
            with self.database.writing(durable=False) as connection:  # the file has them
                connection.executemany(
                    "INSERT OR IGNORE INTO events (job, created_at, level, type, message, data, digest) "
                    "VALUES (?, ?, 'info', 'metrics', ?, ?, ?)",
                    [(self.job.id, time.time(), *one) for one in _described(lines)],
                )
        self._file, self._read_bytes = file, read_bytes


def _new_lines(path: Path, file: tuple[int, int], read_bytes: int) -> tuple[list[bytes], tuple[int, int], int]:
    """The whole lines that a file has more than were read of it, or all where it is another file."""
    try:
        with path.open("rb") as opened:
            stat = path.stat()
            found = (stat.st_dev, stat.st_ino)
            start = read_bytes if found == file and stat.st_size >= read_bytes else 0
            opened.seek(start)
            whole = opened.read().rpartition(b"\n")[0]
    except FileNotFoundError:
        return [], file, read_bytes
    return (whole.split(b"\n"), found, start + len(whole) + 1) if whole else ([], found, start)


def _described(lines: Iterable[bytes]) -> Iterable[tuple[str, str, bytes]]:
    """Of each line that holds metrics: what is said of it, the line, and what tells it from all others."""
    for line in lines:
        try:
            entry = json.loads(line)
            numbers = {name: value for name, value in entry.items() if name.endswith(("_nats", "_per_byte"))}
            said = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            yield f"step {entry['step']}: {said}" if said else f"step {entry['step']}", json.dumps(entry), _digest(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()[:16]


def _number(event: str) -> int:
    try:
        return int(event.removeprefix(PREFIX), 16) if len(event) == len(PREFIX) + 24 else -1
    except ValueError:
        return -1


def _event(row: sqlite3.Row) -> JobEvent:
    return JobEvent(
        f"{PREFIX}{row['number']:024x}",
        row["created_at"],
        row["level"],
        row["message"],
        row["type"],
        json.loads(row["data"]),
    )
