"""Training as a job: the same weights as from the terminal, also after a pause; what fails says why."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune.runs.job_store import JobStore
from finetune.runs.worker import Worker
from tests.finetune.entry_runs import SMALL, run_process
from tests.finetune.runs.carried_out import attempts_begun, wait_for, wait_until_ended
from tests.finetune.tiny_models import save_tiny_base, write_questions

SETTINGS = {**SMALL, "max_steps": 24, "evaluation_steps": 0, "checkpoint_steps": 0, "seed": 0}
LAUNCH = ("-m", "accelerate.commands.launch")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    save_tiny_base(folder / "base")
    write_questions(folder / "data.jsonl", 67)
    (folder / "bad.jsonl").write_text('{"question": "1+1?"}\n')
    return folder


def _settings(place, **changes):
    return {**SETTINGS, "base": str(place / "base"), "data": str(place / "data.jsonl"), **changes}


def _weights(run: Path):
    return {str(path.relative_to(run)): load_file(path) for path in sorted((run / "final").rglob("*.safetensors"))}


def _same(left, right):
    assert left.keys() == right.keys() and left
    return all(torch.equal(left[file][name], right[file][name]) for file in left for name in left[file])


@pytest.mark.long
def test_a_job_makes_the_weights_of_the_command_also_where_it_was_paused_and_its_metrics_are_events(place, tmp_path):
    ended = run_process("finetune/sft.py", tmp_path, launch=LAUNCH, **_settings(place), output_dir=tmp_path / "command")
    assert ended.returncode == 0, ended.stderr
    store = JobStore(tmp_path / "service")
    whole, paused = store.add("sft", _settings(place)), store.add("sft", _settings(place))
    worker = Worker(store, devices=["cpu"])
    worker.start()
    wait_for(lambda: len(store.metrics(paused.id)) > 3, "in its steps")
    assert store.pause(paused.id).wanted == "pause"
    wait_for(lambda: store.get(paused.id).state == "paused", "paused")
    (checkpoint,) = store.checkpoints(paused.id)
    assert 0 < checkpoint.step < 24
    before = store.events(paused.id)
    assert store.resume(paused.id).state == "queued"
    found = wait_until_ended(store, whole, paused)
    worker.stop()
    assert [job.state for job in found] == ["succeeded"] * 2 and [attempts_begun(job) for job in found] == [1, 2]
    command = _weights(tmp_path / "command")
    assert _same(command, _weights(whole.output_dir)) and _same(command, _weights(paused.output_dir))
    events = store.events(paused.id)
    assert events[: len(before)] == before
    steps = [event.data["step"] for event in store.events(whole.id) if event.type == "metrics"]
    lines = (whole.output_dir / "metrics.jsonl").read_text().splitlines()
    assert steps == [json.loads(line)["step"] for line in lines]


@pytest.mark.long
def test_jobs_that_fail_say_why_and_the_next_ones_go_on(place, tmp_path):
    store = JobStore(tmp_path / "service")
    bad = store.add("sft", _settings(place, data=str(place / "bad.jsonl")))
    not_finite = store.add("sft", _settings(place, learning_rate=1e30, max_steps=20))
    with_no_room = store.add(
        "extend", {"base": str(place / "base"), "control_tokens": ["<|x|>"], "rows_multiple": 40_000}
    )
    good = store.add("sft", _settings(place, max_steps=2))
    work = [sys.executable, "-m", "finetune.runs", "work", "--folder", str(store.folder)]
    worker = subprocess.Popen(["sh", "-c", f"ulimit -f {4_000_000 // 512}; exec {shlex.join(work)}"])
    found = wait_until_ended(store, bad, not_finite, with_no_room, good)
    worker.terminate()
    worker.wait()
    assert [job.state for job in found] == ["failed"] * 3 + ["succeeded"]
    said = [job.error or "" for job in found]
    assert "bad.jsonl:1: " in said[0]
    assert "loss nan and gradient norm nan, expected finite numbers" in said[1]
    assert "bytes" in said[2] and "are free: make room" in said[2]
    assert all("\n" not in one for one in said)
