"""The one URL of the configuration is told of jobs that end, once, later where it does not answer, and no other one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from finetune.runs import callback, transitions
from finetune.runs.callback import deliver_due, forget_owed
from finetune.runs.job_store import JobStore


@pytest.fixture
def server():
    """An HTTP server, the statuses that it answers with, and what it was told."""
    statuses = list[int]()
    told = list[tuple[str, dict | None]]()

    class _Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(statuses.pop(0) if statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self):
            told.append((self.path, None))

        def log_message(self, *_):
            pass

    found = HTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/jobs?token=secret", statuses, told
    found.shutdown()


def test_a_job_that_ends_is_told_once_after_a_try_that_failed_without_its_settings(tmp_path, server, monkeypatch):
    url, statuses, told = server
    store = JobStore(tmp_path)
    ends, stays = store.add("sft", {"data": "chats.jsonl"}, name="mine"), store.add("sft", {"data": "chats.jsonl"})
    transitions.take_next(store.database, ["cpu"])
    transitions.end(store.database, ends.id, 1, "failed", "no such file")
    statuses.extend([500, 302])
    monkeypatch.setattr(callback, "SECONDS_BEFORE_TRY", (0.0, 0.0))
    assert [deliver_due(store, url) for _ in range(4)] == [0, 0, 1, 0]
    assert [path for path, _ in told] == ["/jobs?token=secret"] * 3
    said = told[-1][1]
    assert (said["id"], said["state"], said["error"], said["name"]) == (ends.id, "failed", "no such file", "mine")
    assert "settings" not in said
    store.cancel(stays.id)
    assert deliver_due(store, url) == 1 and told[-1][1]["state"] == "cancelled"


def test_what_cannot_be_told_is_given_up_and_said_without_the_url(tmp_path, monkeypatch):
    store = JobStore(tmp_path)
    job = store.add("sft", {"data": "chats.jsonl"})
    store.cancel(job.id)
    monkeypatch.setattr(callback, "SECONDS_BEFORE_TRY", (0.0,))
    assert [deliver_due(store, "http://127.0.0.1:9/?token=secret") for _ in range(3)] == [0, 0, 0]
    warned = store.events(job.id)[-1]
    assert warned.level == "warn" and "could not be told: " in warned.message and "secret" not in warned.message
    job = store.requeue(job.id)
    store.cancel(job.id)
    forget_owed(store)
    assert deliver_due(store, "http://127.0.0.1:9/") == 0
