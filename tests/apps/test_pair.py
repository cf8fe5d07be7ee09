"""Which two models the page compares, without an argument and with."""

import json
import os
import shutil

import pytest

from apps.form import PLAIN_FORMATS, read_form
from apps.pair import Names, Pair, choose_names, read_examples, run_of
from configs import InputError, MissingInput
from finetune.conversations.formats import Message
from finetune.replies.prompts import ChatPromptFormat, PlainPromptFormat
from scratch_models.embedded_default import EMBEDDED_BASE


def _run(path, base="embedded"):
    (path / "final").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"settings": {"base": base}}), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_arguments_the_newest_finished_run_stands_beside_its_base(empty_folder):
    for age, name in ((30, "sft-1"), (10, "sft-2"), (20, "sft-3")):
        run = _run(empty_folder / "runs" / name, base=f"owner/{name}")
        os.utime(run / "final", (1e9 - age, 1e9 - age))
    (empty_folder / "runs" / "sft-4").mkdir()  # under way
    _run(empty_folder / "runs" / "bigram-1")
    assert choose_names(None, None) == Names("owner/sft-2", "runs/sft-2")


def test_a_run_that_was_taught_preferences_after_it_is_newer_and_stands_beside_the_assistant_it_began_as(empty_folder):
    for age, name, base in ((10, "sft-1", "embedded"), (5, "dpo-1", "runs/sft-1"), (1, "new-rows-1", "embedded")):
        run = _run(empty_folder / "runs" / name, base)
        os.utime(run / "final", (1e9 - age, 1e9 - age))
    assert choose_names(None, None) == Names("runs/sft-1", "runs/dpo-1")


def test_the_embedded_base_is_found_where_it_ships(empty_folder):
    run = _run(empty_folder / "sft-1")
    assert choose_names(None, str(run)).base == str(EMBEDDED_BASE)
    assert choose_names("embedded", str(run / "final")).base == str(EMBEDDED_BASE)


def test_a_named_base_wins_over_the_recorded_one(empty_folder):
    run = _run(empty_folder / "sft-1", base="owner/recorded")
    assert choose_names("owner/named", str(run)) == Names("owner/named", str(run))


def test_no_finished_run_is_said_with_what_makes_one():
    with pytest.raises(InputError, match=r"no finished run.*sft\.py"):
        choose_names(None, None)


def test_a_run_that_is_not_there_is_said():
    with pytest.raises(MissingInput, match="runs/sft-9: no such folder"):
        choose_names(None, "runs/sft-9")


def test_an_assistant_without_a_record_needs_a_base(empty_folder):
    (empty_folder / "assistant").mkdir()
    with pytest.raises(InputError, match="pass --base"):
        choose_names(None, str(empty_folder / "assistant"))


@pytest.mark.parametrize("inside", ["", "final", "final/adapter", "final/base"])
def test_the_title_is_the_name_of_the_run_wherever_the_path_points(empty_folder, inside):
    path = empty_folder / "runs" / "sft-5" / inside
    assert run_of(str(path)) == empty_folder / "runs" / "sft-5"
    assert Names("owner/gpt2", str(path)).titles == ("owner/gpt2", "sft-5")


def test_examples_are_the_first_questions_of_the_report_and_none_without_one(empty_folder):
    run = _run(empty_folder / "sft-1")
    assert read_examples(str(run)) == []
    samples = [{"question": question} for question in " aabcdef"]
    (run / "report.json").write_text(json.dumps({"samples": samples}), encoding="utf-8")
    assert read_examples(str(run / "final")) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("content", ["{", "[]", '{"samples": [{}]}', '{"samples": 3}'])
def test_a_broken_report_is_named(empty_folder, content):
    run = _run(empty_folder / "sft-1")
    (run / "report.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"report\.json: not readable"):
        read_examples(str(run))


def test_an_assistant_that_knows_no_chat_format_is_named(folders):
    with pytest.raises(InputError, match=rf"^tuned {folders[0]}: .*no control token"):
        Pair(Names(str(folders[0]), str(folders[0])))


def test_the_base_is_asked_in_the_chosen_way_and_the_assistant_always_in_its_format(folders):
    pair = Pair(Names(str(folders[0]), str(folders[1])))
    prompts = {}
    for name in PLAIN_FORMATS:
        base, assistant = pair.sides(read_form("1+1?", name, 0, 0, 1, 0, 8))
        assert isinstance(assistant.prompt_format, ChatPromptFormat)
        assert isinstance(base.prompt_format, PlainPromptFormat)
        prompts[name] = base.prompt_format.prompt.text([Message("user", "1+1?")])
    assert prompts == {
        "question": "Question: 1+1?\nAnswer:",
        "dialogue": "User: 1+1?\nAssistant:",
        "bare": "1+1?\n\n",
        "raw": "1+1?",
    }


def test_the_calculator_is_on_where_the_run_says_so(folders, tmp_path):
    assert Pair(Names(str(folders[0]), str(folders[1]))).chat.calculator is None
    run = tmp_path / "sft-8"
    shutil.copytree(folders[1], run)
    (run / "run.json").write_text(json.dumps({"settings": {"base": str(folders[0]), "calculator": True}}))
    pair = Pair(Names(str(folders[0]), str(run)))
    assert all(
        side.prompt_format.calculator is not None for side in pair.sides(read_form("1+1?", "raw", 0, 0, 1, 0, 8))
    )
