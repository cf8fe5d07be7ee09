"""What an evaluation shows of a model in training: how many of its replies end, and two of them beside the base's."""

import pytest

from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.scoring import Answered, choose_watched
from finetune.supervised.monitor import said_bytes, show_watched


def _answered(number, checkable=()):
    """So many of the base's replies; the questions of those numbers have an answer that can be checked."""
    return [
        Answered(
            Conversation((Message("user", f"q{n}"), Message("assistant", "r")), "p", "r" if n in checkable else None),
            f"base {n}",
            False,
        )
        for n in range(number)
    ]


def test_the_stop_rate_is_of_all_watched_questions_and_two_replies_are_shown(capsys):
    watched = choose_watched(_answered(40, checkable=(1,)), 7)
    numbers = [int(one.question[1:]) for one in watched]
    assert len(numbers) == len(set(numbers)) == 7
    answered = [Answered(one.conversation, f"now {one.question}", int(one.question[1:]) % 3 == 0) for one in watched]
    figures = show_watched(watched, answered, 7)
    assert figures["stop_rate"] == sum(number % 3 == 0 for number in numbers) / 7
    assert [one["question"] for one in figures["sample_replies"]] == ["q0", "q1"]
    assert figures["sample_replies"][1] == {"question": "q1", "base": "base 1", "assistant": "now q1"}
    assert capsys.readouterr().out.count("assistant:") == 2


@pytest.mark.parametrize(("number", "wanted", "watched"), [(40, 16, 16), (3, 16, 3), (40, 1, 1), (0, 16, 0)])
def test_as_many_are_watched_as_there_are_and_as_wanted(number, wanted, watched):
    chosen = choose_watched(_answered(number, checkable=(2,)), wanted)
    assert len(chosen) == len({one.question for one in chosen}) == watched


def test_those_watched_come_from_all_over_the_set():
    numbers = [int(one.question[1:]) for one in choose_watched(_answered(100), 10)]
    assert numbers[0] == 0 and max(numbers) > 80 and numbers == sorted(numbers)


def _turns(*contents):
    turns = [Message("assistant" if place % 2 else "user", content) for place, content in enumerate(contents)]
    return Conversation(tuple(turns), "p")


@pytest.mark.parametrize(
    "contents", [("1+1?", "2"), ("é", "né à ", "ok?", "日本 <|end|>"), ("Add!", "<<48/2=24>>24 #### 24")]
)
def test_bytes_said_are_those_of_the_assistants_messages(chat_tokenizer, contents):
    chat = GraftFormat(chat_tokenizer)
    said = said_bytes(chat.render(_turns(*contents)), end_id=chat.end_id, tokenizer=chat_tokenizer)
    assert said == sum(len(content.encode()) for content in contents[1::2])


def test_what_the_calculator_gives_is_not_said(chat_tokenizer):
    chat = GraftFormat(chat_tokenizer, calculator=True)
    rendered = chat.render(_turns("<<1+1=2>>", "48/2 = <<48/2=24>>24, <<1+1=2>>2"))
    own = len("48/2 = <<48/2=24, <<1+1=2")
    assert said_bytes(rendered, end_id=chat.end_id, tokenizer=chat_tokenizer) == own
