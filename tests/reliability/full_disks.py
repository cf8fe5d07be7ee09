"""Commands on a disk that is full, in a child of this process: a small file system, or a limit on the size of a file.

The limit needs no rights and counts for Python, Rust and C alike; the file system, in memory, needs the right to mount.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from finetune.adapter_set import AdapterSetSettings
from finetune.adapter_set import main as gather
from finetune.merge import MergeSettings
from finetune.merge import main as merge
from finetune.sft import main as sft
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import run_here
from tests.reliability.finished_folders import SHORT, TEXT
from tests.reliability.small_runs import run_dpo, run_from_scratch, run_new_rows, write_extended, write_inputs
from tokenizer_ext.delta import DeltaSettings
from tokenizer_ext.delta import main as delta
from tokenizer_ext.extend import ExtendSettings
from tokenizer_ext.extend import main as extend
from tokenizer_ext.trim import TrimSettings
from tokenizer_ext.trim import main as trim

EACH_STEP: dict[str, Any] = {"max_steps": 3, "checkpoint_steps": 1}


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    said: str
    """On stderr."""


def in_child(command: Callable[[], Any], most_bytes: int | None = None) -> Ended:
    """The command in a child of this process, where no file may be larger than `most_bytes`."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(told, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            command()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(told)
    with os.fdopen(heard, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at a new folder.

    Raises:
        PermissionError: this user may not mount one.

    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        raise PermissionError(f"no file system could be mounted: {mounted.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow_disk(folder: Path) -> None:
    """Gives a small file system room for everything, with what is on it."""
    subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)


def write_what_commands_read(folder: Path) -> None:
    """Models, data, two runs of one base, and an extended model."""
    write_inputs(folder)
    write_extended(folder)
    (folder / "longer.txt").write_text(TEXT)
    run_sft(folder, folder / "run")
    run_sft(folder, folder / "second", base=folder / "run/final/base", new_tokens=0)


def run_sft(place: Path, run: Path, **settings: Any) -> None:
    """Conversations, with new tokens."""
    given = {"base": place / "base", "data": place / "data.jsonl", **SHORT, **EACH_STEP, "new_tokens": 5, **settings}
    run_here(sft, SftSettings, output_dir=run, **given)


TRAINED: dict[str, Callable[..., None]] = {
    "sft": run_sft,
    "from scratch": partial(run_from_scratch, **EACH_STEP),
    "dpo": partial(run_dpo, **EACH_STEP),
    "new rows": partial(run_new_rows, **EACH_STEP),
}
"""What trains, given inputs and the folder of the run."""


def _gather(place: Path, new: Path) -> None:
    tuned = {"tuned.first": place / "run", "tuned.second": place / "second"}
    run_here(gather, AdapterSetSettings, output_dir=new, **tuned)


COMMANDS: dict[str, Callable[[Path, Path], None]] = {
    "merge": lambda place, new: run_here(merge, MergeSettings, tuned=place / "run", output_dir=new),
    "extend": lambda place, new: run_here(
        extend, ExtendSettings, base=place / "base", corpus=place / "longer.txt", new_tokens=8, output_dir=new
    ),
    "delta": lambda place, new: run_here(delta, DeltaSettings, extended=place / "extended", output_dir=new),
    "trim": lambda place, new: run_here(
        trim, TrimSettings, model=place / "base", corpus=place / "longer.txt", output_dir=new
    ),
    "adapter set": _gather,
}
"""What writes one new folder."""
