"""An entry answers `--help` and a mistake before anything heavy is loaded."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.house.repository import ROOT, entry_files

# Each takes a second or more to import.
HEAVY = ("torch", "transformers", "peft", "accelerate", "gradio", "matplotlib", "datasets")


def _heavy_of(entry: Path) -> str:
    """The heavy libraries that an entry loads before its settings are read, with spaces between."""
    name = ".".join(entry.with_suffix("").parts)
    program = f"import importlib, sys\nimportlib.import_module({name!r})\nprint(*(set({HEAVY}) & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    return f"{ended.stdout}{ended.stderr}".strip()


def test_no_entry_loads_a_heavy_library_before_its_settings_are_read():
    entries = entry_files()
    with ThreadPoolExecutor(2) as two_at_once:
        loaded = dict(zip(map(str, entries), two_at_once.map(_heavy_of, entries), strict=True))
    assert len(loaded) >= 14
    assert {entry: libraries for entry, libraries in loaded.items() if libraries} == {}
