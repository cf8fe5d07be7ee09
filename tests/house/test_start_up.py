"""An entry answers `--help` and a mistake before anything heavy is loaded."""

import subprocess
import sys

from tests.house.repository import ROOT, entry_files

# Each takes a second or more to import.
HEAVY = ("torch", "transformers", "peft", "accelerate", "gradio", "matplotlib", "datasets")


# What all entries import comes once; each is then imported in a process of its own, forked from there.
PROGRAM = f"""
import importlib, os, sys
import configs
for name in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(name)
        print(name, *set({HEAVY}) & set(sys.modules), flush=True)
        os._exit(0)
    os.wait()
"""


def _loaded_by(names: list[str]) -> dict[str, list[str]]:
    """The heavy libraries that each module loads where it is imported alone."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, cwd=ROOT)
    assert ended.stderr == ""
    return {name: libraries for name, *libraries in map(str.split, ended.stdout.splitlines())}


def test_no_entry_loads_a_heavy_library_before_its_settings_are_read():
    entries = [".".join(entry.with_suffix("").parts) for entry in entry_files()]
    assert len(entries) >= 14
    assert _loaded_by(entries) == {entry: [] for entry in entries}
