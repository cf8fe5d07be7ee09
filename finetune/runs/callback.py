"""Tells the URL of the server's own configuration that jobs have ended; what is owed stands in the queue until then."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from configs import InputError
from configs.errors import first_line
from finetune.runs.job import Job
from finetune.runs.job_events import note_event
from finetune.runs.job_store import JobStore

SECONDS_TO_ANSWER = 10.0
SECONDS_BEFORE_TRY = (5.0, 30.0, 120.0, 600.0)
"""After a try that failed; after the last of them it is given up, and said among the job's events."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A server of the configuration answers itself; where it sends somebody else, that one was not configured."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def check_url(url: str) -> str:
    """The URL.

    Raises:
        InputError: it is none of HTTP.

    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:  # it may hold a secret: not shown
        raise InputError("callback_url: found no URL of HTTP, expected one such as https://example.org/jobs")
    return url


def forget_owed(store: JobStore) -> None:
    """Drops what is owed: there is nobody to tell. Where nothing is owed it writes nothing."""
    with store.database.reading() as connection:
        if connection.execute("SELECT 1 FROM deliveries").fetchone() is None:
            return
    with store.database.writing() as connection:
        connection.execute("DELETE FROM deliveries")


def deliver_due(store: JobStore, url: str) -> int:
    """How many jobs were told now, of those that are due."""
    with store.database.reading() as connection:
        rows = connection.execute("SELECT * FROM deliveries WHERE next_at <= ? ORDER BY job", (time.time(),)).fetchall()
    told = 0
    for row in rows:
        job = store.get(row["job"])
        error = _post(url, job)
        with store.database.writing() as connection:
            if error is None or row["tries"] >= len(SECONDS_BEFORE_TRY):
                connection.execute("DELETE FROM deliveries WHERE job = ?", (job.id,))
            else:
                next_at = time.time() + SECONDS_BEFORE_TRY[row["tries"]]
                connection.execute(
                    "UPDATE deliveries SET tries = tries + 1, next_at = ? WHERE job = ?", (next_at, job.id)
                )
            if error is not None and row["tries"] >= len(SECONDS_BEFORE_TRY):
                note_event(connection, job.id, f"the callback could not be told: {error}", {}, "warn")
        told += error is None
    return told


def callback_body(job: Job) -> dict[str, Any]:
    """What is told of a job: nothing of its settings or its data."""
    return {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "state": job.state,
        "error": job.error,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
    }


def _post(url: str, job: Job) -> str | None:
    """Why the URL could not be told, without the URL; None where it took it."""
    body = json.dumps(callback_body(job)).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS_TO_ANSWER):
            return None
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except OSError as error:
        return first_line(error)
    except ValueError:
        return "it is no URL that can be asked"
