"""Training and held-out conversations: no question in both, whatever the order; what is left out is counted."""

import hashlib
import json
import random
from dataclasses import replace

import pytest

from configs import InputError
from finetune.conversations.messages import Message, ToolCall, hash_asked, hash_messages
from finetune.conversations.orders import describe_oddities
from finetune.conversations.reading import Learn
from finetune.conversations.splits import read_conversation_splits
from scratch_models.corpus.evenly_spaced import evenly_spaced
from tests.finetune.tiny_models import questions


@pytest.fixture
def write(tmp_path):
    def write(records, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return str(path)

    return write


def _records(number):
    return [{"question": asked, "answer": answer} for asked, answer in questions(number)]


def _chats(number):
    """The same as messages: a file holds one form."""
    return [_chat(*pair) for pair in questions(number)]


def _chat(asked, answer):
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def _asked(conversations):
    return {conversation.messages[0].content for conversation in conversations}


@pytest.mark.parametrize("number", [20, 100, 1000])
def test_one_question_in_twenty_is_held_out(write, number):
    splits = read_conversation_splits(write(_records(number)))
    assert (len(splits.training), len(splits.held_out)) == (number - number // 20, number // 20)
    assert not _asked(splits.training) & _asked(splits.held_out)


def test_a_question_that_stands_there_several_times_lies_on_one_side(write):
    twice = [*_records(200), *({**record, "answer": "Another."} for record in _records(200))]
    splits = read_conversation_splits(write(twice))
    assert len(splits.training) + len(splits.held_out) == 400
    assert len(splits.held_out) == 20 and len(_asked(splits.held_out)) == 10
    assert not _asked(splits.training) & _asked(splits.held_out)


def test_the_order_of_the_lines_does_not_matter(write):
    records = _records(200)
    in_order = read_conversation_splits(write(records))
    random.Random(0).shuffle(records)
    shuffled = read_conversation_splits(write(records, "shuffled.jsonl"))
    assert _asked(shuffled.held_out) == _asked(in_order.held_out)
    assert _asked(shuffled.training) == _asked(in_order.training)


def test_the_question_is_all_that_comes_before_the_first_reply(write):
    def record(system, asked, reply):
        roles = [("system", system), ("user", asked), ("assistant", reply), ("user", "Why?"), ("assistant", reply)]
        return {"messages": [{"role": role, "content": content} for role, content in roles]}

    def asked(conversations):
        return {tuple(message.content for message in conversation.messages[:2]) for conversation in conversations}

    same_user = [record(f"You are number {n}.", "Who are you?", f"{n}") for n in range(40)]
    same_system = [record("Be brief.", f"Which number is {n}?", f"{n}") for n in range(40)]
    other_replies = [record("Be brief.", f"Which number is {n}?", "None.") for n in range(40)]
    splits = read_conversation_splits(write(same_user + same_system + other_replies))
    assert len(asked(splits.held_out)) == 80 // 20
    assert not asked(splits.training) & asked(splits.held_out)


@pytest.mark.parametrize("records", [_records(19), _records(1) * 500], ids=["few lines", "one question"])
def test_too_few_questions_are_refused_in_one_line(write, records):
    number = len({record["question"] for record in records})
    with pytest.raises(InputError, match=f"{number} different questions are too few, expected at least 20") as refused:
        read_conversation_splits(write(records))
    assert "\n" not in str(refused.value)


def test_what_nobody_answers_is_left_out_and_counted(write):
    talk = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    thanks = [{"role": "user", "content": "Thanks"}, {"role": "user", "content": "Bye"}]
    splits = read_conversation_splits(write([*_chats(30), {"messages": talk + thanks}]))
    assert {what: count for what, count in splits.left_out.items() if count} == {"messages after a last reply": 2}
    assert all(one.messages[-1].role == "assistant" for one in (*splits.training, *splits.held_out))


def test_messages_marked_as_not_to_be_learned_end_no_conversation_and_those_without_any_other_are_counted(write):
    def talk(*weights):
        turns = [
            ({"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2", "weight": w}) for w in weights
        ]
        return {"messages": [message for turn in turns for message in turn]}

    splits = read_conversation_splits(write([*_chats(30), talk(0, 1), talk(1, 0), talk(0, 0), talk(0)]))
    assert {what: count for what, count in splits.left_out.items() if count} == {
        "messages after a last reply": 2,
        "conversations whose replies are all marked weight 0 or train false": 2,
    }
    marked = [one for one in (*splits.training, *splits.held_out) if one.messages[0].content == "1+1?"]
    assert [[one.learned for one in talk.messages if one.role == "assistant"] for talk in marked] == [
        [False, True],
        [True],
    ]
    with pytest.raises(InputError, match="1 different questions beside 30 conversations whose replies are all marked"):
        read_conversation_splits(write([*_chats(1), *[talk(0)] * 30]))


def test_a_greeting_is_read_and_not_learned_and_the_question_is_what_is_asked_after_it(write):
    hello = {"role": "assistant", "content": "Hello!"}
    records = [
        {"messages": [hello, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in questions(40)
    ]
    splits = read_conversation_splits(write(records))
    assert (len(splits.training), len(splits.held_out)) == (38, 2)
    assert splits.left_out["greetings before a first question"] == 40
    assert {tuple(one.learned for one in talk.messages) for talk in splits.training} == {(False, True, True)}
    alone = read_conversation_splits(write([*_chats(30), {"messages": [hello]}]))
    assert alone.left_out["greetings before a first question"] == 0, "else nothing of it would be learned"


def test_values_of_keys_that_are_not_read_are_counted(write):
    beside = {"id": 7, "mood": "calm", "source": "web", "topic": None, "tools": []}
    splits = read_conversation_splits(write([{**record, **beside} for record in _records(30)]))
    assert splits.left_out["values of the key 'mood', which is not read"] == 30
    assert splits.left_out["values beside the conversations ('id', 'source')"] == 60
    assert not [what for what in splits.left_out if "topic" in what or "tools" in what]


def test_odd_orders_of_turns_are_counted_with_the_first_place(write):
    """smol-course#260, smoltalk2's user/assistant/user/user."""
    twice = {"messages": [{"role": "user", "content": "Hi"}, *_chat("Well?", "Yes.")["messages"]]}
    ends = {"messages": [*_chat("1+1?", "2")["messages"], {"role": "user", "content": "Thanks"}]}
    path = write([*_chats(30), twice, ends, twice])
    odd = read_conversation_splits(path).odd
    assert describe_oddities(odd) == (
        f"2 conversations with two turns of the user in a row (first: {path}:31); "
        f"1 conversations with a last turn by the user (first: {path}:32)"
    )
    assert read_conversation_splits(write(_chats(30))).odd == {}


def test_the_system_column_and_the_tools_reach_the_conversations_and_change_the_hash(write):
    records = _records(30)
    hashes = {
        read_conversation_splits(write([{**record, **beside} for record in records])).sha256()
        for beside in ({}, {"system": "Be brief."}, {"tools": [{"name": "add"}]}, {"tools": [{"name": "sub"}]})
    }
    assert len(hashes) == 4


def test_the_hash_changes_with_any_message(write):
    records = _records(30)
    before = read_conversation_splits(write(records)).sha256()
    assert read_conversation_splits(write(records, "again.jsonl")).sha256() == before
    records[17]["answer"] += "!"
    assert read_conversation_splits(write(records, "changed.jsonl")).sha256() != before


@pytest.mark.parametrize(("items", "number"), [(10, 3), (300, 200), (7, 7), (5, 9), (1, 1)])
def test_spread_items_are_distinct_in_order_and_reach_over_the_whole(items, number):
    chosen = evenly_spaced(range(items), number)
    assert len(chosen) == min(items, number)
    assert chosen == sorted(set(chosen))
    gaps = [after - before for before, after in zip(chosen, [*chosen[1:], items], strict=True)]
    assert chosen[0] == 0 and max(gaps) - min(gaps) <= 1


def test_a_hash_of_text_alone_is_the_one_that_runs_of_before_recorded_and_all_else_changes_it():
    asked, told = Message("user", "1+1?"), Message("assistant", "2")
    recorded = hashlib.sha256(b"user\x001+1?\x00assistant\x002\x00\x00").hexdigest()
    assert hash_messages([(asked, told)]) == hash_messages([(asked, told)], tools=[None]) == recorded
    assert hash_asked([asked, told]) == hashlib.sha256(b"user\x001+1?\x00assistant\x002").digest()
    others = [
        replace(told, weight=0),
        replace(told, reasoning="1+1=2"),
        replace(told, tool_calls=(ToolCall("add", "{}"),)),
        replace(told, name="add"),
        replace(told, tool_call_id="7"),
    ]
    hashes = {hash_messages([(asked, other)]) for other in others} | {hash_messages([(asked, told)], tools=["[]"])}
    assert len(hashes | {recorded}) == 7
    assert hash_asked([others[0]]) == hash_asked([told]), "what is not learned asks the same"


def test_given_conversations_are_all_held_out_and_what_shares_a_question_is_not_learned(write):
    records = _records(30)
    given = [*records[25:], {"question": "Another?", "answer": "Yes.", "id": 3}]
    splits = read_conversation_splits(write(records), write(given, "held_out.jsonl"))
    assert [one.messages[0].content for one in splits.held_out] == [one["question"] for one in given]
    assert _asked(splits.training) == {one["question"] for one in records[:25]}
    assert splits.left_out["conversations whose question is held out too"] == 5
    assert splits.left_out["values beside the conversations ('id')"] == 1
    with pytest.raises(InputError, match=r"all 30 questions are held out in .* too"):
        read_conversation_splits(write(records), write(records, "same.jsonl"))
    with pytest.raises(InputError, match=r"held_out: found a\.jsonl, expected none"):
        read_conversation_splits("embedded", "a.jsonl")


def test_few_conversations_are_enough_where_those_to_hold_out_are_given(write):
    splits = read_conversation_splits(write(_records(3)), write(_records(5)[3:], "held_out.jsonl"))
    assert (len(splits.training), len(splits.held_out)) == (3, 2)


def test_the_last_reply_alone_is_learned_where_that_is_asked(write):
    def talk(asked, *weights):
        turns = (
            [*_chat(asked, "No.")["messages"][:1], {**_chat("", "No.")["messages"][1], "weight": w}] for w in weights
        )
        return {"messages": [message for turn in turns for message in turn]}

    path = write([talk(asked, 1, 0, 1, 0) for asked, _ in questions(40)])
    wanted: dict[Learn, list[bool]] = {"all": [True, False, True], "last": [False, False, True]}
    for learn, expected in wanted.items():
        splits = read_conversation_splits(path, learn=learn)
        for one in (*splits.training, *splits.held_out):
            assert [message.learned for message in one.messages if message.role == "assistant"] == expected


def test_questions_that_differ_in_capitals_spaces_and_final_marks_lie_on_one_side(write):
    alike = [_chat(f" {asked.upper().rstrip('?')}  !", answer) for asked, answer in questions(100)]
    splits = read_conversation_splits(write([*_chats(100), *alike]))
    sides = [
        {"".join(filter(str.isalnum, one.casefold())) for one in _asked(part)}
        for part in (splits.training, splits.held_out)
    ]
    assert not sides[0] & sides[1]
    assert len(splits.training) + len(splits.held_out) == 200
    given = read_conversation_splits(write(_chats(100)), write(alike[:7], "held_out.jsonl"))
    assert given.left_out["conversations whose question is held out too"] == 7
