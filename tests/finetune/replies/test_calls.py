"""A reply that only calls tools has a cost like any other: all that the model itself has to write."""

import json

from finetune.chat.choose_format import choose_format
from finetune.conversations.messages import Conversation, Message, ToolCall
from finetune.evaluation.scoring import plain_prompt_formats
from finetune.replies.prompts import ChatPromptFormat, fits
from tests.finetune.tiny_models import tiny_gpt2
from tests.real_tokenizers import loaded_tokenizer

ASKED = Message("user", "What is 2+2?")
TOOLS = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])


def test_a_reply_that_only_calls_is_known_with_its_bytes_and_ids():
    calling = Message("assistant", "", tool_calls=(ToolCall("add", '{"a": 2, "b": 2}'),))
    prompt_format = ChatPromptFormat(choose_format(loaded_tokenizer("qwen3")))
    known = prompt_format.known_reply(Conversation((ASKED, calling), "p", tools=TOOLS))
    assert known.text_bytes == len('add{"a": 2, "b": 2}') and all(known.own)
    assert (
        '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call>'
        in prompt_format.chat.decode_reply(known.ids)
    )


def test_a_conversation_with_a_tools_result_is_asked_in_a_template_and_not_in_plain_text():
    said = (ASKED, Message("assistant", "", tool_calls=(ToolCall("add", "{}"),)), Message("tool", "4"))
    conversation = Conversation((*said, Message("assistant", "It is 4.")), "p", tools=TOOLS)
    tokenizer, model = loaded_tokenizer("qwen3"), tiny_gpt2(n_positions=1000)
    assert fits(model, ChatPromptFormat(choose_format(tokenizer)), conversation)
    assert not any(fits(model, plain, conversation) for plain in plain_prompt_formats(tokenizer).values())
