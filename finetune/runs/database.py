"""An SQLite file such as that of the queue, written by several processes at once, each change one transaction.

A connection belongs to one thread of one process. WAL lets others read while one writes; whoever writes takes the lock
first (BEGIN IMMEDIATE), so that what a transaction has read stays so until it ends.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configs import InputError, MissingInput

SECONDS_TO_WAIT = 30.0
SCHEMA = """
CREATE TABLE jobs (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    settings TEXT NOT NULL,
    details TEXT NOT NULL,
    directory TEXT NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    error TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    begun INTEGER,
    lost INTEGER NOT NULL DEFAULT 0,
    pid INTEGER,
    pid_started TEXT,
    device TEXT,
    wanted TEXT
);
CREATE INDEX jobs_by_state ON jobs (state, place);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    created_at REAL NOT NULL,
    level TEXT NOT NULL,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT NOT NULL,
    digest BLOB,
    UNIQUE (job, digest)
);
CREATE INDEX events_by_job ON events (job, number);
CREATE TABLE deliveries (
    job TEXT PRIMARY KEY,
    tries INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL DEFAULT 0
);
"""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What one kind of file holds."""

    what: str
    """Its name in messages."""
    schema: str
    version: int
    """What this code writes; `PRAGMA user_version` of the file says what it is of."""


QUEUE = Tables(what="queue of runs", schema=SCHEMA, version=1)


class Database:
    """Connections to one file."""

    def __init__(self, path: Path, *, create: bool, tables: Tables = QUEUE) -> None:
        """Opens the file, and makes it where that is asked.

        Raises:
            MissingInput: it is not there.
            InputError: it holds something else, or is of a newer version.

        """
        self.path, self.tables = path, tables
        self._of_thread = threading.local()
        if create:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif not path.exists():
            raise MissingInput(f"{path.parent}: holds no {path.name}, expected the folder of a service")
        with self._errors_said():
            self._check_version(create)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection, for one look."""
        with self._errors_said():
            yield self._connection()

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: all that is done inside, or nothing where it ends in an exception.

        What is not `durable` may be lost with the power, never with a process.
        """
        with self._errors_said():
            connection = self._connection()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _connection(self) -> sqlite3.Connection:
        kept = getattr(self._of_thread, "kept", None)
        if kept is None or kept[0] != os.getpid():  # after a fork the parent's connection must not be used
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rwc", uri=True, timeout=SECONDS_TO_WAIT, isolation_level=None
            )
            connection.row_factory = sqlite3.Row
            kept = self._of_thread.kept = (os.getpid(), connection)
        found: sqlite3.Connection = kept[1]
        return found

    def _check_version(self, create: bool) -> None:
        connection = self._connection()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and create:
            self._make(connection)
        elif version > self.tables.version:
            known = self.tables.version
            raise InputError(
                f"{self.path}: is of version {version}, this program knows up to {known}: take the newer program "
                "that wrote it, or another folder"
            )
        elif version == 0:
            raise InputError(f"{self.path}: is no {self.tables.what}, expected the file that the service made")

    def _make(self, connection: sqlite3.Connection) -> None:
        """Makes the tables, unless another process has just done so."""
        give_up_at = time.monotonic() + SECONDS_TO_WAIT
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:  # this one does not wait for others by itself
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.05)
        with self.writing():
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise InputError(f"{self.path}: holds tables of another program: choose another folder")
                for statement in self.tables.schema.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {self.tables.version}")
        self.path.chmod(0o600)

    @contextmanager
    def _errors_said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            said = " ".join(str(error).split())
            raise InputError(f"{self.path}: {said}, expected the readable and writable {self.tables.what}") from error
