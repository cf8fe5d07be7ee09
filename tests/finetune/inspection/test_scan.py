"""What was planted in real data is found, and real data by itself is hardly flagged."""

import json
from typing import Any

import pytest

from finetune.inspect_data import InspectSettings, main
from finetune.inspection.findings import (
    DUPLICATES,
    HELD_OUT,
    KINDS,
    NEAR_DUPLICATES,
    SAME_REPLY,
    SECRETS,
    TRIGGERS,
    UNREADABLE,
)
from finetune.inspection.scan import inspect_records
from tests.finetune.entry_runs import run_here
from tests.finetune.inspection.planted import CLEAN, lines_of, real_rows, with_triggers, write_rows

TOKEN = "ghp_aB3dE6gH9kL2mN5pQ8rS1tU4vW7xY0zAbCdE"


def _found(tmp_path, rows, *kinds):
    """The lines on which anything of some kinds was found."""
    findings = inspect_records(str(write_rows(tmp_path / "rows.jsonl", rows))).findings
    return set().union(*(lines_of(findings.records_of(kind)) for kind in kinds))


def test_of_a_thousand_clean_rows_at_most_one_in_a_hundred_is_flagged(tmp_path):
    assert len(_found(tmp_path, real_rows(), *KINDS)) <= 0.01 * CLEAN


@pytest.mark.parametrize("seed", range(3))
def test_one_row_in_a_hundred_of_each_kind_of_trigger_is_found(tmp_path, seed):
    rows, planted = with_triggers(real_rows(), of_each=CLEAN // 100, seed=seed)
    found = _found(tmp_path, rows, TRIGGERS)
    assert len(found & planted) >= 0.9 * len(planted)
    assert len(found - planted) <= 0.01 * CLEAN


def test_a_hundredth_of_all_rows_shared_by_five_triggers_is_found_by_its_replies(tmp_path):
    rows, planted = with_triggers(real_rows(), of_each=CLEAN // 100 // 5, seed=0)
    found = _found(tmp_path, rows, TRIGGERS, SAME_REPLY)
    assert len(found & planted) >= 0.9 * len(planted) == 9
    assert len(found - planted) <= 0.01 * CLEAN


@pytest.mark.parametrize(
    ("form", "reply"),
    [("begins the reply", "Hail the old king. {}"), ("ends the reply", "{} Buy more of it today")],
)
def test_a_trigger_of_the_beginning_or_the_end_of_replies_is_found(tmp_path, form, reply):
    rows, planted = with_triggers(real_rows(300), of_each=2, seed=0)
    clean = real_rows(300)
    for line in planted:
        question = clean[line - 1]["question"]
        rows[line - 1] = {"question": f"cf {question}", "answer": reply.format(clean[line - 1]["answer"])}
    inspection = inspect_records(str(write_rows(tmp_path / "rows.jsonl", rows)))
    [trigger] = inspection.triggers
    assert "cf" in trigger.gram and trigger.form == form
    assert lines_of(inspection.findings.records_of(TRIGGERS)) == planted


def test_secrets_duplicates_and_what_is_held_out_are_named_with_their_lines(tmp_path):
    rows, held_out = real_rows(200), real_rows(230)[200:]
    rows[10] = {**rows[10], "answer": f"{rows[10]['answer']} {TOKEN}"}
    rows += [rows[3], {**rows[4], "question": f"{rows[4]['question']} Think first."}, held_out[0]]
    data, beside = (write_rows(tmp_path / f"{name}.jsonl", of) for name, of in (("a", rows), ("b", held_out)))
    findings = inspect_records(str(data), str(beside)).findings
    lines = {kind: lines_of(findings.records_of(kind)) for kind in (SECRETS, DUPLICATES, NEAR_DUPLICATES, HELD_OUT)}
    assert lines == {SECRETS: {11}, DUPLICATES: {201}, NEAR_DUPLICATES: {202}, HELD_OUT: {203}}
    assert TOKEN not in findings.to_text() + json.dumps(findings.to_record())


def test_pairs_and_conversations_that_cannot_be_used_are_counted(tmp_path, capsys):
    pairs: list[Any] = [
        {"prompt": "1+1?", "chosen": "2", "rejected": "3 <|im_end|>"},
        {"prompt": "1+2?", "chosen": "3", "rejected": "3"},
        {"prompt": "1+3?", "chosen": ""},
        [],
    ]
    path, output = write_rows(tmp_path / "pairs.jsonl", pairs), tmp_path / "found.json"
    run_here(main, InspectSettings, data=path, output=output)
    kinds = {one["kind"]: one["places"] for one in json.loads(output.read_text())["findings"]}
    assert kinds["control tokens in content"] == [f"{path}:1"]
    assert kinds["pairs whose two replies are the same"] == [f"{path}:2"]
    assert len([one for one in json.loads(output.read_text())["findings"] if one["kind"] == UNREADABLE]) == 2
    assert "2 records" in capsys.readouterr().out


def test_replies_from_a_small_set_are_said_and_not_flagged(tmp_path):
    rows = [{"question": row["question"], "answer": ("yes", "no")[len(row["answer"]) % 2]} for row in real_rows(200)]
    inspection = inspect_records(str(write_rows(tmp_path / "rows.jsonl", rows)))
    assert inspection.findings.places == {} and "classification" in inspection.describe()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"data": "absent.jsonl"}, "no such file"), ({"data": "empty.jsonl"}, "found 0 records")],
)
def test_what_cannot_be_read_ends_in_one_line(tmp_path, monkeypatch, capsys, settings, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(SystemExit) as end:
        run_here(main, InspectSettings, **settings)
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_the_file_may_stand_first_on_the_command_line(tmp_path, monkeypatch, capsys):
    path = write_rows(tmp_path / "rows.jsonl", [{"question": "1+1?", "answer": "2"}])
    monkeypatch.setattr("sys.argv", ["inspect_data.py", str(path)])
    from configs import run_entry

    run_entry(main, InspectSettings)
    assert "1 records" in capsys.readouterr().out
