"""The same conversations in every form and every kind of file give the same ids and masks in real chat templates."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from finetune.chat.template_format import TemplateFormat
from finetune.conversations.formats import read_conversations
from tests.finetune.files.written_files import WRITERS
from tests.house.repository import ROOT
from tests.real_tokenizers import loaded_tokenizer, smollm2_folder
from tokenizer_ext.huggingface.hf_model import load_tokenizer

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "multiply",
            "description": "The product.",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
        },
    }
]
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def _worked(number, question, answer):
    """A conversation in which each answer is asked twice, each third one with a system message, as (role, text)."""
    system = [("system", "Be brief.")] if number % 3 == 0 else []
    return [*system, ("user", question), ("assistant", answer), ("user", "Sure?"), ("assistant", f"Yes: {answer}")]


def _with_call(question, answer):
    """OpenAI's messages of a conversation in which a tool is called; no other one has these keys."""
    call = {"type": "function", "id": "c1", "function": {"name": "multiply", "arguments": '{"a": 6, "b": 7}'}}
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "I multiply.", "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "multiply"},
        {"role": "assistant", "content": answer, "reasoning_content": "It is a product."},
    ]


def _messages(turns):
    return [{"role": role, "content": text} for role, text in turns]


def _sharegpt(turns):
    return [{"from": SPEAKERS[role], "value": text} for role, text in turns]


SINGLE: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "question": lambda q, a: {"question": q, "answer": a},
    "messages": lambda q, a: {"messages": _messages([("user", q), ("assistant", a)])},
    "sharegpt": lambda q, a: {"conversations": _sharegpt([("user", q), ("assistant", a)])},
    "text": lambda q, a: {"prompt": q, "completion": a, "label": True},
    "lists": lambda q, a: {"prompt": _messages([("user", q)]), "completion": _messages([("assistant", a)])},
    "alpaca with nulls": lambda q, a: {"instruction": q, "input": None, "output": a, "system": None, "history": None},
    "openai with nulls": lambda q, a: {
        "messages": [
            {**one, "name": None, "weight": None, "tool_calls": None} for one in SINGLE["messages"](q, a)["messages"]
        ],
        "tools": None,
        "parallel_tool_calls": None,
    },
}
SEVERAL = {
    "messages": lambda turns: {"messages": _messages(turns)},
    "sharegpt": lambda turns: {"conversations": _sharegpt(turns)},
    "lists": lambda turns: {"prompt": _messages(turns[:-1]), "completion": _messages(turns[-1:])},
}


def _in_files(forms):
    """Every form in JSON Lines, and messages in every kind of file; the others take long."""
    return [
        pytest.param(form, name, marks=[] if name == "chats.jsonl" or form == "messages" else pytest.mark.long)
        for form in forms
        for name in WRITERS
    ]


@pytest.fixture(scope="module")
def sample():
    if not GSM8K.is_file():
        pytest.skip(f"{GSM8K} is not there")
    lines = GSM8K.read_text(encoding="utf-8").splitlines()[:3000:100]
    return [(one["question"], one["answer"]) for one in map(json.loads, lines)]


@pytest.fixture(scope="module")
def smollm2():
    return TemplateFormat(load_tokenizer(str(smollm2_folder())))


def _expect_same(folder, records, name, expected, chat):
    WRITERS[name](folder / name, records)
    read = read_conversations(str(folder / name))
    assert [(one.messages, one.tools) for one in read] == [(one.messages, one.tools) for one in expected]
    found, wanted = chat.render_set(read), chat.render_set(expected)
    assert found == wanted and sum(map(sum, (row.supervised for row in found))) > 0


@pytest.mark.parametrize(("form", "name"), _in_files(SINGLE))
def test_single_questions_of_every_form_in_every_kind_of_file(smollm2, sample, tmp_path, form, name):
    WRITERS["chats.jsonl"](tmp_path / "lines.jsonl", [SINGLE["question"](*one) for one in sample])
    expected = read_conversations(str(tmp_path / "lines.jsonl"))
    _expect_same(tmp_path, [SINGLE[form](*one) for one in sample], name, expected, smollm2)


@pytest.mark.parametrize(("form", "name"), _in_files(SEVERAL))
def test_several_turns_of_every_form_in_every_kind_of_file(smollm2, sample, tmp_path, form, name):
    turns = [_worked(number, *one) for number, one in enumerate(sample)]
    WRITERS["chats.jsonl"](tmp_path / "lines.jsonl", [SEVERAL["messages"](one) for one in turns])
    expected = read_conversations(str(tmp_path / "lines.jsonl"))
    _expect_same(tmp_path, [SEVERAL[form](one) for one in turns], name, expected, smollm2)


@pytest.mark.parametrize("name", WRITERS)
def test_tools_and_their_calls_in_every_kind_of_file(sample, tmp_path, name):
    records = [
        {"messages": _with_call(*one), "tools": TOOLS}
        if number % 2
        else {**SEVERAL["messages"](_worked(number, *one)), "tools": None}  # Arrow takes the columns of the first row
        for number, one in enumerate(sample)
    ]
    WRITERS["chats.jsonl"](tmp_path / "lines.jsonl", records)
    expected = read_conversations(str(tmp_path / "lines.jsonl"))
    assert sum(one.tools is not None for one in expected) == len(records) // 2
    _expect_same(tmp_path, records, name, expected, TemplateFormat(loaded_tokenizer("qwen3")))
