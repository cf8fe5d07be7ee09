"""The process of a job as a job of Slurm: handed over by sbatch, watched by squeue, ended by scancel.

The queue stays on the machine of the worker; the job's folder must lie where the nodes find it under the same name.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence

from configs.ending_file import VARIABLE, Ending, prepare_ending, read_ending
from finetune.runs.job import Job
from finetune.runs.kinds import kind_of
from finetune.runs.local_run import headline, importable_path

SECONDS_OF_A_COMMAND = 60.0
KNOWN = "GRAFT_SBATCH"
"""Variable of the environment with further options for sbatch, such as `--partition=gpu --gres=gpu:1`."""


class SlurmRun:
    """A job's process somewhere in a cluster. Its name there tells it from every other attempt of every other job."""

    launched = False  # a signal to a step reaches the launcher too, which would end before the run has saved

    def __init__(self, job: Job) -> None:
        self.job = job
        self.kind = kind_of(job.kind)
        self.name = f"{job.id}-{job.begun}"
        self.script = job.folder / "attempts" / f"{job.begun}.sh"
        self.ending_file = job.folder / "attempts" / f"{job.begun}.ending"

    def start(self, command: Sequence[str]) -> None:
        """Hands the command over; what it prints goes to the job's log.

        Raises:
            OSError: Slurm does not take it, with what it says.

        """
        self.script.parent.mkdir(exist_ok=True, mode=0o700)
        prepare_ending(self.ending_file)
        with self.job.log_file.open("a", encoding="utf-8") as log:
            log.write(headline(self.job, command))
        self.script.write_text(self._script(command), encoding="utf-8")
        options = [f"--job-name={self.name}", f"--output={self.job.log_file}", "--open-mode=append"]
        options += [f"--chdir={self.job.directory}", *shlex.split(os.environ.get(KNOWN, ""))]
        asked("sbatch", "--parsable", *options, str(self.script))

    def is_over(self) -> bool:
        """Whether Slurm knows it no more; where Slurm does not answer it is taken to run."""
        try:
            return not self._numbers()
        except OSError:
            return False

    def ending(self) -> Ending | None:
        """What the entry said when it ended; None where it has not, or was killed."""
        return read_ending(self.ending_file)

    def ask_to_end(self) -> bool:
        """Has Slurm send SIGTERM to the entry, or take a waiting job away; False where it knows none."""
        return self._cancel("--signal=TERM", states="RUNNING") or self._cancel(states="PENDING")

    def kill(self) -> None:
        """Ends it."""
        self._cancel()

    def _cancel(self, *options: str, states: str | None = None) -> bool:
        try:
            numbers = self._numbers(states)
            for number in numbers:
                asked("scancel", *options, number)
        except OSError:
            return False
        return bool(numbers)

    def _numbers(self, states: str | None = None) -> list[str]:
        """Slurm's numbers of the job, in these states; once it is handed over there is one."""
        chosen = [] if states is None else [f"--states={states}"]
        return asked("squeue", "--noheader", f"--name={self.name}", "--format=%i", *chosen).split()

    def _script(self, command: Sequence[str]) -> str:
        variables = {VARIABLE: str(self.ending_file), "PYTHONUNBUFFERED": "1", "PYTHONPATH": importable_path()}
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items() if value)
        # srun makes the command a step, to which `scancel --signal` sends.
        return f"#!/bin/sh\n{exports}exec srun {shlex.join(command)}\n"


def asked(program: str, *arguments: str) -> str:
    """What a command of Slurm prints.

    Raises:
        OSError: it is not there, does not answer, or fails, with what it says.

    """
    try:
        ended = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=SECONDS_OF_A_COMMAND, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(110, f"does not answer within {SECONDS_OF_A_COMMAND:.0f} seconds", program) from None
    if ended.returncode:
        said = " ".join((ended.stderr or ended.stdout).split())[:300]
        raise OSError(5, f"ended with status {ended.returncode}: {said}", program)
    return ended.stdout
