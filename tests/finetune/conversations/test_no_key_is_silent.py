"""Every key beside what is read is honoured, refused by name in one line, or named and counted: none is dropped.

A key is silent where ids, masks and weights, and all that `--dry_run` counts, are the same with it and without.
"""

import json
from collections import Counter
from dataclasses import replace

import pytest

from configs import InputError
from finetune.chat.dataset import prepare_dataset
from finetune.chat.template_format import TemplateFormat
from finetune.conversations.questions import read_questions
from finetune.conversations.splits import read_conversation_splits
from finetune.preference.dataset import prepare_preferences
from finetune.preference.pair_splits import read_preference_splits
from tests.finetune.tiny_models import questions
from tests.real_tokenizers import loaded_tokenizer

CALL = {"name": "f", "arguments": "{}"}
MEANT = {
    "weight": 0.5,
    "train": False,
    "label": False,
    "tool_calls": [{"type": "function", "function": CALL}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "functions": [{"name": "f"}],
    "function_call": CALL,
    "reasoning_content": "Hm.",
    "system": "Be brief.",
    "history": [["Hi", "Hello"]],  # of a record one of its own, else all would be one question
    "images": ["a.png"],
    "name": "ann",
}
MADE_UP = {
    f"{word}_{number}": value
    for number, (word, value) in enumerate(
        [("mood", "good"), ("weight_of", 0), ("is_masked", True), ("reply", ["no"]), ("about", {"a": 1})] * 6
    )
}
SAID = {
    "messages": lambda asked, said: {"messages": _turns(asked, said)},
    "sharegpt": lambda asked, said: {"conversations": _turns(asked, said, "from", "value", "human", "gpt")},
    "text": lambda asked, said: {"prompt": asked, "completion": said},
    "lists": lambda asked, said: {"prompt": _turns(asked, said)[:1], "completion": _turns(asked, said)[1:]},
    "alpaca": lambda asked, said: {"instruction": asked, "output": said},
    "question": lambda asked, said: {"question": asked, "answer": said},
}
PAIRED = {
    "text": lambda asked, said: {"prompt": asked, "chosen": said, "rejected": "No."},
    "lists": lambda asked, said: {
        "prompt": _turns(asked, said)[:1],
        "chosen": _turns(asked, said)[1:],
        "rejected": _turns(asked, "No.")[1:],
    },
    "two lists": lambda asked, said: {"chosen": _turns(asked, said), "rejected": _turns(asked, "No.")},
    "rated": lambda asked, said: {
        "instruction": asked,
        "completions": [{"response": said, "score": 2}, {"response": "No.", "score": 1}],
    },
}
ASKED = {
    "question": SAID["question"],
    "prompt": lambda asked, said: {"prompt": asked, "answer": said},
    "messages": lambda asked, said: {"messages": _turns(asked, said)[:1], "answer": said},
    "alpaca": lambda asked, said: {"instruction": asked, "answer": said},
    "with a reply": SAID["messages"],
    "choices": lambda asked, said: {"question": asked, "choices": [said, "No."], "answerKey": "A"},
}
LISTS = {"messages": "messages", "sharegpt": "conversations"}


def _turns(asked, said, who="role", what="content", user="user", assistant="assistant"):
    return [{who: user, what: asked}, {who: assistant, what: said}]


@pytest.fixture(scope="module")
def chat():
    return TemplateFormat(loaded_tokenizer("qwen3"))


@pytest.fixture
def outcome(tmp_path, chat):
    """What becomes of some records: what is learned of them and what is said of the rest, or why they are refused."""

    def conversations(path):
        data = prepare_dataset(
            chat,
            read_conversation_splits(path),
            maximum_tokens=512,
            held_out_conversations=5,
            conversations_per_step=4,
            tokens_per_micro_batch=4096,
            seed=0,
        )
        return [*data.training, *data.held_out], data.describe()

    def pairs(path):
        data = prepare_preferences(
            chat,
            read_preference_splits(path),
            maximum_tokens=512,
            held_out_pairs=5,
            pairs_per_step=4,
            tokens_per_micro_batch=4096,
            seed=0,
        )
        sides = data.training.chosen, data.training.rejected
        return [[*side] for side in sides] + [data.training.weights.tolist()], data.describe()

    def asked(path):
        left_alone = Counter[str]()
        read = read_questions(path, left_alone)
        return [replace(one, source="") for some in read for one in some], str(dict(left_alone))

    def found(records, kind):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        try:
            return {"conversations": conversations, "pairs": pairs, "questions": asked}[kind](str(path))
        except InputError as error:
            return None, str(error)

    return found


FORMS = [
    (kind, form) for kind, forms in (("conversations", SAID), ("pairs", PAIRED), ("questions", ASKED)) for form in forms
]


def _records(kind, form):
    make = {"conversations": SAID, "pairs": PAIRED, "questions": ASKED}[kind][form]
    return [make(*one) for one in questions(24)]


def _expect_not_silent(key, with_it, without):
    (ids, said), (ids_without, said_without) = with_it, without
    assert ids_without is not None, said_without
    if ids is None:
        assert f"{key}" in said and "\n" not in said, f"{key} is refused by another name: {said}"
    elif ids == ids_without:
        assert f"'{key}'" in said and f"'{key}'" not in said_without, f"{key} is dropped in silence"


OFTEN = {("conversations", "messages"), ("conversations", "question"), ("pairs", "text")}


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param(kind, form, marks=[] if kind == "questions" or (kind, form) in OFTEN else pytest.mark.long)
        for kind, form in FORMS
    ],
)
def test_no_key_of_a_record_is_silent(outcome, kind, form):
    records = _records(kind, form)
    without = outcome(records, kind)
    for key, value in MEANT.items():
        values = [[[f"Hi, {number}", "Hello"]] if key == "history" else value for number in range(len(records))]
        beside = [{**record, key: one} for record, one in zip(records, values, strict=True)]
        _expect_not_silent(key, outcome(beside, kind), without)
    with_all = outcome([{**record, **MADE_UP} for record in records], kind)
    assert with_all[0] == without[0], "a key that nobody knows changes nothing"
    for key in MADE_UP:
        _expect_not_silent(key, with_all, without)


@pytest.mark.parametrize("place", [0, 1], ids=["user", "assistant"])
@pytest.mark.parametrize("form", [*LISTS, "lists"])
def test_no_key_of_a_message_is_silent(outcome, form, place):
    """A user's message is not learned whatever it weighs, so there the question is whether it asks to be."""
    without = outcome(_records("conversations", form), "conversations")
    meant = {**MEANT, "train": True} if place == 0 else MEANT
    for key, value in {**meant, **MADE_UP}.items():
        records = _records("conversations", form)
        for number, record in enumerate(records):
            turns = record[LISTS[form]] if form in LISTS else record["completion" if place else "prompt"]
            if key != "train" or place == 0 or number % 2:  # were none learned, it would be refused for that
                turns[place if form in LISTS else 0][key] = value
        _expect_not_silent(key, outcome(records, "conversations"), without)


def test_no_key_of_a_message_in_a_pair_is_silent(outcome):
    without = outcome(_records("pairs", "lists"), "pairs")
    for key, value in {**MEANT, **MADE_UP}.items():
        records = _records("pairs", "lists")
        for record in records:
            record["chosen"][0][key] = value
        _expect_not_silent(key, outcome(records, "pairs"), without)
