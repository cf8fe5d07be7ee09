"""The votes of a service in an SQLite file, each written in one transaction before it counts as cast.

service/votes.sqlite    what was asked of whom, both replies, how they were placed, what was chosen
"""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

from configs import InputError
from finetune.runs.database import Database, Tables
from finetune.studio.ballot import Asked, Vote
from scratch_models.decoding.sampling_settings import Sampling

FILE = "votes.sqlite"
SCHEMA = """
CREATE TABLE votes (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    choice TEXT NOT NULL,
    shuffle_seed INTEGER NOT NULL,
    asked TEXT NOT NULL
);
"""
VOTES = Tables(what="book of votes", schema=SCHEMA, version=1)


class VoteBook:
    """The votes under one folder; any thread and any process may add."""

    def __init__(self, folder: Path) -> None:
        """Opens the book, and makes it where there is none.

        Raises:
            InputError: the file is something else.
        """
        self.database = Database(folder / FILE, create=True, tables=VOTES)

    def add(self, vote: Vote) -> Vote:
        """The vote as it is kept: from now on no kill loses it.

        Raises:
            InputError: its ballot was cast already.
        """
        kept = replace(vote, created_at=time.time())
        with self.database.writing() as connection:
            if connection.execute("SELECT 1 FROM votes WHERE id = ?", (kept.id,)).fetchone():
                raise InputError("vote: was cast already, expected one a prompt: go on to the next")
            connection.execute(
                "INSERT INTO votes (id, created_at, choice, shuffle_seed, asked) VALUES (?, ?, ?, ?, ?)",
                (kept.id, kept.created_at, kept.choice, kept.shuffle_seed, json.dumps(asdict(kept.asked))),
            )
        return kept

    def all(self) -> list[Vote]:
        """Every vote, the oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT * FROM votes ORDER BY place").fetchall()
        return [
            Vote(_asked(row["asked"]), row["choice"], row["shuffle_seed"], row["id"], row["created_at"]) for row in rows
        ]

    def of_pair(self, models: tuple[str, str]) -> list[Vote]:
        """The votes between two models, whichever was named first."""
        return [vote for vote in self.all() if set(vote.asked.models) == set(models)]


def _asked(text: str) -> Asked:
    found = json.loads(text)
    both = {name: tuple(found[name]) for name in ("models", "proofs", "replies")}
    return Asked(**{**found, **both, "sampling": Sampling(**found["sampling"])})
