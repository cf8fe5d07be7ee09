"""ShareGPT's turns, and OpenAI's messages in parts, are the messages they stand for; others are refused by name."""

import json

import pytest

from configs import InputError
from finetune.conversations.formats import to_conversation
from finetune.conversations.messages import Message, ToolCall

USER, ASSISTANT = Message("user", "1+1?"), Message("assistant", "2")


def _read(*turns, **columns):
    said = [{"from": speaker, "value": value} for speaker, value in turns]
    return to_conversation({"conversations": said, **columns}, "chats.json[0]")


@pytest.mark.parametrize("asks", ["human", "user", "Human"])
@pytest.mark.parametrize("replies", ["gpt", "assistant", "chatgpt", "bing", "GPT", "model"])
def test_speakers_are_roles(asks, replies):
    assert _read((asks, "1+1?"), (replies, "2")).messages == (USER, ASSISTANT)


def test_system_tools_and_calls_are_read_as_llama_factory_writes_them():
    """github.com/hiyouga/LLaMA-Factory, data/README.md, ShareGPT format."""
    tools = json.dumps([{"name": "add", "description": "Adds.", "parameters": {"type": "object"}}])
    read = _read(
        ("human", "1+1?"),
        ("function_call", '{"name": "add", "arguments": {"a": 1}}'),
        ("observation", "2"),
        ("gpt", "It is 2."),
        system="Be brief.",
        tools=tools,
    )
    assert read.tools == tools
    assert read.messages == (
        Message("system", "Be brief."),
        USER,
        Message("assistant", "", tool_calls=(ToolCall("add", '{"a": 1}'),)),
        Message("tool", "2"),
        Message("assistant", "It is 2."),
    )


def test_turns_may_say_whether_they_are_learned_and_columns_of_null_say_nothing():
    turns = [
        {"from": "human", "value": "1+1?", "weight": None, "markdown": None},
        {"from": "gpt", "value": "3", "weight": 0},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "2", "weight": 1},
    ]
    read = to_conversation({"conversations": turns, "id": "a"}, "p")
    assert [one.learned for one in read.messages] == [True, False, True, True]


def test_messages_under_conversations_are_read_as_messages():
    said = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    assert to_conversation({"conversations": said}, "p").messages == (USER, ASSISTANT)


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (
            {"from": "narrator", "value": "a"},
            "p: conversations[1].from is 'narrator', expected one of human, user, gpt",
        ),
        ({"from": 7, "value": "a"}, "p: conversations[1].from is a number, expected one of"),
        ({"from": "gpt", "value": None}, "p: conversations[1].value is null, expected text"),
        ({"from": "gpt", "text": "a"}, "p: conversations[1] is an object with 'from', 'text', expected"),
        ({"from": "gpt", "value": "a", "mood": "calm"}, "p: conversations[1] has 'mood', which is not read"),
        ({"from": "function_call", "value": "add(1)"}, "p: conversations[1].value of function_call: not JSON"),
        ("a", "p: conversations[1] is text, expected"),
    ],
)
def test_turns_that_cannot_be_read_are_refused_by_name(turn, said):
    with pytest.raises(InputError) as refused:
        to_conversation({"conversations": [{"from": "human", "value": "1+1?"}, turn]}, "p")
    assert str(refused.value).startswith(said)


def test_content_in_parts_of_text_is_their_text_and_a_developer_is_the_system():
    parts = [{"type": "text", "text": "1+", "image_url": None}, {"type": "text", "text": "1?"}]
    said = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    reply = {"role": "assistant", "content": [{"type": "text", "text": "2"}], "refusal": None, "annotations": []}
    read = to_conversation({"messages": [*said, reply], "parallel_tool_calls": False}, "p")
    assert read.messages == (Message("system", "Be brief."), USER, ASSISTANT)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "image_url", "image_url": {"url": "a.png"}}, "'type', 'image_url' of type 'image_url'"),
        ({"type": "input_audio", "input_audio": {}}, "'type', 'input_audio' of type 'input_audio'"),
        ({"type": "text", "text": "a", "cache": 1}, "'type', 'text', 'cache' of type 'text'"),
        ("a", "text"),
    ],
)
def test_parts_of_anything_else_are_refused_by_name(part, found):
    said = [{"role": "user", "content": [{"type": "text", "text": "1+1?"}, part]}]
    with pytest.raises(InputError) as refused:
        to_conversation({"messages": [*said, {"role": "assistant", "content": "2"}]}, "p")
    assert str(refused.value).startswith(f"p: messages[0].content[1] is {found}, expected ")
