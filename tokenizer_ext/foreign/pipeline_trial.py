"""A tokenizer of an unknown pipeline tried in a process of its own: a pattern may take for ever, or end the process."""

import subprocess
import sys
from functools import cache
from pathlib import Path

from configs import InputError

SECONDS = 10
"""Of work; what a busy machine waits for has some more."""
PROBES = Path(__file__).with_name("pipeline_probes.py")


def try_pipeline(file: Path) -> None:
    """Builds the tokenizer of a tokenizer.json and has it read some texts where it can do no harm.

    Raises:
        InputError: it does not end, takes too much memory, makes far too much of a text, or ends the process.

    """
    changed = file.stat().st_mtime_ns
    if found := _try(str(file), changed):
        raise InputError(
            f"{file}: its pipeline {found}, expected one that reads a short text at once: get the model anew"
        )


@cache
def _try(file: str, changed: int) -> str:
    """What is wrong with the pipeline, or nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(PROBES), file, str(SECONDS)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS + 6,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {SECONDS + 6} seconds"
    if done.returncode == 0:
        return done.stdout.strip().rpartition("\n")[2]
    if done.returncode < 0:  # by the limit of work, or by a library that gives up
        return f"does not end within {SECONDS} seconds of work, or ends the process"
    return f"could not be tried ({done.stderr.strip().rpartition(chr(10))[2][:160]})"
