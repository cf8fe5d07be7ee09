"""The queue: jobs are added, looked at, and asked to pause, to go on or to end. Any process and any thread may."""

import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from configs import InputError
from finetune.runs.database import Database
from finetune.runs.job import STATES, Job, JobCheckpoint, JobEvent, JobState, Wanted, check_name
from finetune.runs.job_events import events_of, note_event
from finetune.runs.job_files import checkpoints_of, log_lines, metrics_of, write_settings
from finetune.runs.kinds import kind_of
from finetune.runs.transitions import note_ended

FILE = "jobs.sqlite"
# Inside the class `list` is a method.
Jobs: TypeAlias = list[Job]
Events: TypeAlias = list[JobEvent]
Checkpoints: TypeAlias = list[JobCheckpoint]
Metrics: TypeAlias = list[dict[str, Any]]
Lines: TypeAlias = list[str]


class JobStore:
    """The jobs under one folder."""

    def __init__(self, folder: str | Path, *, create: bool = True) -> None:
        """Opens the queue of a folder, and makes both where that is asked.

        Raises:
            InputError: there is none, or it cannot be used.

        """
        self.folder = Path(folder).expanduser().absolute()
        self.database = Database(self.folder / FILE, create=create)

    def add(
        self,
        kind: str,
        settings: Mapping[str, Any],
        name: str = "",
        owner: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Job:
        """The new job at the end of the queue; where its results go is the queue's own choice.

        Names of files in the settings are relative to the current folder, as in a command.

        Raises:
            InputError: what the entry would refuse of the settings, in the same words; nothing is written then.

        """
        beside = {"name": name, "owner": owner, "details": json.dumps(details or {}), "directory": os.getcwd()}
        return self._add(kind, settings, beside)

    def get(self, job_id: str) -> Job:
        """The job as it stands.

        Raises:
            InputError: there is none.

        """
        with self.database.reading() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise InputError(f"{job_id!r}: no such job")
        return self._job(row)

    def list(
        self,
        *,
        states: Collection[JobState] | None = None,
        kind: str | None = None,
        owner: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = True,
    ) -> Jobs:
        """Jobs in the order in which they were added, or against it; `after` is the id behind which they begin.

        Raises:
            InputError: a state, a kind or the job of `after` does not exist.

        """
        query, values = "SELECT * FROM jobs WHERE 1", list[Any]()
        if states is not None:
            for state in states:
                if state not in STATES:
                    raise InputError(f"states: found {state!r}, expected some of {', '.join(STATES)}")
            query += f" AND state IN ({', '.join('?' * len(states))})"
            values += states
        for column, value in (("kind", kind), ("owner", owner)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(value)
        if kind is not None:
            kind_of(kind)
        if after is not None:
            self.get(after)
            query += f" AND place {'<' if newest_first else '>'} (SELECT place FROM jobs WHERE id = ?)"
            values.append(after)
        query += f" ORDER BY place {'DESC' if newest_first else 'ASC'} LIMIT ?"
        with self.database.reading() as connection:
            rows = connection.execute(query, (*values, -1 if limit is None else limit)).fetchall()
        return [self._job(row) for row in rows]

    def cancel(self, job_id: str) -> Job:
        """The job, cancelled at once where it waits; where it runs it is asked to end, and killed after 30 seconds.

        Raises:
            InputError: it has ended already.

        """
        return self._ask(job_id, "cancel", "cancelled", waits=("queued", "paused"))

    def pause(self, job_id: str) -> Job:
        """The job, paused at once where it waits; where it runs it is asked to save a checkpoint and to end.

        Raises:
            InputError: it has ended, is paused, or runs and is of a kind that cannot go on later.

        """
        job = self.get(job_id)
        if job.state == "running" and not kind_of(job.kind).trains:
            raise InputError(f"{job_id}: {job.kind} runs and saves no checkpoints, so it cannot be paused: cancel it")
        return self._ask(job_id, "pause", "paused", waits=("queued",))

    def resume(self, job_id: str) -> Job:
        """The job, queued again in its old place: a paused one, or one that failed; it goes on from its checkpoint.

        Raises:
            InputError: it is neither.

        """
        with self.database.writing() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
            state = row["state"] if row else self.get(job_id).state
            if state not in ("paused", "failed"):
                raise InputError(f"{job_id}: is {_said(row)}, expected a job that is paused or has failed")
            connection.execute(
                "UPDATE jobs SET state = 'queued', error = NULL, ended_at = NULL, lost = 0 WHERE id = ?", (job_id,)
            )
            connection.execute("DELETE FROM deliveries WHERE job = ?", (job_id,))
            note_event(connection, job_id, "queued again", {"state": "queued"})
        return self.get(job_id)

    def requeue(self, job_id: str, changes: Mapping[str, Any] | None = None) -> Job:
        """A new job at the end of the queue with the settings of another, changed where `changes` says so.

        Raises:
            InputError: what `add` would refuse.

        """
        job = self.get(job_id)
        beside = {"name": job.name, "owner": job.owner, "directory": job.directory, "details": json.dumps(job.details)}
        return self._add(job.kind, {**job.settings, **(changes or {})}, beside)

    def events(
        self, job_id: str, after: str | None = None, limit: int | None = None, *, newest_first: bool = False
    ) -> Events:
        """What happened to the job: changes of its state, and the lines of its run's metrics.

        Raises:
            InputError: there is no such job, or `after` is no event of it.

        """
        self.get(job_id)
        return events_of(self.database, job_id, after=after, limit=limit, newest_first=newest_first)

    def checkpoints(self, job_id: str) -> Checkpoints:
        """The whole checkpoints of the job's run that are there, oldest first.

        Raises:
            InputError: there is no such job.

        """
        return checkpoints_of(self.get(job_id))

    def metrics(self, job_id: str) -> Metrics:
        """The lines of metrics of the job's run.

        Raises:
            InputError: there is no such job.

        """
        return metrics_of(self.get(job_id))

    def log(self, job_id: str, last_lines: int = 100) -> Lines:
        """The last lines that the job printed.

        Raises:
            InputError: there is no such job, or `last_lines` is no number of lines.

        """
        return log_lines(self.get(job_id), last_lines)

    def _add(self, kind_name: str, settings: Mapping[str, Any], beside: Mapping[str, str]) -> Job:
        kind = kind_of(kind_name)
        check_name(beside["name"])
        given = kind.plain(settings)
        job_id = f"ftjob-{secrets.token_hex(12)}"
        folder = self._folder(job_id)
        try:
            (folder / "run").mkdir(parents=True, mode=0o700)  # some entries ask whether the place of a result exists
            folder.chmod(0o700)
            write_settings(folder / "settings.yaml", kind.module, kind.checked(given, folder / "run"))
            with self.database.writing() as connection:
                connection.execute(
                    "INSERT INTO jobs (id, kind, settings, created_at, state, name, owner, details, directory) "
                    "VALUES (:id, :kind, :settings, :now, 'queued', :name, :owner, :details, :directory)",
                    {**beside, "id": job_id, "kind": kind_name, "settings": json.dumps(given), "now": time.time()},
                )
                note_event(connection, job_id, "queued", {"state": "queued"})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self.get(job_id)

    def _ask(self, job_id: str, wanted: Wanted, at_once: JobState, *, waits: tuple[JobState, ...]) -> Job:
        """Has a job that waits reach a state at once, and notes for one that runs what is wanted of it."""
        with self.database.writing() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if row is not None and row["state"] in waits:
                ended = time.time() if at_once == "cancelled" else None
                connection.execute("UPDATE jobs SET state = ?, ended_at = ? WHERE id = ?", (at_once, ended, job_id))
                note_ended(connection, job_id, at_once, None)
            elif row is not None and row["state"] == "running" and row["wanted"] != "cancel":
                connection.execute("UPDATE jobs SET wanted = ? WHERE id = ?", (wanted, job_id))
                note_event(connection, job_id, f"is asked to {wanted}", {"wanted": wanted})
            elif row is not None and not (row["wanted"] == wanted == "cancel"):
                raise InputError(f"{job_id}: is {_said(row)}, expected one that is running or {' or '.join(waits)}")
        return self.get(job_id)

    def _folder(self, job_id: str) -> Path:
        return self.folder / "jobs" / job_id

    def _job(self, row: sqlite3.Row) -> Job:
        fields = {name: row[name] for name in row.keys() if name != "place"}  # noqa: SIM118
        read = {name: json.loads(row[name]) for name in ("settings", "details")}
        return Job(**{**fields, **read}, folder=self._folder(row["id"]))


def _said(row: sqlite3.Row) -> str:
    return f"{row['state']} and asked to {row['wanted']}" if row["wanted"] else str(row["state"])
