"""Scripts of this folder, started with `file_events.so` in front of the C library."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.house.repository import ROOT

SOURCE = Path(__file__).with_name("file_events.c")


def build_library(folder: Path) -> Path | None:
    """The library, made anew; None where it cannot be."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "file_events.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def started(library: Path, script: str, *arguments: object) -> list[dict[str, Any]]:
    """The lines of JSON that a script prints."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"tests.reliability.{script}", *map(str, arguments)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
