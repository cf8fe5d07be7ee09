"""What stands beside role and content is read, or refused by name; nothing of it is dropped.

The keys are those of OpenAI's API (platform.openai.com/docs/api-reference/chat), of Hugging Face's chat templates
(huggingface.co/docs/transformers/chat_extras) and of axolotl (`train`); what happened to them elsewhere is told in the
reports that the tests name.
"""

import json

import pytest

from configs import InputError
from finetune.api.given_rows import to_record
from finetune.conversations.formats import to_conversation
from finetune.conversations.messages import Message, ToolCall, needs

ASKED = {"role": "user", "content": "2+2?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
READ_CALL = ToolCall("add", '{"a": 2, "b": 2}', "c1")
RESULT = {"role": "tool", "content": "4", "name": "add", "tool_call_id": "c1"}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}]


def _read(*messages, **columns):
    return to_conversation({"messages": list(messages), **columns}, "x:1")


def _replied(**fields):
    return {"role": "assistant", **fields}


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"weight": 0.0}, {"weight": 0, "train": False}])
def test_a_reply_marked_as_not_to_learn_is_kept_and_not_learned(mark):
    """fw-ai/cookbook PR#387, axolotl PR#1703."""
    wrong, right = _replied(content="wrong", **mark), _replied(content="right")
    read = _read({"role": "user", "content": "a"}, wrong, {"role": "user", "content": "b"}, right)
    assert [message.learned for message in read.messages] == [True, False, True, True]
    assert read.messages[1].content == "wrong"
    for learned in ({"weight": 1}, {"train": True}, {"weight": None, "train": None}):
        assert _read(ASKED, _replied(content="4", **learned)).messages[1] == Message("assistant", "4")
    assert _read({**ASKED, "weight": 0}, right).messages[0] == Message("user", "2+2?"), "it never is"


@pytest.mark.parametrize("mark", [{"weight": 0.25}, {"weight": 0.25, "train": True}])
def test_a_weight_says_how_much_a_reply_is_learned(mark):
    [_, message] = _read(ASKED, _replied(content="4", **mark)).messages
    assert message == Message("assistant", "4", weight=0.25)
    assert message.learned
    assert to_conversation(to_record(_read(ASKED, _replied(content="4", **mark))), "x:1").messages[1] == message


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_beside_the_content_is_read(key):
    """THUDM/slime PR#330."""
    [_, message] = _read(ASKED, _replied(content="4", **{key: "2+2=4"})).messages
    assert message == Message("assistant", "4", reasoning="2+2=4")
    assert needs(_read(ASKED, _replied(content="4", **{key: "2+2=4"}))) == {"reasoning"}
    assert needs(_read(ASKED, _replied(content="4", **{key: ""}))) == set()


THOUGHTS = {
    "<think>2+2=4</think>4": ("2+2=4", "4"),
    "<think>\n2+2=4\n</think>\n\n4": ("2+2=4", "4"),
    "<think> 2\n\n+2 </think> 4\n": (" 2\n\n+2 ", " 4\n"),
    "<think></think>4</think>": ("", "4</think>"),
}


@pytest.mark.parametrize(("text", "expected"), THOUGHTS.items())
@pytest.mark.parametrize(
    "keys", [("messages",), ("prompt", "completion"), ("instruction", "output"), ("question", "answer")]
)
def test_thoughts_at_the_beginning_of_a_reply_are_taken_apart_and_can_be_put_back(keys, text, expected):
    values = [[ASKED, _replied(content=text)]] if keys == ("messages",) else ["2+2?", text]
    record = dict(zip(keys, values, strict=True))
    message = to_conversation(record, "x:1").messages[-1]
    assert (message.reasoning, message.content) == expected
    assert message.as_written() == Message("assistant", text)


@pytest.mark.parametrize(
    "text", ["2+2 equals 4.\n</think>\n\nThe answer is 4.", "<think>2+2", "4 <think>2+2</think>", " <think>2</think>4"]
)
def test_other_thoughts_stay_text(text):
    """huggingface/trl#6361: a reply that only closes its thoughts was wrapped into empty ones."""
    assert _read(ASKED, _replied(content=text)).messages[1] == Message("assistant", text)


def test_thoughts_of_others_stay_text():
    text = "<think>x</think>y"
    read = _read({"role": "system", "content": text}, {"role": "user", "content": text}, _replied(content="4"))
    assert [message.content for message in read.messages] == [text, text, "4"]


@pytest.mark.parametrize("content", [{"content": None}, {"content": ""}, {}, {"content": "I add."}])
def test_calls_are_read_with_or_without_text_beside_them(content):
    """LLaMA-Factory PR#10455, NovaSky-AI/SkyRL PR#1675."""
    read = _read(ASKED, _replied(tool_calls=[CALL], **content), RESULT, _replied(content="4"), tools=TOOLS)
    calling = Message("assistant", content.get("content") or "", tool_calls=(READ_CALL,))
    result = Message("tool", "4", name="add", tool_call_id="c1")
    assert read.messages == (Message("user", "2+2?"), calling, result, Message("assistant", "4"))
    assert json.loads(read.tools) == TOOLS
    assert needs(read) == {"tools", "tool_calls", "tool role"}


def test_the_same_tools_and_calls_are_read_of_objects_and_of_json_text():
    as_text = {**CALL, "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
    bare = {"id": "c1", "name": "add", "arguments": {"a": 2, "b": 2}}
    reads = [
        _read(ASKED, _replied(tool_calls=[call]), tools=tools)
        for call in (CALL, as_text, bare)
        for tools in (TOOLS, json.dumps(TOOLS))
    ]
    assert {(read.messages, read.tools) for read in reads} == {(reads[0].messages, reads[0].tools)}
    [_, exact] = _read(ASKED, _replied(tool_calls=[{"name": "add", "arguments": '{ "a":2}'}])).messages
    assert exact.tool_calls[0].arguments == '{ "a":2}', "it is learned as it is written"


def test_what_says_nothing_counts_as_absent():
    """As Arrow and OpenAI's API fill absent fields: PrimeIntellect-ai/prime-rl PR#3494."""
    nothing = dict.fromkeys(
        ["tool_calls", "reasoning_content", "name", "tool_call_id", "weight", "function_call", "audio"]
    )
    read = _read(
        {**ASKED, **nothing}, _replied(content="4", **nothing, annotations=[], refusal=None), tools=None, images=None
    )
    assert read.messages == (Message("user", "2+2?"), Message("assistant", "4"))
    assert read.tools is None and _read(ASKED, _replied(content="4"), tools="").tools is None
    record = {"messages": None, "prompt": "Hi", "completion": "Hello", "instruction": None, "output": None}
    assert to_conversation(record, "x:1").messages == (Message("user", "Hi"), Message("assistant", "Hello"))


REFUSED = {
    **{
        f"weight is {weight}": (
            _replied(content="4", weight=weight),
            f"messages[1].weight is {weight!r}, expected a number from 0 (read, not learned) to 1 (learned in full)",
        )
        for weight in (2, -0.5, 1.0001, float("nan"), float("inf"), "0.5", True)
    },
    "half is not to be learned": (
        _replied(content="4", weight=0.5, train=False),
        "messages[1] has weight 0.5 and train False, expected one of them",
    ),
    "weight of a question": (
        {"role": "user", "content": "5", "weight": 0.5},
        "messages[1] asks with 'weight' to learn a message by user, expected it of the assistant's alone",
    ),
    "train is 0": (_replied(content="4", train=0), "messages[1].train is 0, expected true or false"),
    "both": (_replied(content="4", train=True, weight=0), "messages[1] has weight 0 and train True, expected one"),
    "learn the user": ({**ASKED, "train": True}, "messages[1] asks with 'train' to learn a message by user"),
    "old calls": (
        _replied(content="4", function_call={"name": "add", "arguments": "{}"}),
        "messages[1] has 'function_call', which is not read, expected role, content",
    ),
    "images": (_replied(content="4", images=["a.png"]), "messages[1] has 'images', which is not read"),
    "a user's name": (
        {**ASKED, "name": "Ada"},
        "messages[1] has 'name' in a message by user, expected it by tool alone",
    ),
    "a user's calls": ({**ASKED, "tool_calls": [CALL]}, "messages[1] has 'tool_calls' in a message by user, expected"),
    "a user's thoughts": ({**ASKED, "reasoning": "x"}, "messages[1] has 'reasoning' in a message by user"),
    "two thoughts": (
        _replied(content="4", reasoning="a", reasoning_content="b"),
        "messages[1] has 'reasoning_content' and",
    ),
    "thoughts twice": (
        _replied(content="<think>a</think>4", reasoning="a"),
        "messages[1] has 'reasoning' and <think> in",
    ),
    "thoughts that are no text": (
        _replied(content="4", reasoning=["a"]),
        "messages[1].reasoning is a list, expected text",
    ),
    "thoughts alone": (_replied(content="<think>a</think>\n"), "messages[1].content of the assistant is empty"),
    "no content": (_replied(), "messages[1] is an object with 'role', expected"),
    "null content": (_replied(content=None, tool_calls=[]), "messages[1].content is null, expected text"),
    "a silent tool": ({**RESULT, "content": None}, "messages[1].content is null, expected text"),
    "calls as text": (_replied(tool_calls="add"), "messages[1].tool_calls is text, expected a list of calls"),
    "a call as text": (
        _replied(tool_calls=["add"]),
        "messages[1].tool_calls[0] is 'add', expected a call of a function",
    ),
    "no name": (_replied(tool_calls=[{"function": {"arguments": {}}}]), "messages[1].tool_calls[0] is {'function'"),
    "another kind": (
        _replied(tool_calls=[{**CALL, "type": "custom"}]),
        "messages[1].tool_calls[0] is {'id': 'c1', 'ty",
    ),
    "more in a call": (
        _replied(tool_calls=[{**CALL, "result": 4}]),
        "messages[1].tool_calls[0] has 'result', which is",
    ),
    "more inside": (
        _replied(tool_calls=[{"function": {"name": "add", "strict": True}}]),
        "messages[1].tool_calls[0].function has 'strict', which is not read, expected name, arguments",
    ),
    "a list of arguments": (
        _replied(tool_calls=[{"name": "a", "arguments": [1]}]),
        "messages[1].tool_calls[0].arguments is a",
    ),
    "broken arguments": (
        _replied(tool_calls=[{"name": "a", "arguments": "{1"}]),
        "messages[1].tool_calls[0].arguments is text that is not JSON (",
    ),
    "endless arguments": (
        _replied(tool_calls=[{"name": "a", "arguments": "[" * 100_000}]),
        "messages[1].tool_calls[0].arguments is text that is not JSON (it is nested too deep)",
    ),
    "half a character": (
        _replied(tool_calls=[{"name": "a", "arguments": {"b": "\ud800"}}]),
        "messages[1].tool_calls[0].arguments holds half a surrogate pair",
    ),
}


@pytest.mark.parametrize(("message", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_by_name(message, said):
    with pytest.raises(InputError) as refusal:
        _read(ASKED, message, _replied(content="4"))
    assert str(refusal.value).startswith(f"x:1: {said}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ("add", "tools is text that is not JSON"),
        ('{"name": "add"}', "tools is an object, expected a list of tools"),
        (["add"], "tools[0] is 'add', expected a tool"),
        ([{"type": "function"}], "tools[0] is {'type': 'function'}, expected a tool"),
    ],
)
def test_tools_that_are_none_are_refused(tools, said):
    with pytest.raises(InputError) as refusal:
        _read(ASKED, _replied(content="4"), tools=tools)
    assert str(refusal.value).startswith(f"x:1: {said}")
