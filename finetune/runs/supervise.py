"""Carries out one attempt of a job, as a process of its own that does not care whether a worker or a server lives.

    python -m finetune.runs.supervise FOLDER JOB ATTEMPT local|slurm

It claims the attempt, or ends at once where that is taken or no longer the current one; starts the job's process, or
finds the one that an earlier attempt started; asks it to end where somebody wants that; and writes what it came to. It
imports nothing heavy. A worker starts it; nobody needs to start it by hand.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from configs import InputError
from configs.ending_file import Ending
from configs.one_line_ending import line_of
from finetune.runs import transitions
from finetune.runs.job import Job, JobState
from finetune.runs.job_events import MetricsReader
from finetune.runs.job_files import checkpoints_of, log_lines
from finetune.runs.job_store import JobStore
from finetune.runs.kinds import kind_of
from finetune.runs.local_run import LocalRun
from finetune.runs.process_start import start_of
from finetune.runs.slurm_run import SlurmRun

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_BETWEEN_METRICS = 1.0
SECONDS_TO_END = 30.0
"""How long a cancelled run may take to end before it is killed."""
SECONDS_BEFORE_BLAME = 1.0
"""Whoever kills a run because the machine goes down kills its supervisor within that time."""
SECONDS_TO_WRITE = 86_400.0
"""How long the queue may be locked, or on a full disk, before its job is left to the next supervisor."""
ASKED_FROM_OUTSIDE = (130, 143)
T = TypeVar("T")


class Run(Protocol):
    """What a job runs as: a process here, or a job of Slurm."""

    launched: bool
    """Whether it starts what trains by `accelerate launch`."""

    def start(self, command: list[str]) -> None:
        """Starts the command."""

    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""

    def ending(self) -> Ending | None:
        """What the entry said when it ended."""

    def ask_to_end(self) -> bool:
        """Has the entry save and end; False where it has not begun."""

    def kill(self) -> None:
        """Kills it."""


RUNS: dict[str, Callable[[Job], Run]] = {"local": LocalRun, "slurm": SlurmRun}


class Supervision:
    """One attempt of a job, claimed by this process."""

    def __init__(self, store: JobStore, job: Job, attempt: int, run: Run) -> None:
        self.store = store
        self.job = job
        self.attempt = attempt
        self.run = run
        self._asked_at: float | None = None

    def carry_out(self) -> None:
        """Starts the run, or takes over one that runs, stays with it, and writes what it came to."""
        try:
            if self.job.begun == self.attempt and not self._begin():
                return
            self._stay()
        except OSError as error:  # there is nothing that it could run in, or with
            reason = line_of(error)[0]
            until_written(lambda: self._end("failed", reason))
            return
        self._judge()

    def _begin(self) -> bool:
        """Starts the command; False where the job was asked to end before."""
        if self.job.wanted is not None:
            until_written(lambda: self._end("paused" if self.job.wanted == "pause" else "cancelled"))
            return False
        kind = kind_of(self.job.kind)
        resume = kind.trains and bool(checkpoints_of(self.job))
        if not resume:  # what an attempt left that saved nothing
            shutil.rmtree(self.job.output_dir, ignore_errors=True)
            self.job.output_dir.mkdir(mode=0o700, exist_ok=True)
        settings, device, launched = self.job.settings_file, self.job.device or "", self.run.launched
        self.run.start(kind.command(settings, device=device, resume=resume, launched=launched))
        return True

    def _stay(self) -> None:
        metrics, read_at = MetricsReader(self.store.database, self.job), time.monotonic()
        while not self.run.is_over():
            time.sleep(SECONDS_BETWEEN_LOOKS)
            self._look()
            if time.monotonic() - read_at >= SECONDS_BETWEEN_METRICS:
                _or_later(metrics.read)
                read_at = time.monotonic()
        _or_later(metrics.read)

    def _look(self) -> None:
        """Does what is wanted of the run."""
        now = _or_later(lambda: self.store.get(self.job.id))
        if now is None:
            return
        if now.attempt != self.attempt:  # another one watches it
            sys.exit(0)
        self.job = now
        if now.wanted is None:
            return
        if self._asked_at is None and self.run.ask_to_end():
            self._asked_at = time.monotonic()
        elif now.wanted == "cancel":
            self._asked_at = self._asked_at or time.monotonic()
            if time.monotonic() - self._asked_at > SECONDS_TO_END:
                self.run.kill()

    def _judge(self) -> None:
        """Writes the state that the job has come to."""
        ending = self.run.ending()
        if ending is None:
            time.sleep(SECONDS_BEFORE_BLAME)
        self.job = until_written(lambda: self.store.get(self.job.id))
        wanted = self.job.wanted
        is_asked = ending is not None and (ending.stopped or ending.status in ASKED_FROM_OUTSIDE)
        if ending is not None and ending.status == 0 and not ending.stopped:
            until_written(lambda: self._end("succeeded"))
        elif wanted == "cancel" or (wanted == "pause" and (is_asked or ending is None)):
            until_written(lambda: self._end("cancelled" if wanted == "cancel" else "paused"))
        elif is_asked:
            reason = "its process was asked to end by another program"
            until_written(lambda: transitions.end_lost(self.store.database, self.job.id, self.attempt, reason))
        else:
            error = ending.line if ending is not None else self._describe_silence()
            until_written(lambda: self._end("failed", error or f"ended with status {ending and ending.status}"))

    def _describe_silence(self) -> str:
        last = next((line for line in reversed(log_lines(self.job, 50)) if line.strip()), "")
        killed = "its process was killed, by another program or by the system where memory ran out"
        return f"{killed}; its log ends: {' '.join(last.split())[:200]}" if last else killed

    def _end(self, state: JobState, error: str | None = None) -> bool:
        return transitions.end(self.store.database, self.job.id, self.attempt, state, error)


def until_written(write: Callable[[], T]) -> T:
    """What a transaction gives back, tried again while the queue is locked or the disk is full."""
    give_up_at = time.monotonic() + SECONDS_TO_WRITE
    while True:
        try:
            return write()
        except InputError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(1.0)


def _or_later(look: Callable[[], T]) -> T | None:
    """What a look gives back; None where it fails, as it comes again."""
    try:
        return look()
    except (InputError, OSError):
        return None


def main(folder: str, job_id: str, attempt: int, launcher: str) -> None:
    """Claims the attempt and carries it out."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # its run hears of the end of the machine as well, and is to be seen out
    store = JobStore(folder, create=False)
    pid = os.getpid()
    started = start_of(pid) or ""
    if until_written(lambda: transitions.claim(store.database, job_id, attempt, pid, started)):
        job = until_written(lambda: store.get(job_id))
        Supervision(store, job, attempt, RUNS[launcher](job)).carry_out()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
