"""Which two models the page compares, without an argument and with."""

import json
import os
import shutil

import pytest

from apps.form import FORMATS, read_form
from apps.pair import Names, Pair, choose_names, formats_of, read_examples, run_of
from configs import InputError, MissingInput
from finetune.conversations.formats import Message
from finetune.replies.prompts import ChatPromptFormat, PlainPromptFormat
from finetune.replies.side_settings import SideSettings


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


def test_the_embedded_base_keeps_its_name(empty_folder):
    run = _run(empty_folder / "sft-1")
    names = choose_names(None, str(run))
    assert (names.base, names.titles) == ("embedded", ("embedded", "sft-1"))


def test_a_server_stands_for_itself_wherever_the_playground_is_started(empty_folder):
    (empty_folder / "run.json").write_text(json.dumps({"settings": {"base": "embedded"}}), encoding="utf-8")
    with pytest.raises(InputError, match="pass --base"):
        choose_names(None, "http://127.0.0.1:8000/v1")
    assert choose_names("http://127.0.0.1:1/v1#a", "http://127.0.0.1:2/v1").titles == (
        "a at 127.0.0.1:1",
        "127.0.0.1:2",
    )


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


def _pair(base, tuned, **settings):
    return Pair(Names(str(base), str(tuned)), SideSettings(**settings))


def _formats(pair, base_format, tuned_format):
    models = pair.models(read_form("1+1?", base_format, tuned_format, 0, 0, 1, 0, 8))
    return [model.prompt_format for model in models]


def test_two_models_that_know_no_chat_format_open_and_are_offered_plain_text_alone(folders):
    pair = _pair(folders[0], folders[0])
    assert pair.first_formats == ("question", "question")
    assert [list(formats_of(side)) for side in pair.sides] == [["question", "dialogue", "bare", "raw"]] * 2
    with pytest.raises(InputError, match=f"^{folders[0]}: has no chat format, expected a chat template"):
        _formats(pair, "question", "chat")


def test_each_is_asked_in_its_own_format_unless_plain_text_is_asked_for(folders):
    base, run = folders
    assert _pair(run, run).first_formats == ("chat", "chat")
    assert _pair(base, run).first_formats == ("question", "chat")
    assert _pair(run, run, base_format="plain").first_formats == ("question", "chat")


def test_each_is_asked_in_the_format_that_is_chosen(folders):
    pair = _pair(*folders)
    prompts = {}
    for name in list(FORMATS)[1:]:
        of_base, of_assistant = _formats(pair, name, "chat")
        assert isinstance(of_assistant, ChatPromptFormat) and isinstance(of_base, PlainPromptFormat)
        assert _formats(pair, name, name)[1].prompt is of_base.prompt
        prompts[name] = of_base.prompt.text([Message("user", "1+1?")])
    assert prompts == {
        "question": "Question: 1+1?\nAnswer:",
        "dialogue": "User: 1+1?\nAssistant:",
        "bare": "1+1?\n\n",
        "raw": "1+1?",
    }


def test_the_calculator_is_on_where_the_run_says_so(folders, tmp_path):
    assert [one.calculator for one in _formats(_pair(*folders), "raw", "chat")] == [None, None]
    run = tmp_path / "sft-8"
    shutil.copytree(folders[1], run)
    (run / "run.json").write_text(json.dumps({"settings": {"base": str(folders[0]), "calculator": True}}))
    assert None not in [one.calculator for one in _formats(_pair(folders[0], run), "raw", "chat")]
