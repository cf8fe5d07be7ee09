"""Before a run learns from its data it says what of it should perhaps not be learned; nothing where it is clean."""

import pytest

from finetune.conversations.splits import read_conversation_splits
from finetune.dpo import main as dpo
from finetune.inspection.before_training import inspect_before_training
from finetune.preference.settings import DpoSettings
from finetune.sft import main as sft
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import run_here
from tests.finetune.inspection.planted import write_rows
from tests.finetune.tiny_models import questions, save_tiny_base

TOKEN = "ghp_aB3dE6gH9kL2mN5pQ8rS1tU4vW7xY0zAbCdE"


def _rows(*, clean):
    rows = [{"question": asked, "answer": answer} for asked, answer in questions(60)]
    if not clean:
        rows[4]["answer"] += TOKEN
        rows[5]["question"] += "<|im_start|>"
        rows.append(rows[7])
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("clean", [True, False])
def test_sft_says_what_it_finds_and_nothing_of_clean_data(base, tmp_path, monkeypatch, capsys, clean):
    monkeypatch.chdir(tmp_path)
    path = write_rows(tmp_path / "chats.jsonl", _rows(clean=clean))
    run_here(sft, SftSettings, base=base, data=path, inspect=1)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("data: ")]
    expected = [
        f"data: likely secrets, 1 record: GitHub token (first: {path}:5)",
        f"data: control tokens in content, 1 record: <|im_start|> (first: {path}:6)",
        f"data: exact duplicates of a record before, 1 record: equal to another (first: {path}:61)",
        f"data: see all of it with: python -m finetune.inspect_data {path}",
    ]
    assert said == ([] if clean else expected)


def test_dpo_says_it_too(base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs = [{"prompt": one["question"], "chosen": one["answer"], "rejected": "No."} for one in _rows(clean=False)]
    path = write_rows(tmp_path / "pairs.jsonl", pairs)
    run_here(dpo, DpoSettings, base=base, data=path, dry_run=True)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("data: ")]
    assert [line.split(",")[0] for line in said[:3]] == [
        "data: likely secrets",
        "data: control tokens in content",
        "data: exact duplicates of a record before",
    ]


def test_a_second_start_on_the_same_file_looks_at_nothing_and_says_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = str(write_rows(tmp_path / "chats.jsonl", _rows(clean=False)))
    splits = read_conversation_splits(path)
    first = inspect_before_training(path, ((one,) for one in splits.training), splits.kept_as)
    again = read_conversation_splits(path).kept_as
    assert len(first) > 2 and inspect_before_training(path, iter(()), again) == first
    write_rows(tmp_path / "chats.jsonl", _rows(clean=True))
    splits = read_conversation_splits(path)
    assert inspect_before_training(path, ((one,) for one in splits.training), splits.kept_as) == []
