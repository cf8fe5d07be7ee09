"""Pairs are read in the shapes in which people keep them, and a bad one is named."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from configs import InputError
from finetune.conversations.formats import Message
from finetune.conversations.pairs import read_pairs, to_pair
from finetune.conversations.rated_replies import SCORES

USER = {"role": "user", "content": "1+1?"}
SYSTEM = {"role": "system", "content": "Be brief."}
TWO, THREE = ({"role": "assistant", "content": content} for content in "23")
HUMAN = {"from": "human", "value": "1+1?"}
RATED = [
    {
        "response": "It is two, or three.",
        "overall_score": 5.5,
        "annotations": {"honesty": {"Rating": "3"}},
        "model": "a",
    },
    {"response": "2", "overall_score": 9, "fine-grained_score": 4.75, "critique": "Right.", "model": "b"},
    {"response": "3", "overall_score": 1.0, "custom_system_prompt": "Be brief.", "principle": "honesty", "model": "c"},
]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "1+1?", "chosen": "2", "rejected": "3"},
        {"prompt": "1+1?", "chosen": [TWO], "rejected": [THREE]},
        {"prompt": [USER], "chosen": [TWO], "rejected": "3"},
        {"prompt": "1+1?", "chosen": [USER, TWO], "rejected": [USER, THREE]},
        {"chosen": [USER, TWO], "rejected": [USER, THREE]},
        {"prompt": None, "chosen": [USER, TWO], "rejected": [USER, THREE], "score_chosen": 8.5},
        {"question": "1+1?", "chosen": "2", "rejected": "3", "system": ""},
        {"question": "About sums", "chosen": [USER, TWO], "rejected": [USER, THREE]},
        {"instruction": "1+1?", "input": "", "chosen": "2", "rejected": "3", "history": []},
        {"prompt": "1+1?", "chosen": TWO, "rejected": THREE},
        {"conversations": [HUMAN], "chosen": {"from": "gpt", "value": "2"}, "rejected": {"from": "gpt", "value": "3"}},
        {"instruction": "1+1?", "completions": RATED, "models": ["a", "b", "c"], "source": "sums"},
        {"prompt": "1+1?", "completions": RATED[::-1], "chosen": None, "rejected": None},
    ],
    ids=[
        *(
            "text",
            "lists",
            "mixed",
            "prompt said again",
            "no prompt",
            "null prompt",
            "question",
            "question beside lists",
        ),
        *("instruction", "single messages", "ShareGPT", "UltraFeedback", "completions of a prompt"),
    ],
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
        ({"text": "a", "label": "b"}, "x:1: no 'chosen' (found 'text', 'label'), expected prompt, chosen, rejected in"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "weight": -0.1},
            "x:1: weight is -0.1, expected a number from",
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "weight": 1.5},
            "x:1: weight is 1.5, expected a number from 0",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "weight": "0.5"}, "x:1: weight is text, expected a number"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "weight": True}, "x:1: weight is true or false, expected a"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "weight": float("nan")}, "x:1: weight is nan, expected a"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "weights": [1, 0]}, "x:1: has 'weights', which is not read"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "history": [["a", "b"]]}, "x:1: has 'history', which is not"),
        ({"prompt": "a", "completions": "b"}, "x:1: completions is text, expected a list of"),
        ({"prompt": "a", "completions": RATED[:1]}, "x:1: completions has 1 replies, expected at least 2"),
        (
            {"prompt": "a", "completions": [{"response": "b"}] * 2},
            "x:1: completions have no 'overall_score' each (found",
        ),
        (
            {"prompt": "a", "completions": [{"response": "b", "overall_score": "7"}] * 2},
            "x:1: completions[0].overall_score is text, expected a finite number",
        ),
        ({"prompt": "a", "chosen": [], "rejected": "c"}, "x:1, chosen: completion has no assistant message"),
    ],
)
def test_a_pair_that_cannot_be_learned_is_named(record, said):
    with pytest.raises(InputError) as refusal:
        to_pair(record, "x:1")
    assert str(refusal.value).startswith(said)


@pytest.mark.parametrize("keys", SCORES, ids=map(str, SCORES))
def test_scores_are_read_by_every_name_that_they_have(keys):
    record = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert to_pair({**record, **dict(zip(keys, (8.5, 2), strict=True))}, "x:1").scores == (8.5, 2.0)
    assert to_pair({**record, keys[0]: 8.5, keys[1]: None}, "x:1").scores is None
    with pytest.raises(InputError, match=f"x:1: {keys[1]} is text, expected a finite number"):
        to_pair({**record, keys[0]: 8.5, keys[1]: "bad"}, "x:1")


def test_the_weight_of_a_pair_is_read(tmp_path):
    weights = (None, 1, 0.25, 0)
    records = [{"prompt": "a", "chosen": "b", "rejected": "c", "weight": weight} for weight in weights]
    assert [to_pair(record, "x:1").weight for record in records] == [1, 1, 0.25, 0]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_pairs_of_a_table_are_those_of_the_lines(form, tmp_path):
    records: list[dict[str, object]] = [
        {"prompt": "1+1?", "chosen": "2", "rejected": "3", "weight": 0.5, "score_chosen": 7, "score_rejected": 1.5},
        {"prompt": "1+2?", "chosen": "3", "rejected": "4,\n5", "weight": 1, "score_chosen": 9, "score_rejected": 2},
        {"prompt": 'Say "a"', "chosen": "a", "rejected": "b", "system": "Be brief."},
    ]
    path = tmp_path / f"pairs.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        table = pytest.importorskip("datasets").Dataset.from_list([{"system": None, **record} for record in records])
        getattr(table, f"to_{form}")(str(path))
    read = [replace(pair, source="") for pair in read_pairs(str(path))]
    assert read == [to_pair(record, "") for record in records]


def test_replies_in_lists_and_rated_ones_are_the_same_from_parquet(tmp_path):
    datasets = pytest.importorskip("datasets")
    whole: list[dict[str, object]] = [
        {"chosen": [USER, TWO], "rejected": [USER, THREE], "messages": [USER, TWO], "prompt": "1+1?"}
    ]
    datasets.Dataset.from_list(whole).to_parquet(str(tmp_path / "whole.parquet"))
    datasets.Dataset.from_list([{"instruction": "1+1?", "completions": RATED}]).to_parquet(str(tmp_path / "uf.parquet"))
    for name, record in (("whole", whole[0]), ("uf", {"instruction": "1+1?", "completions": RATED})):
        pair = to_pair(record, "")
        assert [replace(one, source="") for one in read_pairs(str(tmp_path / f"{name}.parquet"))] == [pair]


def _write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_what_is_not_read_is_counted_and_what_is_harmless_named_together(tmp_path):
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    beside = {"messages": [USER, TWO], "prompt_id": "1", "margin": 0.5, "score_chosen": 3}
    left_out: Counter[str] = Counter()
    assert len(read_pairs(_write(tmp_path / "a.jsonl", [{**pair, **beside}, pair]), left_out)) == 2
    assert left_out == {
        "values beside the pairs ('messages', 'prompt_id')": 2,
        "values of the key 'margin', which is not read": 1,
        "values of the key 'score_chosen', which is not read": 1,
    }


def test_a_prompt_with_fewer_than_two_rated_replies_is_left_out_and_counted(tmp_path):
    records = [{"instruction": "1+1?", "completions": RATED[:number]} for number in (3, 1, 0, 2)]
    left_out: Counter[str] = Counter()
    assert [pair.source[-2:] for pair in read_pairs(_write(tmp_path / "a.jsonl", records), left_out)] == [":1", ":4"]
    assert left_out["prompts with fewer than two rated replies"] == 2
    beside = ("annotations", "model", "critique", "custom_system_prompt", "principle")
    assert any(what.startswith("values beside the pairs") and all(one in what for one in beside) for what in left_out)


def test_rated_replies_that_are_all_as_good_make_a_pair_of_equal_scores():
    pair = to_pair({"prompt": "1+1?", "completions": [{"response": text, "score": 5} for text in "234"]}, "x:1")
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.scores) == ("2", "4", (5, 5))


def test_records_of_another_form_are_refused_with_the_place_of_the_first(tmp_path):
    records = [{"prompt": "1+1?", "chosen": "2", "rejected": "3"}, {"chosen": [USER, TWO], "rejected": [USER, THREE]}]
    with pytest.raises(
        InputError, match=r"a\.jsonl:2: holds chosen and rejected, and the records before it prompt and"
    ):
        read_pairs(_write(tmp_path / "a.jsonl", records))


def test_a_file_names_its_first_bad_line_and_counts_the_others(tmp_path):
    lines = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a"}, {"prompt": "a", "chosen": "b"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"pairs\.jsonl:2: no 'chosen' .* \(and 1 more\)"):
        read_pairs(str(tmp_path / "pairs.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="found 0 pairs"):
        read_pairs(str(tmp_path / "empty.jsonl"))


def test_openais_form_gives_the_same_pair(tmp_path):
    asked = {"messages": [USER], "tools": [], "parallel_tool_calls": True}
    openais = {"input": asked, "preferred_output": [TWO], "non_preferred_output": [THREE]}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(openais) + "\n")
    [pair] = read_pairs(str(path))
    ours = to_pair({"prompt": [USER], "chosen": [TWO], "rejected": [THREE]}, pair.source)
    assert pair == ours


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": None}, r'pairs\.jsonl:1: input is null, expected \{"messages"'),
        ({"input": {"messages": [USER], "temperature": 1}}, r"input\.temperature is not read"),
        ({"non_preferred_output": None}, "no 'rejected'"),
    ],
)
def test_what_openais_form_may_not_hold_is_named(change, said, tmp_path):
    openais = {"input": {"messages": [USER]}, "preferred_output": [TWO], "non_preferred_output": [THREE]}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({**openais, **change}) + "\n")
    with pytest.raises(InputError, match=said):
        read_pairs(str(path))
