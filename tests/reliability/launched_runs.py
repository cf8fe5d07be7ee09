"""Small runs in two processes that `accelerate launch` starts, one of which is killed at a file event of the first."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.house.repository import ROOT
from tests.reliability.killed_runs import judge

SHARING = {"ddp": "two_cpu_processes.yaml", "fsdp2": "two_cpu_shards.yaml"}
SECONDS_TO_END = 60


@dataclass(frozen=True)
class Kill:
    """Which process is killed, and where."""

    rank: int
    at: int
    """At which call of the first process that changes a file of the run."""
    torn: bool = False
    """Whether it is half way through a write; of a process that kills another one it makes no difference."""


@dataclass(frozen=True)
class Launcher:
    """Starts runs of one kind at one place."""

    kind: str
    sharing: str
    place: Path
    """Holds `inputs`; the run comes beside them."""
    library: Path

    @property
    def run(self) -> Path:
        """Where the run is."""
        return self.place / "run"

    @property
    def notes(self) -> Path:
        """Where each process leaves its id, and how many events it had."""
        return self.place / "notes"

    @property
    def log(self) -> Path:
        """What was said."""
        return self.place / "log.txt"

    def start(self, kill: Kill | None = None) -> tuple[int, float]:
        """The launcher's exit status, and the seconds that it and the other process took to end after the kill."""
        shutil.rmtree(self.notes, ignore_errors=True)
        self.notes.mkdir()
        told = {"FILE_EVENTS_FOLDER": self.run, "FILE_EVENTS_NOTES": self.notes, "FILE_EVENTS_OF": 0}
        if kill is not None:
            told |= {"FILE_EVENTS_AT": kill.at, "FILE_EVENTS_TORN": int(kill.torn), "FILE_EVENTS_KILLS": kill.rank}
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
        environment |= {"LD_PRELOAD": str(self.library), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        config = ROOT / "configs" / "accelerate" / SHARING[self.sharing]
        command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
        command += [
            str(ROOT / "tests/reliability/run_of_kind.py"),
            self.kind,
            str(self.place / "inputs"),
            str(self.run),
        ]
        with self.log.open("w") as log:
            launched = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            try:
                return self._wait(launched, kill)
            finally:
                self._end(launched)

    def _wait(self, launched: subprocess.Popen, kill: Kill | None) -> tuple[int, float]:
        killed_at: float | None = None
        while launched.poll() is None or self.alive():
            if kill is not None and killed_at is None and not self._lives(kill.rank):
                killed_at = time.monotonic()
            if killed_at is not None and time.monotonic() - killed_at > SECONDS_TO_END:
                break
            time.sleep(0.02)
        status = launched.poll()
        return -1 if status is None else status, 0.0 if killed_at is None else time.monotonic() - killed_at

    def _lives(self, rank: int) -> bool:
        """Whether the process of a rank is there, or has not come yet."""
        note = self.notes / f"pid-{rank}"
        if not (note.exists() and (number := note.read_text())):
            return True
        return psutil.pid_exists(int(number)) and psutil.Process(int(number)).status() != psutil.STATUS_ZOMBIE

    def alive(self) -> list[int]:
        """The processes that this place's runs still have."""
        mark, found = str(self.notes), []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FILE_EVENTS_NOTES") == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def _end(self, launched: subprocess.Popen) -> None:
        for number in self.alive():
            psutil.Process(number).kill()
        launched.wait()

    def events(self, rank: int) -> int:
        """How many events a process of the last run had that was not killed."""
        return int((self.notes / f"seen-{rank}").read_text())

    def kill_and_go_on(self, kill: Kill, whole: Path) -> tuple[str, float]:
        """What a kill and the same command again came to, and how long the others outlived the kill."""
        shutil.rmtree(self.run, ignore_errors=True)
        status, seconds = self.start(kill)
        if status == 0:
            return "not killed", seconds
        if seconds > SECONDS_TO_END:
            return f"others live after {SECONDS_TO_END} s", seconds
        status, _ = self.start()
        return judge(self.run, whole, status, self.log), seconds
