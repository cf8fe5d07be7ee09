"""Rows in memory are read as the same rows in a file are."""

import copy
import json
from dataclasses import replace
from datetime import datetime

import pytest

from configs import InputError
from finetune.api.given_rows import name_of_data, to_record
from finetune.conversations.formats import read_conversations, to_conversation
from finetune.conversations.messages import Conversation, Message, ToolCall
from finetune.conversations.pairs import read_pairs
from finetune.files.rows_in_memory import KEPT, keep_rows

FORMS = {
    "messages": {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2", "weight": 0}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}], "id": 7},
    "completion": {"prompt": "Half of 48?", "completion": "24", "answer": "24", "when": datetime(2026, 1, 1)},
    "alpaca": {"instruction": "Add.", "input": "1, 2", "output": "3", "history": [["Hi", "Hello"]], "system": "Hm."},
    "question": {"question": "Café?", "answer": "Yes. #### 1", "note": None},
}
QUESTION = FORMS["question"]
CALL = ToolCall("add", '{"a": 1,  "b": 2}', "call-1")
TALK = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "1+2?"),
        Message("assistant", "", tool_calls=(CALL,), reasoning="A tool adds."),
        Message("tool", "3", name="add", tool_call_id="call-1"),
        Message("assistant", "3?", weight=0),
        Message("user", "Sure?"),
        Message("assistant", "Hm.", weight=0.1),
        Message("user", "Well?"),
        Message("assistant", "3.", reasoning="It is 3.", written="<think>\nIt is 3.\n</think>\n\n3."),
    ),
    "somewhere:1",
    answer="3",
    tools='[{"type": "function", "function": {"name": "add"}}]',
)


def _alike(conversations):
    return [replace(one, source="") for one in conversations]


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_read_as_the_same_rows_in_a_file(form, tmp_path):
    rows = [FORMS[form]] * 2
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    assert _alike(read_conversations(name_of_data(rows))) == _alike(read_conversations(str(file)))


def test_rows_of_a_dataset_are_read_as_a_table_is():
    datasets = pytest.importorskip("datasets")
    called = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "", "tool_calls": [called]}]
    rows = [{"messages": messages, "note": "x"}, {"messages": [messages[0], {"role": "assistant", "content": "2"}]}]
    dataset = datasets.Dataset.from_list(rows)
    assert dataset[0]["messages"][0]["tool_calls"] is None  # Arrow fills what a row lacks
    assert read_conversations(name_of_data(dataset)) == read_conversations(name_of_data(rows))
    streamed = dataset.to_iterable_dataset()
    assert read_conversations(name_of_data(streamed)) == read_conversations(name_of_data(rows))


def test_a_conversation_is_written_so_that_the_same_one_is_read():
    assert replace(to_conversation(to_record(TALK), "x"), source=TALK.source) == TALK
    assert _alike(read_conversations(name_of_data([TALK, TALK]))) == _alike([TALK, TALK])


@pytest.mark.parametrize("rows", [*([row] for row in FORMS.values()), [TALK]], ids=[*FORMS, "conversation"])
def test_what_a_run_keeps_of_rows_is_read_as_they_were(rows, tmp_path):
    keep_rows(name_of_data(rows), tmp_path)
    assert _alike(read_conversations(str(tmp_path / KEPT))) == _alike(read_conversations(name_of_data(rows)))


def test_nothing_is_kept_of_other_data(tmp_path):
    keep_rows("chats.jsonl", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pairs_are_read_from_rows():
    pair = read_pairs(name_of_data([{"prompt": "1+1?", "chosen": "2", "rejected": "3"}]))[0]
    assert (pair.chosen[0].content, pair.source) == ("2", "rows[0]")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (7, r"rows\[1\]: is of type int, expected a dict such as"),
        ({"text": "no chat"}, r"rows\[1\]: keys are 'text', expected messages"),
        (
            {"messages": [{"role": "robot", "content": ""}]},
            r"rows\[1\]: messages\[0\].role is 'robot', expected one of",
        ),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_place(row, expected):
    with pytest.raises(InputError, match=expected):
        read_conversations(name_of_data([QUESTION, row]))


def test_settings_that_are_copied_do_not_copy_the_rows():
    data = name_of_data([QUESTION])
    assert copy.deepcopy({"data": data})["data"] is data
