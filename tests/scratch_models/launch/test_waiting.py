"""Processes wait for a main process that is long at work, whatever their group's timeout is."""

import threading
import time
from types import SimpleNamespace

import pytest
from torch.distributed import HashStore

from scratch_models.launch import waiting
from tests.scratch_models.launches import LAUNCHES, launch


@pytest.mark.long
@pytest.mark.parametrize("way", ["two processes", "torchrun", "srun"])
def test_a_main_process_may_be_at_work_for_longer_than_the_groups_timeout(tmp_path, way):
    """hiyouga/LLaMA-Factory#2424, #2814, huggingface/nanotron PR#280: the watchdog ended such runs."""
    launch("tests/scratch_models/waiting_in_processes.py", LAUNCHES[way], tmp_path)
    assert (tmp_path / "result.txt").read_text() == "[1.0] [2.0]", "the other one found what the main one made"


def _in_threads(monkeypatch, work):
    """What each of four processes notes, played by threads that share a store and count their meetings apart."""
    store, own = HashStore(), threading.local()
    monkeypatch.setattr(waiting, "store_of_processes", lambda: store)

    def next_meeting():
        own.number = getattr(own, "number", 0) + 1
        return str(own.number)

    monkeypatch.setattr(waiting, "_next_meeting", next_meeting)
    notes: list[str] = []
    processes = [SimpleNamespace(num_processes=4, is_main_process=rank == 0) for rank in range(4)]
    threads = [threading.Thread(target=work, args=(process, notes), daemon=True) for process in processes]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)
    return notes


def test_the_main_process_goes_first_and_nobody_goes_on_before_all_are_done(monkeypatch):
    def work(process, notes):
        for _ in range(3):
            with waiting.main_process_first(process):
                time.sleep(0.1)
                notes.append("main" if process.is_main_process else "other")
            notes.append("on")

    assert _in_threads(monkeypatch, work) == ["main", "other", "other", "other", *["on"] * 4] * 3


def test_one_process_alone_waits_for_nobody():
    alone = SimpleNamespace(num_processes=1, is_main_process=True)
    waiting.wait_for_all(alone)
    with waiting.main_process_first(alone):
        pass
