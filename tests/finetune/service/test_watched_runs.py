"""What is seen of runs: jobs of the queue and folders of a terminal, each with its newest figures and its curves."""

import json

import pytest

from finetune.runs.job_store import JobStore
from finetune.service.watched_runs import MOST_POINTS, WatchedRun, curves, describe, plot, watched_runs


def _run(folder, steps: int, *, finished: bool = True):
    (folder / "final" if finished else folder).mkdir(parents=True)
    (folder / "run.json").write_text('{"settings": {}}')
    lines = [{"step": 0, "tokens": 0, "seconds": 0.0, "held_out_loss_nats": 2.0}]
    one = {"tokens": 9, "seconds": 1.0, "tokens_per_second": 100.0}
    lines += [{"step": n, "loss_nats": 1.0 / n, **one} for n in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 9, "lo')
    return folder


@pytest.fixture
def store(tmp_path):
    (tmp_path / "chats.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    return JobStore(tmp_path / "service")


def test_jobs_and_folders_are_listed_the_newest_first_also_by_another_store(store, tmp_path):
    _run(tmp_path / "runs" / "sft-1", 3)
    _run(tmp_path / "runs" / "gpt-char-2", 3, finished=False)
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "runs" / "sft-1")
    job = store.add("inspect_data", {"data": str(tmp_path / "chats.jsonl")}, name="mine")
    found = watched_runs(JobStore(store.folder), tmp_path / "runs")
    assert found[0].name == job.id and (found[0].label, found[0].state) == ("mine", "queued")
    assert {(run.name, run.kind, run.state) for run in found[1:]} == {
        ("runs/sft-1", "sft", "finished"),
        ("runs/gpt-char-2", "gpt-char", "not finished"),
    }
    store.cancel(job.id)
    assert watched_runs(store, tmp_path / "nothing")[0].state == "cancelled"


def test_the_newest_figures_are_said_and_a_damaged_line_is_not_read(tmp_path):
    run = WatchedRun("run", "sft", "running", _run(tmp_path / "run", 4), 0)
    assert describe(run, run.figures) == ["step 4", "loss 0.250", "held out 2.000", "100 tokens/s"]
    nothing = WatchedRun("run", "sft", "queued", tmp_path / "nothing", 0)
    assert (nothing.metrics, describe(nothing, nothing.figures)) == ([], [])


def test_curves_are_thinned_keep_their_last_point_and_say_whose_they_are(tmp_path):
    steps = 3 * MOST_POINTS + 1
    runs = [WatchedRun(name, "sft", "running", _run(tmp_path / name, steps), 0) for name in ("a", "b")]
    points = curves(runs[:1])
    training = [point for point in points if point["of"] == "training"]
    assert len(training) <= MOST_POINTS + MOST_POINTS // 2 and training[-1] == {
        "step": steps,
        "nats": 1 / steps,
        "of": "training",
    }
    assert plot(runs).startswith("data:image/svg+xml;base64,") and plot([]) == ""
    assert {point["of"] for point in curves(runs)} == {
        f"{name}, {of}" for name in "ab" for of in ("training", "held out")
    }
