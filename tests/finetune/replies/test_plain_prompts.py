"""Plain prompts: a reply as known is cut out of what a base model would go on to write."""

import pytest

from finetune.conversations.formats import Message
from finetune.replies.prompts import PLAIN_PROMPTS

MESSAGES = [Message("user", "1+1?"), Message("assistant", "2"), Message("user", "2+2?")]


def test_each_way_writes_the_turns_and_ends_where_the_reply_begins():
    written = {name: prompt.text(MESSAGES) for name, prompt in PLAIN_PROMPTS.items()}
    assert written == {
        "question": "Question: 1+1?\nAnswer: 2\nQuestion: 2+2?\nAnswer:",
        "dialogue": "User: 1+1?\nAssistant: 2\nUser: 2+2?\nAssistant:",
        "bare": "1+1?\n\n2\n\n2+2?\n\n",
    }


@pytest.mark.parametrize("prompt", PLAIN_PROMPTS.values(), ids=PLAIN_PROMPTS)
@pytest.mark.parametrize("reply", ["4", "Two lines:\nthe second.", "An Answer: within a line.", "A User: is quoted"])
def test_the_reply_is_cut_out_of_a_text_that_goes_on_with_the_next_turn(prompt, reply):
    goes_on = prompt.text([*MESSAGES, Message("assistant", reply), Message("user", "3+3?")])
    generated = goes_on.removeprefix(prompt.text(MESSAGES))
    assert generated.startswith(prompt.continuation(reply))
    assert prompt.cut(generated) == reply


@pytest.mark.parametrize("name", ["question", "dialogue"])
def test_a_text_that_begins_with_the_next_turn_holds_no_reply(name):
    prompt = PLAIN_PROMPTS[name]
    assert prompt.cut(f"\n{prompt.text(MESSAGES)}") == ""


@pytest.mark.parametrize("prompt", PLAIN_PROMPTS.values(), ids=PLAIN_PROMPTS)
def test_a_blank_line_ends_a_reply_and_blank_lines_before_it_do_not(prompt):
    assert prompt.cut("\n\n  4 \n \nAnd another thing") == "4"
    assert prompt.cut("4") == "4"
