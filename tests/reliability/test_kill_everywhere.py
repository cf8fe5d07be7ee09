"""A command killed at any call that changes a file loses nothing: it goes on, or is given again, to the same bits.

The calls are counted in front of the C library, so those of safetensors and tokenizers are among them; at each the
process is killed before it, and, where it writes, once half is written.
"""

import shutil
from pathlib import Path

import pytest

from tests.reliability.counted_calls import started
from tests.reliability.killable import COMMANDS, KILLABLE, write_inputs_of_commands
from tests.reliability.launched_runs import SHARING, Kill, Launcher
from tests.reliability.small_runs import write_extended, write_inputs

WELL = {"equal", "whole, and refused a second time"}


def write_all_inputs(folder: Path) -> Path:
    """The folder, which holds `inputs`."""
    inputs = folder / "inputs"
    inputs.mkdir()
    write_inputs(inputs)
    write_extended(inputs)
    write_inputs_of_commands(inputs)
    return folder


def check_states(name: str, folder: Path, library: Path, *, first: int, every: int, really: int) -> dict:
    """The counts, where every state went well."""
    *tried, counts = started(library, "recorded_kills", name, folder, first, every, really)
    print(counts)
    assert len(tried) >= 4 and [one for one in tried if one["came to"] not in WELL] == []
    assert counts["changed without a call"] == []
    return counts


def test_some_kills_of_a_run_with_best_weights_change_nothing(tmp_path, file_events):
    (tmp_path / "inputs").mkdir()
    write_inputs(tmp_path / "inputs")
    check_states("from scratch", tmp_path, file_events, first=3, every=76, really=300)


@pytest.mark.long
@pytest.mark.parametrize("name", KILLABLE)
def test_no_kill_changes_anything(tmp_path, file_events, name):
    counts = check_states(name, write_all_inputs(tmp_path), file_events, first=0, every=1, really=40)
    assert counts["states"] == counts["resumed"] > (20 if name in COMMANDS else 100)


@pytest.mark.long
def test_fifty_kills_at_random_times_change_nothing(tmp_path, file_events):
    *kills, counts = started(file_events, "random_kills", write_all_inputs(tmp_path), 50, 13)
    assert len(kills) == 50 and counts["outcomes"] == {"equal": 50}


@pytest.mark.long
@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("kind", ["from scratch", "sft"])
def test_either_of_two_processes_is_killed_and_the_run_goes_on(tmp_path, file_events, kind, sharing):
    launcher = Launcher(kind, sharing, write_all_inputs(tmp_path), file_events)
    assert launcher.start()[0] == 0, launcher.log.read_text()
    assert launcher.events(1) == 0  # the main process alone writes
    events, whole = launcher.events(0), tmp_path / "whole"
    shutil.copytree(launcher.run, whole)
    for number, at in enumerate(range(7, events, events // 6)):
        kill = Kill(rank=number % 2, at=at, torn=number % 4 == 0)
        came_to, seconds = launcher.kill_and_go_on(kill, whole)
        print(kill, came_to, f"the other ended after {seconds:.1f} s")
        assert came_to == "equal" and not launcher.alive()
