"""Runs of an entry file as a user starts them, in this process or in one of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from configs import run_entry
from scratch_models.loop.run_folder import RunFolder
from tests.house.repository import ROOT

SMALL = {
    "max_steps": 12,
    "warmup_steps": 2,
    "learning_rate": 0.01,
    "lora_rank": 4,
    "conversations_per_step": 16,
    "evaluation_steps": 6,
    "evaluation_conversations": 5,
    "reply_tokens": 8,
    "checkpoint_steps": 4,
}
"""Settings of a fine-tuning run of seconds."""


def run_here(main: Callable[[Any], None], schema: type, **settings: Any) -> None:
    """The entry in this process, settings on its command line; what a user can mend ends in SystemExit."""
    with patch.object(sys, "argv", ["entry.py", *arguments(settings)]):
        run_entry(main, schema)


@contextmanager
def broken_at(step: int) -> Iterator[None]:
    """A run inside of it ends in a fault as it writes the metrics of a step."""

    def die(_run: RunFolder, entry: dict[str, Any]) -> None:
        if entry["step"] == step:
            raise RuntimeError("power cut")

    with patch.object(RunFolder, "append_metrics", die), pytest.raises(SystemExit):
        yield


def run_process(
    entry: str, folder: Path, *, launch: tuple[str, ...] = (), **settings: Any
) -> subprocess.CompletedProcess:
    """The entry file in a process of its own, or in those that `launch` starts."""
    command = [sys.executable, *launch, str(ROOT / entry), *arguments(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def arguments(settings: dict[str, Any]) -> list[str]:
    """The command line of some settings; True is a bare flag."""
    pairs = [[f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in settings.items()]
    return [part for pair in pairs for part in pair]
