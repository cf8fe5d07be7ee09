"""Two runs never write into one folder, and what a dead one left of its claim is in nobody's way."""

import os
import signal
import time
from pathlib import Path

import pytest

from configs import InputError
from scratch_models.launch.folder_lock import LOCK, hold_folder, refuse_held, release_folders
from scratch_models.loop.run_folder import RunFolder, choose_run_folder

ROUNDS = 20
SETTINGS = {"max_steps": 3}


@pytest.fixture
def held_elsewhere(tmp_path: Path):
    """The folder of a run into which a process writes, and its pid."""
    folder = tmp_path / "run"
    child = os.fork()
    if child == 0:
        RunFolder(folder).start(SETTINGS, {}, resume=False)
        time.sleep(60)
        os._exit(0)
    while not (folder / "run.json").exists():
        time.sleep(0.01)
    yield folder, child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_resume_beside_a_live_run_is_refused_with_its_process(held_elsewhere):
    folder, pid = held_elsewhere
    for _ in range(ROUNDS):
        with pytest.raises(InputError, match=rf"another run writes into it \(process {pid} on {os.uname().nodename}\)"):
            choose_run_folder(str(folder), "sft", SETTINGS, resume=True)
        with pytest.raises(InputError, match="another run writes into it"):
            RunFolder(folder).start(SETTINGS, {}, resume=True)


@pytest.mark.parametrize("rounds", [4, pytest.param(ROUNDS, marks=pytest.mark.long)])
def test_of_runs_that_start_at_once_in_one_folder_one_goes_on(tmp_path, rounds):
    for number in range(rounds):
        folder, go = tmp_path / f"run {number}", tmp_path / f"go {number}"
        children = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                while not go.exists():
                    pass
                try:
                    RunFolder(folder).start(SETTINGS, {}, resume=False)
                    time.sleep(0.1)  # it trains
                    os._exit(0)
                except InputError:
                    os._exit(2)
            children.append(child)
        go.touch()
        ended = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert ended == [0, 2]


def test_the_claim_of_a_process_that_was_killed_counts_as_none(tmp_path):
    folder = tmp_path / "run"
    child = os.fork()
    if child == 0:
        RunFolder(folder).start(SETTINGS, {}, resume=False)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (folder / LOCK).exists()
    assert choose_run_folder(str(folder), "sft", SETTINGS, resume=True).path == folder
    assert not (folder / LOCK).exists()


def test_a_folder_that_is_released_is_free(tmp_path):
    hold_folder(tmp_path)
    refuse_held(tmp_path)  # by this process itself
    release_folders()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mark", ["", "18916", "18916\n", "18916\nvm\n4290716"], ids=repr)
def test_a_run_that_was_killed_before_it_had_a_record_leaves_a_folder_that_can_be_used(tmp_path, mark):
    (tmp_path / LOCK).write_text(mark)
    (tmp_path / ".run.json.partial").write_text("")
    os.utime(tmp_path / LOCK, (0, 0))
    assert RunFolder(tmp_path).start(SETTINGS, {}, resume=False).path == tmp_path
    release_folders()
