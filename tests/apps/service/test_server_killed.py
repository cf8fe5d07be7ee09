"""A server that is killed loses no job, no file and no run: started again, it finds them as they are."""

import json
import os
import random
import signal
import time

import pytest

from finetune.runs.job_store import JobStore
from tests.apps.service.conftest import SETTINGS, conversations, run_folder, upload
from tests.apps.service.served import started, wait_for
from tests.finetune.runs.carried_out import attempts_begun, wait_until_ended
from tests.finetune.tiny_models import save_tiny_base


@pytest.mark.long
def test_a_run_goes_on_without_its_server_and_is_found_again(tmp_path):
    save_tiny_base(tmp_path / "tiny")
    with started(tmp_path, "--models", "tiny") as first:
        client, file = first.client(), upload(first, conversations())
        settings = {**SETTINGS, "max_steps": 3000, "evaluation_steps": 0, "checkpoint_steps": 1000}
        running = client.fine_tuning.jobs.create(model="tiny", training_file=file, extra_body={"settings": settings})
        behind = client.fine_tuning.jobs.create(model="tiny", training_file=file, extra_body={"settings": SETTINGS})
        metrics = run_folder(first, running.id) / "metrics.jsonl"
        _wait_for_steps(metrics, 200)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    before = len(metrics.read_text().splitlines())
    time.sleep(2)
    assert len(metrics.read_text().splitlines()) > before + 20  # nobody served, and it trained
    with started(tmp_path, "--models", "tiny") as second:
        client, began = second.client(), time.monotonic()
        while client.fine_tuning.jobs.retrieve(running.id).status != "running":
            assert time.monotonic() - began < 2
        assert client.files.retrieve(file).id == file
        assert client.fine_tuning.jobs.retrieve(behind.id).status == "queued"
        assert [wait_for(job.id, client).status for job in (running, behind)] == ["succeeded", "succeeded"]
    steps = [json.loads(line) for line in metrics.read_text().splitlines()]
    numbers = [step["step"] for step in steps if "loss_nats" in step]
    assert numbers == list(range(1, 3001))  # each once: it was never begun again
    _print_throughput([step for step in steps if "loss_nats" in step], before)


@pytest.mark.long
def test_a_hundred_jobs_are_carried_out_once_and_in_order_while_the_server_and_their_supervisors_are_killed(tmp_path):
    save_tiny_base(tmp_path / "tiny")
    (tmp_path / "chats.jsonl").write_text(conversations(4))
    store, draw = JobStore(tmp_path / "service"), random.Random(0)
    jobs = [store.add("inspect_data", {"data": str(tmp_path / "chats.jsonl")}) for _ in range(100)]
    for kill in range(10):
        with started(tmp_path, "--models", "tiny") as server:
            time.sleep(draw.uniform(0.1, 12))
            server.process.kill()
            if kill % 2 and (running := store.list(states=["running"])) and running[0].pid:
                os.kill(running[0].pid, signal.SIGKILL)  # whoever attends the run, which goes on
            server.process.wait()
    with started(tmp_path, "--models", "tiny"):
        ended = wait_until_ended(store, *jobs, seconds=3600)
    assert [job.state for job in ended] == ["succeeded"] * 100
    assert [attempts_begun(job) for job in ended] == [1] * 100
    began = [job.started_at or 0 for job in ended]
    assert began == sorted(began)


def _wait_for_steps(metrics, lines: int) -> None:
    end = time.monotonic() + 120
    while not metrics.is_file() or len(metrics.read_text().splitlines()) < lines:
        assert time.monotonic() < end
        time.sleep(0.1)


def _print_throughput(steps: list[dict], killed_at: int) -> None:
    """What a step took before the server was killed and after; `seconds` are those since the run began."""
    at = {step["step"]: step["seconds"] for step in steps}
    before = (at[killed_at] - at[50]) / (killed_at - 50)
    after = (at[max(at)] - at[killed_at + 50]) / (max(at) - killed_at - 50)
    print(f"{before * 1e3:.2f} ms a step beside the server, {after * 1e3:.2f} ms without it and beside the next")
