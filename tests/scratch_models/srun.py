"""Stands in for srun: starts a command in several tasks of this machine with the variables that Slurm gives each.

    python tests/scratch_models/srun.py [--ntasks N] [--kill-on-bad-exit=1] [--cpus-per-task=N] COMMAND ...

The variables, and that SIGTERM reaches every task, are of srun's manual. The job is that of the environment, as in
a batch script, or a new one.
"""

import os
import signal
import subprocess
import sys
import time
from types import FrameType

SETTINGS = {"--ntasks": "SLURM_NTASKS", "--cpus-per-task": "SLURM_CPUS_PER_TASK"}


def main(arguments: list[str]) -> int:
    """The exit status of the worst task."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "1", **os.environ}
    kills = False
    while arguments and arguments[0].startswith("--"):
        name, _, value = arguments.pop(0).partition("=")
        value = value or arguments.pop(0)
        kills |= (name, value) == ("--kill-on-bad-exit", "1")
        if name in SETTINGS:
            job[SETTINGS[name]] = value
    tasks = int(job["SLURM_NTASKS"])
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_TASKS_PER_NODE": str(tasks)}
    step |= {"SLURM_STEP_NUM_NODES": "1", "SLURM_NNODES": "1", "SLURM_STEP_NODELIST": "node[07]", "SLURM_NODEID": "0"}
    started = [
        subprocess.Popen(arguments, env=job | step | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)})
        for rank in range(tasks)
    ]

    def hand_on(number: int, _frame: FrameType | None) -> None:
        for task in started:
            task.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    while any(task.poll() is None for task in started):
        if kills and any(task.returncode for task in started):
            for task in started:
                task.kill()
        time.sleep(0.05)
    return max(abs(task.returncode) for task in started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
