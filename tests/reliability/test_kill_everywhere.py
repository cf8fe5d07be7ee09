"""A run that is killed at any call that changes a file goes on to the very weights and metrics of the unbroken one.

The calls are counted in front of the C library, so those of safetensors and tokenizers are among them; at each the
process is killed before it, and, where it writes, once half is written.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import ROOT
from tests.reliability.small_runs import RUNS, write_inputs

SOURCE = Path(__file__).with_name("file_events.c")


@pytest.fixture(scope="session")
def file_events(tmp_path_factory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("counting calls in front of the C library needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("library") / "file_events.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def kill_at(kind: str, folder: Path, library: Path, first: int, every: int) -> list[dict]:
    """What each kill came to."""
    write_inputs_of(folder)
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, str(script), kind, str(folder), str(first), str(every)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]


def write_inputs_of(folder: Path) -> None:
    (folder / "inputs").mkdir()
    write_inputs(folder / "inputs")


def test_some_kills_of_a_run_with_best_weights_change_nothing(tmp_path, file_events):
    kills = kill_at("from scratch", tmp_path, file_events, first=11, every=90)
    assert len(kills) >= 4 and {kill["came to"] for kill in kills} == {"equal"}, kills


@pytest.mark.long
@pytest.mark.parametrize("kind", RUNS)
def test_no_kill_changes_anything(tmp_path, file_events, kind):
    kills = kill_at(kind, tmp_path, file_events, first=0, every=1)
    print(f"{kind}: {len(kills)} kills")
    assert len(kills) > 300 and [kill for kill in kills if kill["came to"] != "equal"] == []
