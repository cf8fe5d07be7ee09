"""A run that goes on reads what the unbroken one reads, wherever it was stopped, and asks what it asked before.

The inputs are those of public reports about other trainers: a checkpoint on an epoch's edge (verl#7401), one inside a
later epoch (accelerate#4071, Megatron-Bridge#4565), more steps than the run had (tinker-cookbook#367), and a zero that
is taken for no number (peft#3425).
"""

import json
from collections import Counter
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from finetune.chat.batches import ConversationBatches
from finetune.sft import main
from finetune.supervised.settings import SftSettings
from scratch_models.loop.run_folder import RunFolder
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions

EIGHTS = {**SMALL, "conversations_per_step": 8, "warmup_steps": 0, "evaluation_steps": 0, "seed": 0}


class _Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, and conversations of which 64 are learned from: eight steps an epoch."""
    folder = tmp_path_factory.mktemp("place")
    save_tiny_base(folder / "base")
    write_questions(folder / "data.jsonl", 67)
    return folder


@pytest.fixture
def read(monkeypatch):
    """What is read in each step, as the ids of its conversations."""
    steps: dict[int, list[tuple[int, ...]]] = {}
    ask = ConversationBatches.micro_batches

    def listen(batches, step, rank, world_size):
        found = ask(batches, step, rank, world_size)
        steps[step] = sorted(conversation for one in found for conversation in _conversations(one))
        return found

    monkeypatch.setattr(ConversationBatches, "micro_batches", listen)
    return steps


def _conversations(micro_batch):
    ids, starts = micro_batch["input_ids"][0].tolist(), (micro_batch["position_ids"][0] == 0).nonzero().flatten()
    return [tuple(ids[start:end]) for start, end in pairwise([*starts.tolist(), len(ids)])]


def _run(place, output_dir, **settings):
    run_here(
        main,
        SftSettings,
        **{**EIGHTS, **settings},
        base=place / "base",
        data=place / "data.jsonl",
        output_dir=output_dir,
    )


def _weights(run):
    files = sorted((run / "final").rglob("*.safetensors"))
    return {f"{path.parent.name}/{name}": one for path in files for name, one in load_file(path).items()}


@pytest.mark.parametrize(
    ("steps", "every", "killed_at"),
    [
        pytest.param(24, 8, 9, id="after the first epoch", marks=pytest.mark.long),
        pytest.param(24, 8, 16, id="on the second edge", marks=pytest.mark.long),
        pytest.param(32, 11, 12, id="inside the second epoch", marks=pytest.mark.long),
    ],
)
def test_a_run_that_was_killed_reads_every_conversation_as_often_as_the_unbroken_one(
    steps, every, killed_at, place, read, tmp_path, monkeypatch
):
    length = {"max_steps": steps, "checkpoint_steps": every}
    _run(place, tmp_path / "unbroken", **length)
    unbroken = dict(read)
    assert list(unbroken) == list(range(steps))
    often = Counter(one for conversations in unbroken.values() for one in conversations)
    assert len(often) == 64 and set(often.values()) == {steps // 8}
    append = RunFolder.append_metrics

    def append_until_killed(run, entry):
        append(run, entry)
        if entry["step"] == killed_at:
            raise _Killed

    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="1"):
        patched.setattr(RunFolder, "append_metrics", append_until_killed)
        _run(place, tmp_path / "killed", **length)
    read.clear()
    _run(place, tmp_path / "killed", **length, resume=True)
    first = killed_at // every * every if killed_at % every else killed_at - every  # no checkpoint was due before it
    assert read == {step: unbroken[step] for step in range(first, steps)}
    left, right = _weights(tmp_path / "killed"), _weights(tmp_path / "unbroken")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.long
def test_a_finished_run_is_resumed_with_the_same_epochs_and_refused_by_name_with_more(place, tmp_path, capsys):
    _run(place, tmp_path / "run", max_steps=8)
    for more, found in (({"max_steps": 16}, 16), ({"max_steps": "null", "epochs": 2}, 16)):
        with pytest.raises(SystemExit):
            _run(place, tmp_path / "run", **more, resume=True)
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"run: was started with max_steps = 8, now it is {found}: resume with the same settings" in said
    _run(place, tmp_path / "run", max_steps="null", epochs=1, resume=True)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["max_steps"] == 8 and record["settings"]["epochs"] is None and record["epochs"] == 1


def test_a_warm_up_of_zero_steps_and_a_seed_of_zero_are_numbers(place, tmp_path):
    _run(place, tmp_path / "run", max_steps=2)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["warmup_steps"] == record["settings"]["seed"] == 0
    entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert entries[1]["learning_rate"] == SMALL["learning_rate"]


@pytest.mark.long
def test_as_many_questions_as_fit_are_asked_of_both_and_a_resumed_run_asks_as_many(place, tmp_path, capsys):
    write_questions(tmp_path / "more.jsonl", 600)  # 30 are held out
    settings = {name: value for name, value in EIGHTS.items() if name != "evaluation_conversations"}
    settings |= {"max_steps": 1, "checkpoint_steps": 1, "evaluation_minutes": 1e-6, "base": place / "base"}
    settings |= {"data": tmp_path / "more.jsonl", "output_dir": tmp_path / "run"}
    run_here(main, SftSettings, **settings)
    assert "Asked 20 of 30 questions, spread evenly" in capsys.readouterr().out
    record, report = (json.loads((tmp_path / "run" / name).read_text()) for name in ("run.json", "report.json"))
    assert record["questions_asked"] == report["base"]["conversations"] == report["assistant"]["conversations"] == 20
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "questions_asked": 23}))
    run_here(main, SftSettings, **settings, resume=True)
    assert json.loads((tmp_path / "run" / "report.json").read_text())["assistant"]["conversations"] == 23
