"""Pairs are read in the shapes in which people keep them, and a bad one is named."""

import json

import pytest

from configs import InputError
from finetune.conversations.formats import Message
from finetune.conversations.pairs import read_pairs, to_pair

USER = {"role": "user", "content": "1+1?"}
SYSTEM = {"role": "system", "content": "Be brief."}
TWO, THREE = ({"role": "assistant", "content": content} for content in "23")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "1+1?", "chosen": "2", "rejected": "3"},
        {"prompt": "1+1?", "chosen": [TWO], "rejected": [THREE]},
        {"prompt": [USER], "chosen": [TWO], "rejected": "3"},
        {"prompt": "1+1?", "chosen": [USER, TWO], "rejected": [USER, THREE]},
        {"chosen": [USER, TWO], "rejected": [USER, THREE]},
        {"prompt": None, "chosen": [USER, TWO], "rejected": [USER, THREE], "score_chosen": 8.5},
    ],
    ids=["text", "lists", "mixed", "prompt said again", "no prompt", "null prompt"],
)
def test_every_way_to_write_a_pair_gives_the_same_pair(record):
    pair = to_pair(record, "x:1")
    assert pair.prompt == (Message("user", "1+1?"),)
    assert pair.chosen == (Message("assistant", "2"),) and pair.rejected == (Message("assistant", "3"),)


def test_a_prompt_may_be_a_conversation_with_system_and_earlier_replies():
    pair = to_pair({"prompt": [SYSTEM, USER, TWO, USER], "chosen": [TWO], "rejected": [THREE]}, "x:1")
    assert [message.role for message in pair.prompt] == ["system", "user", "assistant", "user"]
    assert len(pair.with_chosen().messages) == 5 and pair.with_rejected().messages[-1].content == "3"


def test_replies_that_begin_alike_without_a_prompt_leave_the_last_message_to_each():
    pair = to_pair({"chosen": [USER, TWO], "rejected": [USER, TWO]}, "x:1")
    assert pair.chosen == pair.rejected == (Message("assistant", "2"),)


CALL = {"name": "add", "arguments": {"a": 1, "b": 1}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]}
RESULT = {"role": "tool", "content": "2", "name": "add"}


def test_a_pair_keeps_calls_results_reasoning_tools_and_the_system_column():
    record = {"prompt": [USER], "chosen": [CALLING, RESULT, TWO], "rejected": "<think>1+1</think>3"}
    pair = to_pair({**record, "tools": [{"name": "add"}], "system": "Be brief."}, "x:1")
    assert pair.prompt == (Message("system", "Be brief."), Message("user", "1+1?"))
    assert [message.role for message in pair.chosen] == ["assistant", "tool", "assistant"]
    assert pair.chosen[0].tool_calls[0].name == "add" and pair.rejected[0].reasoning == "1+1"
    assert pair.with_chosen().tools == pair.with_rejected().tools == '[{"name": "add"}]'


@pytest.mark.parametrize("prompt", ["1+1?", [USER], [SYSTEM, USER], None], ids=["text", "list", "with system", "none"])
@pytest.mark.parametrize("start", [[], [USER], [SYSTEM, USER]], ids=["reply alone", "prompt", "system and prompt"])
def test_a_system_column_stands_before_the_prompt_once(prompt, start):
    unsaid, in_the_middle = prompt is None and start != [SYSTEM, USER], prompt == [SYSTEM, USER] and start == [USER]
    if unsaid or in_the_middle:  # nothing says what the prompt is, or the reply begins in the middle of it
        return
    record = {"prompt": prompt, "chosen": [*start, TWO], "rejected": [*start, THREE], "system": SYSTEM["content"]}
    pair = to_pair(record, "x:1")
    assert pair.prompt == (Message("system", "Be brief."), Message("user", "1+1?"))
    assert pair.chosen == (Message("assistant", "2"),) and pair.rejected == (Message("assistant", "3"),)


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [("<think>2+2=4</think>It is 4.", "It is 4."), ("It is 4", "It is 4."), ("It is 4.", "It is 4")],
)
def test_neither_reply_loses_what_both_begin_with(chosen, rejected):
    """huggingface/trl PR#6433: the prompt was cut from each side by what the two have in common."""
    for prompt in ("What is 2+2?", [{"role": "user", "content": "What is 2+2?"}]):
        pair = to_pair({"prompt": prompt, "chosen": chosen, "rejected": rejected}, "x:1")
        whole = [side.messages for side in (pair.with_chosen(), pair.with_rejected())]
        assert [side[0].content for side in whole] == ["What is 2+2?"] * 2
        assert [side[-1].as_written().content for side in whole] == [chosen, rejected]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "a", "chosen": [{**TWO, "weight": 0}], "rejected": "c"}, "x:1: chosen has no message to learn"),
        *(
            (
                {"prompt": "a", "chosen": "b", "rejected": "c", side: [{**TWO, "weight": 0.5}]},
                f"x:1: {side} has a message of",
            )
            for side in ("chosen", "rejected")
        ),
        (
            {"prompt": [{**USER, "images": ["a"]}], "chosen": "b", "rejected": "c"},
            "x:1, chosen: prompt[0] has 'images'",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "images": ["a.png"]}, "x:1: has 'images', which is not read"),
        ({"prompt": "a", "chosen": "b"}, "x:1: no 'rejected' (found 'prompt', 'chosen'), expected prompt, chosen"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "x:1: no 'rejected'"),
        ({"prompt": "a", "rejected": "b"}, "x:1: no 'chosen'"),
        ({"chosen": "b", "rejected": "c"}, "x:1: no 'prompt', expected one beside chosen and rejected that are text"),
        ({"chosen": [TWO], "rejected": [THREE]}, "x:1: no 'prompt', and chosen and rejected begin with different"),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "x:1: prompt is an empty list"),
        ({"prompt": "a", "chosen": 5, "rejected": "c"}, "x:1, chosen: completion is a number, expected text"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "x:1, rejected: completion of the assistant is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": [USER]}, "x:1, rejected: completion has no assistant message"),
        ({"prompt": "a", "chosen": [USER, TWO], "rejected": "c"}, "x:1: chosen is by user, assistant, expected it to"),
        ({"prompt": "a", "chosen": [], "rejected": "c"}, "x:1, chosen: completion has no assistant message"),
    ],
)
def test_a_pair_that_cannot_be_learned_is_named(record, said):
    with pytest.raises(InputError) as refusal:
        to_pair(record, "x:1")
    assert str(refusal.value).startswith(said)


def test_a_file_names_its_first_bad_line_and_counts_the_others(tmp_path):
    lines = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a"}, {"prompt": "a", "chosen": "b"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"pairs\.jsonl:2: no 'chosen' .* \(and 1 more\)"):
        read_pairs(str(tmp_path / "pairs.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="found 0 pairs"):
        read_pairs(str(tmp_path / "empty.jsonl"))
