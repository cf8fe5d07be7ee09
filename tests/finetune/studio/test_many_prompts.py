"""Many prompts: read from lines and from records, each answered by all sides, counted as by hand."""

import json
import threading

import pytest

from configs import InputError
from finetune.conversations.messages import Conversation, Message
from finetune.replies.asked_model import PartialReply
from finetune.serving.asked_together import SideAsked, SideState
from finetune.studio.many_prompts import AnsweredPrompt, GivenPrompt, answer_all, read_prompts, slices, to_jsonl
from scratch_models.decoding.sampling_settings import Sampling


def test_lines_and_records_are_read():
    assert read_prompts("one\n\n two \n") == [GivenPrompt("one"), GivenPrompt("two")]
    records = [
        {"question": "1+1?", "answer": "2"},
        {"prompt": "go"},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    ]
    assert read_prompts("\n".join(map(json.dumps, records))) == [
        GivenPrompt("1+1?", "2"),
        GivenPrompt("go"),
        GivenPrompt("hi", "ho"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" \n", "prompts: found none"),
        ("a\n" * 501, "prompts: found 501, expected at most 500"),
        ('{"question": "a"}\n{"text": "b"}', "prompts, line 2: found no question"),
        ('{"question": "a"}\n\nb', "prompts, line 3: is no JSON"),
        ('{"messages": [1]}', "prompts, line 1: found no question"),
    ],
)
def test_what_holds_no_prompts_is_refused_with_its_line(text, said):
    with pytest.raises(InputError) as error:
        read_prompts(text)
    assert str(error.value).startswith(said)


class _Echo:
    """Says its prompt backwards."""

    def fits(self, conversation):
        return True

    def answer(self, conversations, reply_tokens, sampling):
        raise NotImplementedError

    def costs(self, conversations):
        return None

    def stream(self, conversation, reply_tokens, sampling, stop):
        said = conversation.messages[-2].content[::-1]
        yield PartialReply(text=said[:1], pieces=1)
        yield PartialReply(text=said, pieces=len(said), ended="end of turn")


def _sides(prompt: str) -> list[SideAsked]:
    conversation = Conversation((Message("user", prompt), Message("assistant", "")), source="prompt")
    return [
        SideAsked(model=_Echo(), conversation=conversation, reply_tokens=9, sampling=Sampling(temperature=0))
        for _ in range(2)
    ]


def test_every_prompt_is_answered_by_all_sides_in_order_and_stop_ends_it():
    prompts = [GivenPrompt(f"p{number}") for number in range(9)]
    *_, done = answer_all(prompts, _sides, threading.Event())
    assert [one.given for one in done] == prompts
    assert [[state.reply.text for state in one.states] for one in done] == [[f"{n}p"] * 2 for n in range(9)]
    stop = threading.Event()
    states = answer_all(prompts, _sides, stop)
    assert len(next(states)) == 4
    stop.set()
    assert list(states) == []
    assert json.loads(to_jsonl(done[:1], ["a", "b"])) == {
        "prompt": "p0",
        "replies": [{"model": name, "reply": "0p", "ended": "end of turn"} for name in "ab"],
    }


def test_slices_are_counted_as_by_hand():
    replies = [("It is 4", "end of turn", 3), ("4", "length: limit of 9 tokens", 1), ("", "", 0)]
    answered = [
        AnsweredPrompt(
            GivenPrompt("2+2?", "4"), (SideState(reply=PartialReply(text=said, pieces=pieces, ended=ended)),)
        )
        for said, ended, pieces in replies[:2]
    ]
    answered.append(AnsweredPrompt(GivenPrompt("why"), (SideState(refused="no"),)))
    assert slices(answered, 0, contains="IS", starts="4") == {
        "words, mean": "1.3",
        "tokens, mean": "1.3",
        "end by themselves": "1 of 3",
        "contain 'IS'": "1 of 3",
        "start with '4'": "1 of 3",
        "exact answer": "1 of 2",
        "refused": "1 of 3",
    }
