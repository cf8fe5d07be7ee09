"""How a job goes from one state to the next while it runs: each a transaction that only the current attempt may make.

    queued -> running (taken, not yet claimed) -> running (claimed by its supervisor) -> succeeded, failed, cancelled,
    paused, or queued again where its process was lost

A number counts how often a job was handed to a supervisor. Whoever comes with an older number is too late and changes
nothing; so a job never runs twice, whoever is killed when.
"""

import sqlite3
import time
from collections.abc import Sequence

from finetune.runs.database import Database
from finetune.runs.job import ENDED, JobState
from finetune.runs.job_events import Level, note_event

MOST_LOST = 3
"""How often a process may be lost before its job counts as failed."""


def take_next(database: Database, devices: Sequence[str]) -> tuple[str, int, str] | None:
    """The oldest queued job, made the running one of the first device that is free, with its attempt; None if none is.

    Its place in the order is that of the day it was added: one that was paused, or lost, comes before later ones.
    """
    with database.writing() as connection:
        busy = {row["device"] for row in connection.execute("SELECT device FROM jobs WHERE state = 'running'")}
        free = next((device for device in devices if device not in busy), None)
        row = connection.execute("SELECT * FROM jobs WHERE state = 'queued' ORDER BY place LIMIT 1").fetchone()
        if free is None or row is None:
            return None
        connection.execute(
            "UPDATE jobs SET state = 'running', attempt = attempt + 1, begun = NULL, pid = NULL, pid_started = NULL, "
            "device = ?, wanted = NULL, started_at = coalesce(started_at, ?) WHERE id = ?",
            (free, time.time(), row["id"]),
        )
        note_event(connection, row["id"], f"runs on {free}", {"state": "running", "device": free})
        return row["id"], row["attempt"] + 1, free


def claim(database: Database, job: str, attempt: int, pid: int, pid_started: str) -> bool:
    """Makes a supervisor the one of the job; False where the attempt is no longer the current one, or is taken.

    Where no earlier attempt has started the job's process, this one does.
    """
    with database.writing() as connection:
        return _changed(
            connection,
            "UPDATE jobs SET pid = ?, pid_started = ?, begun = coalesce(begun, attempt) "
            "WHERE id = ? AND attempt = ? AND state = 'running' AND pid IS NULL",
            (pid, pid_started, job, attempt),
        )


def hand_on(database: Database, job: str, attempt: int) -> int | None:
    """The number of a further attempt for a running job whose supervisor is gone; None where it is not so any more."""
    with database.writing() as connection:
        changed = _changed(
            connection,
            "UPDATE jobs SET attempt = attempt + 1, pid = NULL, pid_started = NULL "
            "WHERE id = ? AND attempt = ? AND state = 'running'",
            (job, attempt),
        )
    return attempt + 1 if changed else None


def end(database: Database, job: str, attempt: int, state: JobState, error: str | None = None) -> bool:
    """Puts a running job into the state that it came to; False where the attempt is no longer the current one."""
    with database.writing() as connection:
        return _end(connection, job, attempt, state, error)


def end_lost(database: Database, job: str, attempt: int, reason: str) -> JobState | None:
    """The state of a job whose process is gone with nobody to say why: queued again, or what it was asked to be.

    None where the attempt is no longer the current one. After three times it has failed, with the reason.
    """
    with database.writing() as connection:
        row = connection.execute("SELECT * FROM jobs WHERE id = ? AND attempt = ?", (job, attempt)).fetchone()
        if row is None or row["state"] != "running":
            return None
        wanted: dict[str | None, JobState] = {"pause": "paused", "cancel": "cancelled"}
        lost = row["lost"] + 1
        state = wanted.get(row["wanted"], "queued" if lost < MOST_LOST else "failed")
        error = f"{reason}, {lost} times: see its log" if state == "failed" else None
        connection.execute("UPDATE jobs SET lost = ? WHERE id = ?", (lost, job))
        _end(connection, job, attempt, state, error, said=None if state != "queued" else f"{reason}: is queued again")
        return state


def note_ended(connection: sqlite3.Connection, job: str, state: JobState, error: str | None, said: str = "") -> None:
    """Adds the event of a new state, and where the job has ended, that its callback is owed."""
    level: Level = "error" if state == "failed" else "info"
    note_event(connection, job, said or error or state, {"state": state, "error": error}, level)
    if state in ENDED:
        connection.execute("INSERT OR REPLACE INTO deliveries (job) VALUES (?)", (job,))


def _end(
    connection: sqlite3.Connection, job: str, attempt: int, state: JobState, error: str | None, said: str | None = None
) -> bool:
    changed = _changed(
        connection,
        "UPDATE jobs SET state = ?, error = ?, ended_at = ?, wanted = NULL, pid = NULL, pid_started = NULL "
        "WHERE id = ? AND attempt = ? AND state = 'running'",
        (state, error, time.time() if state in ENDED else None, job, attempt),
    )
    if changed:
        note_ended(connection, job, state, error, said or "")
    return changed


def _changed(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> bool:
    return connection.execute(statement, values).rowcount == 1
