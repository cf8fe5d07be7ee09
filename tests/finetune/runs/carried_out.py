"""Jobs that are really carried out: by workers in processes of their own, in runs that a test can hold."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from finetune.runs.job import ENDED, Job
from finetune.runs.job_store import JobStore
from finetune.runs.local_run import LocalRun
from tests.house.repository import ROOT

PATIENCE_SECONDS = 600.0
T = TypeVar("T")


def wait_for(found: Callable[[], T | None], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """What is found, once it is."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        if (one := found()) is not None and one is not False:
            return one
        time.sleep(0.02)
    raise AssertionError(f"after {seconds} seconds: not {what}")


def wait_until_ended(store: JobStore, *jobs: Job, seconds: float = PATIENCE_SECONDS) -> list[Job]:
    """The jobs once all have ended."""

    def all_ended() -> list[Job] | None:
        found = [store.get(job.id) for job in jobs]
        return found if all(job.state in ENDED for job in found) else None

    return wait_for(all_ended, "ended", seconds)


def process_of(store: JobStore, job: Job) -> int:
    """The number of the job's process, once it has one."""

    def found() -> int | None:
        now = store.get(job.id)
        noted = LocalRun(now)._noted() if now.state == "running" and now.begun else None
        return noted[0] if noted else None

    return wait_for(found, "started")


def hold(store: JobStore, job: Job) -> int:
    """The number of the job's process, which does nothing until it is let go by SIGCONT."""
    pid = process_of(store, job)
    os.kill(pid, signal.SIGSTOP)
    return pid


def attempts_begun(job: Job) -> int:
    """How often the job's command was started."""
    return job.log_file.read_text(encoding="utf-8").count("--- attempt")


def start_worker(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A worker in the foreground of a process of its own."""
    command = [sys.executable, "-m", "finetune.runs", "work", "--folder", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a worker as kill -9 does."""
    process.kill()
    process.communicate()
