"""Which models the studio shows first, without an argument and with, and what they are called there."""

import json
import os

import pytest

from apps.studio_models import _examples, choose
from apps.studio_settings import StudioSettings
from configs import InputError, MissingInput


def _run(path, base="embedded", **settings):
    (path / "final").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"settings": {"base": base, **settings}}), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _chosen(**settings):
    chosen = choose(StudioSettings(**settings))
    return chosen.base, chosen.assistant, chosen.settings.named


def test_without_arguments_the_newest_finished_run_stands_beside_its_base(empty_folder):
    for age, name in ((30, "sft-1"), (10, "sft-2"), (20, "sft-3")):
        run = _run(empty_folder / "runs" / name, base=f"owner/{name}")
        os.utime(run / "final", (1e9 - age, 1e9 - age))
    (empty_folder / "runs" / "sft-4").mkdir()  # under way
    _run(empty_folder / "runs" / "bigram-1")
    assert _chosen() == ("owner/sft-2", "runs/sft-2", {"owner/sft-2": "owner/sft-2"})


def test_a_run_that_was_taught_preferences_after_it_is_newer_and_stands_beside_the_assistant_it_began_as(empty_folder):
    for age, name, base in ((10, "sft-1", "embedded"), (5, "dpo-1", "runs/sft-1"), (1, "new-rows-1", "embedded")):
        run = _run(empty_folder / "runs" / name, base)
        os.utime(run / "final", (1e9 - age, 1e9 - age))
    assert _chosen() == ("runs/sft-1", "runs/dpo-1", {})  # runs are listed without being named


def test_with_no_run_the_embedded_base_stands_alone():
    assert _chosen() == ("embedded", None, {"embedded": "embedded"})


def test_a_named_base_wins_over_the_recorded_one_and_further_models_join(empty_folder):
    run = _run(empty_folder / "sft-1", base="owner/recorded", calculator=True)
    assert _chosen(base="owner/named", tuned=str(run), models=["mine=owner/other"]) == (
        "owner/named",
        "sft-1",
        {"mine": "owner/other", "owner/named": "owner/named", "sft-1": str(run)},
    )
    assert choose(StudioSettings(tuned=str(run))).calculator


def test_a_run_that_is_not_there_is_said():
    with pytest.raises(MissingInput, match="runs/sft-9: no such folder"):
        _chosen(tuned="runs/sft-9")


def test_an_assistant_without_a_record_and_a_server_need_a_base(empty_folder):
    (empty_folder / "assistant").mkdir()
    for tuned in (str(empty_folder / "assistant"), "http://127.0.0.1:9/v1"):
        with pytest.raises(InputError, match="pass --base"):
            _chosen(tuned=tuned)


@pytest.mark.parametrize("inside", ["", "final", "final/adapter", "final/base"])
def test_the_name_is_that_of_the_run_wherever_the_path_points(empty_folder, inside):
    run = _run(empty_folder / "runs" / "sft-5", base="owner/gpt2")
    (run / inside).mkdir(parents=True, exist_ok=True)
    assert _chosen(tuned=str(run / inside), base="owner/gpt2")[1] == "runs/sft-5"


def test_examples_are_the_first_questions_of_the_report_and_none_without_one(empty_folder):
    run = _run(empty_folder / "sft-1")
    assert _examples(run) == ()
    samples = [{"question": question} for question in " aabcdef"]
    (run / "report.json").write_text(json.dumps({"samples": samples}), encoding="utf-8")
    assert _examples(run) == ("a", "b", "c", "d")


@pytest.mark.parametrize("content", ["{", "[]", '{"samples": [{}]}', '{"samples": 3}'])
def test_a_broken_report_is_named(empty_folder, content):
    run = _run(empty_folder / "sft-1")
    (run / "report.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"report\.json: not readable"):
        _examples(run)
