"""The process of a job on this machine, in a session of its own; whoever finds the job again finds the process again.

Before the command begins, its process writes its number and its start into a file of the attempt. So no run is ever
alive that nobody knows of, whoever is killed at whatever moment.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from configs.ending_file import VARIABLE, Ending, prepare_ending, read_ending
from finetune.runs.job import Job
from finetune.runs.kinds import CPU, kind_of
from finetune.runs.process_start import is_alive, same_boot, start_of

ROOT = Path(__file__).resolve().parents[2]
SECONDS_FOR_STRAGGLERS = 60.0


class LocalRun:
    """A job's process, started by the attempt that began it."""

    launched = True

    def __init__(self, job: Job) -> None:
        self.job = job
        self.kind = kind_of(job.kind)
        folder = job.folder / "attempts"
        self.process_file = folder / f"{job.begun}.process"
        self.ending_file = folder / f"{job.begun}.ending"
        self._child: subprocess.Popen[bytes] | None = None
        self._leader_gone_at: float | None = None

    def start(self, command: Sequence[str]) -> None:
        """Starts the command; what it prints goes to the job's log.

        Raises:
            OSError: it cannot be started.

        """
        self.ending_file.parent.mkdir(exist_ok=True, mode=0o700)
        prepare_ending(self.ending_file)
        descriptor = os.open(self.job.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "ab", buffering=0) as log:
            log.write(headline(self.job, command).encode())
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.job.directory,
                env=environment_of(self.job.device or CPU, self.ending_file),
                start_new_session=True,
                preexec_fn=self._note_process,  # noqa: PLW1509 - no other thread runs in a supervisor
            )

    def is_over(self) -> bool:
        """Whether nothing of it runs any more; what its launcher leaves behind is killed after a minute."""
        if self._child is not None:
            self._child.poll()  # or it would stay as a zombie
        found = self._noted()
        if found is None or is_alive(*found):
            return found is None
        if not self._members():
            return True
        self._leader_gone_at = self._leader_gone_at or time.monotonic()
        if time.monotonic() - self._leader_gone_at > SECONDS_FOR_STRAGGLERS:
            self.kill()
        return False

    def ending(self) -> Ending | None:
        """What the entry said when it ended; None where it has not, or was killed."""
        return read_ending(self.ending_file)

    def ask_to_end(self) -> bool:
        """Sends SIGTERM to the entry, which saves and ends; False where the launcher has not started it yet."""
        found = self._noted()
        if found is None:
            return False
        leader, asked = found[0], False
        for member in self._members():
            is_entry = not self.kind.trains if member.pid == leader else self._is_entry(member, leader)
            if is_entry:
                with suppress(psutil.Error):
                    member.send_signal(signal.SIGTERM)
                    asked = True
        return asked

    def kill(self) -> None:
        """Kills all of it at once."""
        for member in self._members():
            with suppress(psutil.Error):
                member.kill()

    def _is_entry(self, member: psutil.Process, leader: int) -> bool:
        """Whether it is what the launcher started; a process that the entry started itself is none."""
        with suppress(psutil.Error):
            parent = member.ppid()
            return self.kind.module in member.cmdline() and (parent == leader or not psutil.pid_exists(leader))
        return False

    def _members(self) -> list[psutil.Process]:
        """The living processes of its session."""
        found = self._noted()
        if found is None or not same_boot(found[1]) or start_of(found[0]) not in (None, found[1]):
            return []
        members = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == found[0] and process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
        return members

    def _noted(self) -> tuple[int, str] | None:
        try:
            pid, started = self.process_file.read_text().split()
            return int(pid), started
        except (OSError, ValueError):
            return None

    def _note_process(self) -> None:
        """In the new process, before it becomes the command."""
        self.process_file.write_text(f"{os.getpid()} {start_of(os.getpid())}")


def environment_of(device: str, ending_file: Path) -> dict[str, str]:
    """The environment of a run: that of the worker, the one device that it may see, and where to say how it ended."""
    given: Mapping[str, str] = os.environ
    found = {name: value for name, value in given.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    found |= {VARIABLE: str(ending_file), "PYTHONUNBUFFERED": "1"}
    found["CUDA_VISIBLE_DEVICES"] = "" if device.startswith(CPU) else device
    found.setdefault("TQDM_MININTERVAL", "10")  # a log is read later, nobody watches the bar
    found["PYTHONPATH"] = importable_path()
    return found


def importable_path() -> str:
    """PYTHONPATH with which processes find this project from any folder, installed or not."""
    before = os.environ.get("PYTHONPATH", "")
    is_installed = "site-packages" in ROOT.parts or str(ROOT) in before.split(os.pathsep)
    return before if is_installed else os.pathsep.join(filter(None, (str(ROOT), before)))


def headline(job: Job, command: Sequence[str]) -> str:
    """The line before what an attempt prints."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    words = " ".join(["python", *command[1:]] if command[0] == sys.executable else command)
    return f"--- attempt {job.begun}, {at} UTC, on {job.device}: {words}\n"
