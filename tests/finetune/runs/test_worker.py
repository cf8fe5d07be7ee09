"""What happens to jobs while workers, supervisors and runs are killed: none is lost, none runs twice, order is kept."""

import os
import random
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from configs import InputError
from finetune.runs.job_store import JobStore
from finetune.runs.process_start import is_alive, start_of
from finetune.runs.worker import Worker, find_devices
from tests.finetune.runs.carried_out import (
    attempts_begun,
    hold,
    kill,
    process_of,
    start_worker,
    wait_for,
    wait_until_ended,
)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "chats.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    return JobStore(tmp_path / "service")


@pytest.fixture
def worker(store):
    """A worker in this process, with one slot."""
    found = Worker(store, devices=["cpu"])
    yield found
    found.stop()


def _add(store, name="chats.jsonl"):
    return store.add("inspect_data", {"data": str(store.folder.parent / name)})


def test_a_run_outlives_its_worker_and_its_supervisor_and_is_found_again_within_two_seconds(store, worker, caplog):
    first = start_worker(store.folder)
    job = _add(store)
    run = hold(store, job)
    wait_for(lambda: is_alive(store.get(job.id).pid, store.get(job.id).pid_started), "supervised")
    kill(first)
    caplog.set_level("INFO", "finetune.runs")
    start = time.monotonic()
    worker.start()
    wait_for(lambda: "is attended by process" in caplog.text, "found again", 2)
    assert time.monotonic() - start <= 2
    os.kill(store.get(job.id).pid, signal.SIGKILL)
    wait_for(lambda: store.get(job.id).attempt == 2 and store.get(job.id).pid, "given a new supervisor")
    os.kill(run, signal.SIGCONT)
    (ended,) = wait_until_ended(store, job)
    assert (ended.state, ended.attempt, ended.lost, attempts_begun(ended)) == ("succeeded", 2, 0, 1)
    assert (ended.output_dir / "findings.json").is_file()


@pytest.mark.long
def test_a_run_that_is_lost_with_its_supervisor_is_begun_again_and_a_cancelled_one_is_not(store, worker):
    lost, cancelled, bad = _add(store), _add(store), _add(store, "nothing.jsonl")
    worker.start()
    run, supervisor = hold(store, lost), store.get(lost.id).pid
    os.kill(supervisor, signal.SIGSTOP)  # so that the worker finds both gone, never one of them
    os.kill(run, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: store.get(lost.id).lost == 1, "lost")
    run = hold(store, cancelled)
    assert store.cancel(cancelled.id).wanted == "cancel"
    time.sleep(1)
    os.kill(run, signal.SIGCONT)
    found = wait_until_ended(store, lost, cancelled, bad)
    assert [job.state for job in found] == ["succeeded", "cancelled", "failed"]
    assert [attempts_begun(job) for job in found] == [2, 1, 1]
    assert found[2].error == (
        f"{store.folder.parent}/nothing.jsonl: no such file, expected a .jsonl, .json, .parquet, .arrow or .csv file, "
        "a folder of them, or the name of a data set on the Hub"
    )
    began = [job.started_at or 0 for job in found]
    assert began == sorted(began)


@pytest.mark.long
def test_a_command_that_ends_while_the_queue_is_locked_is_not_forgotten_and_one_that_is_killed_says_so(store, worker):
    job, killed = _add(store), _add(store)
    worker.start()
    run = hold(store, job)
    holder = sqlite3.connect(store.database.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    os.kill(run, signal.SIGCONT)
    wait_for(lambda: start_of(run) is None, "ended")
    time.sleep(2)
    assert store.get(job.id).state == "running"
    holder.execute("COMMIT")
    assert wait_until_ended(store, job)[0].state == "succeeded"
    os.kill(process_of(store, killed), signal.SIGKILL)
    (ended,) = wait_until_ended(store, killed)
    assert ended.state == "failed" and ended.lost == 0
    assert (ended.error or "").startswith("its process was killed, by another program or")
    assert "\n" not in (ended.error or "")


def test_a_worker_that_has_nothing_to_do_writes_nothing(store, worker):
    store.cancel(_add(store).id)
    worker.start()
    written = store.database.path.with_name("jobs.sqlite-wal")
    with store.database.reading() as connection:
        wait_for(lambda: connection.execute("SELECT count(*) FROM deliveries").fetchone()[0] == 0, "forgotten")
        before = written.stat().st_size, written.stat().st_mtime_ns
        time.sleep(1.5)
        assert (written.stat().st_size, written.stat().st_mtime_ns) == before


def test_one_worker_works_on_a_queue_and_it_says_what_it_cannot_use(store, worker, monkeypatch):
    worker.start()
    with pytest.raises(InputError, match="another worker works on this queue: stop it first"):
        Worker(store, devices=["cpu"]).start()
    for devices in ([], ["cpu", "cpu"]):
        with pytest.raises(InputError, match="devices: found"):
            Worker(store, devices=devices)
    with pytest.raises(InputError, match=r"devices: found cpu, expected slurm-0, slurm-1"):
        Worker(store, devices=["cpu"], launcher="slurm")
    with pytest.raises(InputError, match="callback_url: found no URL of HTTP") as error:
        Worker(store, devices=["cpu"], callback_url="file:///secret")
    assert "secret" not in str(error.value)
    for visible, found in (("0,2", ["0", "2"]), ("", ["cpu"]), ("-1", ["cpu"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert find_devices() == found


def test_a_process_number_that_another_process_has_now_is_not_taken_for_the_old_one():
    assert is_alive(os.getpid(), start_of(os.getpid()))
    assert not is_alive(os.getpid(), "earlier/1") and not is_alive(None, None)
    child = os.fork()
    if child == 0:
        os._exit(0)
    wait_for(lambda: start_of(child) is None, "a zombie")
    os.waitpid(child, 0)


@pytest.mark.long
@pytest.mark.parametrize(("jobs", "kills"), [pytest.param(4, 4, id="4 jobs"), pytest.param(100, 15, id="100 jobs")])
def test_jobs_are_carried_out_once_and_in_order_while_the_worker_is_killed_at_random(store, jobs, kills):
    draw = random.Random(jobs)
    slots = ("--devices", "cpu", "cpu-1")
    worker = start_worker(store.folder, *slots)
    with ThreadPoolExecutor(1) as thread:
        adding = thread.submit(lambda: [_add(store) for _ in range(jobs)])
        for _ in range(kills):
            time.sleep(draw.uniform(0.2, 2.0 if jobs < 10 else 20.0))
            kill(worker)
            worker = start_worker(store.folder, *slots)
        added = adding.result()
    ended = wait_until_ended(store, *added, seconds=3600)
    worker.send_signal(signal.SIGTERM)  # not Ctrl-C: tests that a script starts in the background ignore that
    said = worker.communicate(timeout=60)[1]
    assert said in (b"ended by SIGTERM\n", b"")
    assert [job.state for job in ended] == ["succeeded"] * jobs
    assert [attempts_begun(job) for job in ended] == [1] * jobs
    began = [job.started_at or 0 for job in ended]
    assert began == sorted(began)
    assert len(store.list()) == jobs
