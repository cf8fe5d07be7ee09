"""Runs started from Python: the same as those of the commands, and the run that comes back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import finetune as package
from configs import InputError
from finetune import TunedRun, dpo, finetune, open_run, prefer, sft
from finetune.conversations.formats import read_conversations
from finetune.preference.settings import DpoSettings
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import questions, save_tiny_base, write_questions

ROWS = [{"question": asked, "answer": answer} for asked, answer in questions(100)]
PAIRS = [{"prompt": asked, "chosen": answer, "rejected": "It is pink."} for asked, answer in questions(60)]
SFT: dict[str, Any] = {**SMALL, "max_steps": 4, "precision": "fp32"}
DPO: dict[str, Any] = {
    "max_steps": 2,
    "pairs_per_step": 4,
    "evaluation_pairs": 3,
    "evaluation_replies": 2,
    "reply_tokens": 4,
}
DPO |= {"precision": "fp32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"), initializer_range=0.2)


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """A run of a list of dicts."""
    return finetune(base, ROWS, **SFT, output_dir=tmp_path_factory.mktemp("runs") / "rows")


@pytest.fixture(scope="module")
def preferring(run):
    """A run of pairs that begins with another."""
    return prefer(run, PAIRS, **DPO, output_dir=run.folder.with_name("pairs"))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted((folder / "final").rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def _equal(left: Path, right: Path) -> bool:
    one, other = _weights(left), _weights(right)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_from_python_ends_with_the_weights_of_the_same_run_from_the_command(base, run, tmp_path):
    data = write_questions(tmp_path / "data.jsonl")
    run_here(sft.main, SftSettings, **SFT, base=base, data=data, output_dir=tmp_path / "run")
    assert _equal(run.folder, tmp_path / "run")
    records = [json.loads((folder / "run.json").read_text()) for folder in (run.folder, tmp_path / "run")]
    assert records[0]["data_sha256"] == records[1]["data_sha256"]


def test_preferences_from_python_end_with_the_weights_of_the_same_run_from_the_command(run, preferring, tmp_path):
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    run_here(dpo.main, DpoSettings, **DPO, base=run.folder, data=data, output_dir=tmp_path / "run")
    assert _equal(preferring.folder, tmp_path / "run")


@pytest.mark.long
def test_a_dataset_conversations_and_a_path_make_the_same_run_as_dicts(base, run, tmp_path):
    datasets = pytest.importorskip("datasets")
    file = write_questions(tmp_path / "data.jsonl")
    forms = {
        "dataset": datasets.Dataset.from_list(ROWS).with_format("numpy"),
        "conversations": read_conversations(str(file)),
        "path": file,
        "generator": (row for row in ROWS),
    }
    for name, data in forms.items():
        assert _equal(finetune(base, data, **SFT, output_dir=tmp_path / name).folder, run.folder), name


def test_a_run_keeps_its_rows_and_the_command_resumes_it_with_them(base, run, tmp_path):
    assert [json.loads(line) for line in (run.folder / "data.jsonl").read_text().splitlines()] == ROWS
    settings = {**SFT, "base": base, "output_dir": run.folder, "resume": True}
    before = _weights(run.folder)
    run_here(sft.main, SftSettings, **settings, data=run.folder / "data.jsonl")
    after = _weights(run.folder)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(InputError, match="data is not what the run was started with"):
        finetune(base, ROWS[:50], **SFT, output_dir=run.folder, resume=True)


def test_the_run_says_what_came_out(run, base):
    assert run.metrics == [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    report = json.loads((run.folder / "report.json").read_text())
    assert run.report.assistant.bits_per_byte == report["assistant"]["bits_per_byte"]
    assert run.table[0][0].startswith("bits per byte") and len(run.report.metrics) == len(run.metrics) == 5
    assert re.fullmatch(
        rf"<{run.folder}: {base} on rows in memory, 4 steps; bits per byte .*: [\d.]+ → [\d.]+>", repr(run)
    )


def test_a_notebook_shows_the_table_the_loss_curve_and_the_folder(run, preferring):
    shown = run._repr_html_()
    assert "<th class=number>assistant</th>" in shown and "data:image/svg+xml" in shown and str(run.folder) in shown
    assert "<th class=number>tuned</th>" in preferring._repr_html_() and "reward margin" in preferring._repr_html_()


def test_the_model_is_the_one_in_the_folder(run):
    assert run.model is run.model and not run.model.training
    opened = open_run(str(run.folder))
    assert opened == run
    left, right = run.model.state_dict(), opened.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert run.tokenizer.chat_template


def test_a_chat_goes_on_from_messages_as_from_a_question(run):
    asked = ROWS[0]["question"]
    assert run.chat(asked, reply_tokens=6) == run.chat([{"role": "user", "content": asked}], reply_tokens=6)
    said = [*({"role": "user", "content": asked}, {"role": "assistant", "content": "Red."})]
    assert isinstance(run.chat([*said, {"role": "user", "content": "Sure?"}], reply_tokens=6), str)
    drawn = [run.chat(asked, reply_tokens=6, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("said", ["", [], [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]])
def test_a_chat_without_a_question_is_refused(run, said):
    with pytest.raises(InputError, match=r"chat: \d messages cannot be answered"):
        run.chat(said)


def test_a_chat_longer_than_the_positions_and_an_unknown_role_are_refused(run):
    with pytest.raises(InputError, match=r"chat: \d messages cannot be answered"):
        run.chat("again and " * 200)
    with pytest.raises(InputError, match=r"chat: messages\[0\].role is 'robot', expected one of"):
        run.chat([{"role": "robot", "content": "?"}])


def test_prompts_are_answered_by_both_and_questions_are_measured(run):
    asked = [ROWS[0]["question"], ROWS[1]["question"]]
    both = run.compare(asked, reply_tokens=6)
    assert [one["question"] for one in both.questions] == asked and both.questions[0].keys() >= {"base", "tuned"}
    assert both.questions[0]["tuned"] == run.chat(asked[0], reply_tokens=6)
    measured = run.compare(ROWS[:6], reply_tokens=6)
    assert len(measured.questions) == 6 and measured.figures[0].name.startswith("bits per byte")
    assert "on 6 questions" in repr(measured) and "<pre>" in measured._repr_html_()
    itself = run.compare(ROWS[:6], base=run, reply_tokens=6)
    assert itself.figures[0].base == itself.figures[0].tuned


def test_a_merge_opens_with_transformers_alone(run, tmp_path, capsys):
    merged = run.merge(tmp_path / "merged", stored_as="bfloat16")
    assert merged == tmp_path / "merged" and "Merged and read back from disk" in capsys.readouterr().out
    assert AutoModelForCausalLM.from_pretrained(merged).dtype == torch.bfloat16
    with pytest.raises(InputError, match="is not an empty folder"):
        run.merge(tmp_path / "merged")


def test_a_run_is_not_uploaded_by_nobody(run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(InputError, match="push_to_hub"):
        run.push_to_hub("not a name")


@pytest.mark.long
def test_what_is_only_shown_leaves_nothing(base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert finetune(base, ROWS, **SFT, dry_run=True) is None
    assert "first example, with what is learned marked" in capsys.readouterr().out and list(tmp_path.iterdir()) == []
    assert finetune(base, ROWS, **SFT, held_out=ROWS[:10], dry_run=True) is None
    assert "10 conversations whose question is held out too" in capsys.readouterr().out
    datasets = pytest.importorskip("datasets")
    assert prefer(base, PAIRS, held_out=datasets.Dataset.from_list(PAIRS[:10]), dry_run=True) is None
    shown = capsys.readouterr().out
    assert "50 pairs to learn from" in shown and "10 pairs whose prompt is held out too" in shown


@pytest.mark.long
def test_pairs_that_are_held_out_are_kept_with_the_run(run, tmp_path):
    preferred = prefer(run, PAIRS, **DPO, held_out=PAIRS[:6], output_dir=tmp_path / "run")
    assert [json.loads(line) for line in (tmp_path / "run" / "held_out.jsonl").read_text().splitlines()] == PAIRS[:6]
    assert preferred.settings["held_out"] == "rows in memory"
    with pytest.raises(InputError, match="held_out: found a number, expected a file, a Hub name, or rows"):
        prefer(run, PAIRS, held_out=7)


@pytest.mark.parametrize(
    ("data", "settings", "expected"),
    [
        (ROWS, {"epoch": 1}, "epoch: no such setting, did you mean epochs?"),
        (ROWS, {"method": "qlora"}, "method is 'qlora', expected one of lora, full"),
        (ROWS, {"max_steps": 1.5}, "max_steps is 1.5, expected int or null"),
        (ROWS[:5], {}, "rows in memory: 5 different questions are too few, expected at least 20"),
        ([], {}, "rows in memory: found 0 conversations"),
        ([{"question": "?"}], {}, "rows[0]: keys are 'question', expected messages"),
        ({"train": ROWS}, {}, "data: found an object of 'train', expected rows: give one split"),
        (7, {}, "data: found a number, expected a file, a Hub name, or rows"),
        ("no-such.jsonl", {}, "no-such.jsonl: no such file"),
    ],
)
def test_a_mistake_is_an_error_in_one_line_and_nothing_is_written(
    base, data, settings, expected, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        finetune(base, data, **settings)
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_told_in_the_words_of_the_command(base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = write_questions(tmp_path / "few.jsonl", 5)
    with pytest.raises(SystemExit):
        run_here(sft.main, SftSettings, base=base, data=few)
    with pytest.raises(InputError) as error:
        finetune(base, few)
    assert str(error.value) == capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no run.json, expected the folder of a run"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"settings": {}}')
    with pytest.raises(InputError, match="the run is not finished"):
        open_run(tmp_path)
    (tmp_path / "final").mkdir()
    with pytest.raises(InputError, match="is a run of another command"):
        open_run(tmp_path)


def test_the_package_names_what_it_gives_and_nothing_else():
    assert package.TunedRun is TunedRun
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = package.no_such_name
