"""Thoughts that an assistant wrote into its text: what transformers' own rendering gives, or text as it stands.

THUDM/slime PR#330, huggingface/trl#6361.
"""

import pytest

from configs import InputError
from finetune.chat.choose_format import choose_format
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import to_conversation
from tests.real_tokenizers import loaded_tokenizer

TEXTS = ["<think>\n2+2=4\n</think>\n\n4", "<think>2+2=4</think>4", "<think>\n\n</think>\n\n4"]


def _asked(text, **beside):
    return [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": text, **beside}]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("family", ["qwen3", "llama3_1", pytest.param("gemma3", marks=pytest.mark.long)])
def test_the_ids_are_those_that_transformers_gives_the_messages_as_they_were_written(family, text):
    tokenizer = loaded_tokenizer(family)
    twice = [*_asked(text), *_asked(text)]
    for messages in (_asked(text), twice):
        row = choose_format(tokenizer).render(to_conversation({"messages": messages}, "x:1"))
        written = tokenizer.apply_chat_template(messages, tokenize=False)
        assert row.input_ids == tokenizer(written, add_special_tokens=False)["input_ids"]


def test_the_marks_are_the_bases_own_tokens_where_it_has_them_and_a_users_never_are():
    tokenizer = loaded_tokenizer("qwen3")
    messages = [{"role": "user", "content": "<think>x</think>"}, *_asked(TEXTS[0])[1:]]
    row = choose_format(tokenizer).render(to_conversation({"messages": messages}, "x:1"))
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert [learned for id_, learned in zip(row.input_ids, row.supervised, strict=True) if id_ == think] == [True]


@pytest.mark.parametrize("text", TEXTS)
def test_the_projects_own_format_learns_them_as_text_and_refuses_reasoning_beside_it(chat_tokenizer, text):
    chat = GraftFormat(chat_tokenizer)
    row = chat.render(to_conversation({"messages": _asked(text)}, "x:1"))
    learned = [id_ for id_, flag in zip(row.input_ids, row.supervised, strict=True) if flag]
    assert chat.decode_reply(learned) == text
    with pytest.raises(InputError, match="x:1: holds reasoning, expected text of system, user, assistant"):
        chat.render(to_conversation({"messages": _asked("4", reasoning_content="2+2=4")}, "x:1"))
