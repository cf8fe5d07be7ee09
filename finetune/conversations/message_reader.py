"""Messages as people write them: ``{"role", "content"}`` and what may stand beside these.

=====================================  ==================================================================
key of a message                       becomes
=====================================  ==================================================================
``reasoning_content``, ``reasoning``   what an assistant thought first; so does ``<think>...</think>`` at the
                                       beginning of its content
``tool_calls``                         an assistant's calls, with or without text beside them
``name``, ``tool_call_id``             of a message with the role ``tool``: which tool, and which call it answers
``weight``                             from 0 to 1: how much each token of the assistant's message counts in the
                                       loss; with 0 it is read and not learned
``train``                              false: the same as weight 0
``content`` that is a list             parts ``{"type": "text", "text": ...}``, one text without anything between them
``role``: ``developer``                the same as system
=====================================  ==================================================================

Any other key is refused by name: what is not read would be lost without a word. A value that is null, an empty list or
an empty object counts as absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real

from configs import InputError
from finetune.conversations.messages import ROLES, Message, Role
from finetune.conversations.tool_calls import read_tool_calls
from scratch_models.documents.json_values import kind_of, read_text
from tokenizer_ext.pages.shortened import shorten

KEYS_OF: dict[str, tuple[Role, ...]] = {
    "role": ROLES,
    "content": ROLES,
    "weight": ROLES,
    "train": ROLES,
    "reasoning_content": ("assistant",),
    "reasoning": ("assistant",),
    "tool_calls": ("assistant",),
    "name": ("tool",),
    "tool_call_id": ("tool",),
}
THINK, END_OF_THINKING = "<think>", "</think>"
REPLACED = {"function_call": "write it as tool_calls"}


def read_messages(value: object, place: str, field: str) -> list[Message]:
    """The messages of a list.

    Raises:
        InputError: one cannot be used; it begins with `place`.

    """
    if not isinstance(value, list):
        raise InputError(f"{place}: {field} is {kind_of(value)}, expected a list of messages")
    return [_read_message(entry, place, f"{field}[{index}]") for index, entry in enumerate(value)]


def say(role: Role, content: object, place: str, field: str, *, may_be_empty: bool = False) -> Message:
    r"""A message of text alone; an assistant's thoughts at its beginning are taken apart.

    >>> message = say("assistant", "<think>\n2+2=4\n</think>\n\n4", "chat.jsonl:1", "content")
    >>> message.reasoning, message.content
    ('2+2=4', '4')

    Raises:
        InputError: it is no text, or an assistant says nothing and may not be empty.

    """
    message = Message(role, read_text(content, place, field))
    if role == "assistant":
        message = split_thoughts(message)
        if not message.content.strip() and not may_be_empty:
            raise InputError(f"{place}: {field} of the assistant is empty, expected the text to learn")
    return message


def split_thoughts(message: Message) -> Message:
    """The message with what its content holds between ``<think>`` and ``</think>`` at its beginning as reasoning."""
    thoughts, end, content = message.content.removeprefix(THINK).partition(END_OF_THINKING)
    if not message.content.startswith(THINK) or not end:
        return message
    # Line breaks around the marks are the format's, not the speaker's: templates write their own.
    return replace(message, content=content.lstrip("\n"), reasoning=thoughts.strip("\n"), written=message.content)


def _read_message(value: object, place: str, field: str) -> Message:
    told = _told(value, place, field)
    role = _read_role(told.pop("role"), place, field)
    for key in told:
        _expect_known(key, role, place, field)
    calls = read_tool_calls(told["tool_calls"], place, f"{field}.tool_calls") if "tool_calls" in told else ()
    content = told.get("content", "" if calls else None)  # a message that only calls has none in OpenAI's API
    content = _join_parts(content, place, f"{field}.content") if isinstance(content, list) else content
    return replace(
        _with_reasoning(say(role, content, place, f"{field}.content", may_be_empty=bool(calls)), told, place, field),
        weight=_read_weight(told, role, place, field),
        tool_calls=calls,
        name=_optional_text(told, "name", place, field),
        tool_call_id=_optional_text(told, "tool_call_id", place, field),
    )


def _told(value: object, place: str, field: str) -> dict[str, object]:
    """What a message holds: no key whose value says nothing."""
    if not isinstance(value, dict):
        raise InputError(f'{place}: {field} is {kind_of(value)}, expected {{"role": ..., "content": ...}}')
    told = {key: one for key, one in value.items() if one is not None and (key == "content" or one not in ([], {}))}
    if "role" not in value or not ("content" in value or "tool_calls" in told):
        found = f"an object with {', '.join(map(repr, value)) or 'no keys'}"[:120]
        raise InputError(f'{place}: {field} is {found}, expected {{"role": ..., "content": ...}}')
    return {**told, "role": value["role"]}


def _join_parts(parts: Sequence[object], place: str, field: str) -> str:
    """The text of a content in parts."""
    texts = []
    for number, part in enumerate(parts):
        told = {key: one for key, one in part.items() if one is not None} if isinstance(part, dict) else {}
        kind = told.get("type")
        if kind != "text" or told.keys() != {"type", "text"}:
            found = f"{', '.join(map(repr, told))} of type {kind!r}" if told else kind_of(part)
            raise InputError(
                f"{place}: {field}[{number}] is {shorten(found, 80)}, expected "
                '{"type": "text", "text": ...}: only text is learned here'
            )
        texts.append(read_text(told["text"], place, f"{field}[{number}].text"))
    return "".join(texts)


def _read_role(role: object, place: str, field: str) -> Role:
    if role == "developer":  # what OpenAI's newer models call it
        return "system"
    if role not in ROLES:
        found = repr(role)[:40] if isinstance(role, str) else kind_of(role)
        raise InputError(f"{place}: {field}.role is {found}, expected one of {', '.join(ROLES)}, developer")
    return role


def _expect_known(key: str, role: Role, place: str, field: str) -> None:
    if key in KEYS_OF and role not in KEYS_OF[key]:
        raise InputError(
            f"{place}: {field} has {key!r} in a message by {role}, expected it by {KEYS_OF[key][0]} alone: take it out"
        )
    if key not in KEYS_OF:
        advice = REPLACED.get(key, "take it out, or write what it says into the content")
        raise InputError(f"{place}: {field} has {key!r}, which is not read, expected {', '.join(KEYS_OF)}: {advice}")


def _with_reasoning(message: Message, told: Mapping[str, object], place: str, field: str) -> Message:
    keys = [key for key in ("reasoning_content", "reasoning") if told.get(key) not in (None, "")]
    if not keys:
        return message
    given = {read_text(told[key], place, f"{field}.{key}") for key in keys}
    if len(given) > 1 or message.reasoning is not None:
        second = "another reasoning" if len(given) > 1 else f"{THINK} in its content"
        raise InputError(f"{place}: {field} has {keys[0]!r} and {second}, expected one of them")
    return replace(message, reasoning=given.pop())


def _read_weight(told: Mapping[str, object], role: Role, place: str, field: str) -> float:
    """How much the message is learned; of another role than the assistant's nothing is, and nothing may be asked."""
    weight, train = (_read_mark(key, told[key], place, field) if key in told else None for key in ("weight", "train"))
    if role != "assistant" and (weight or train):
        key = "weight" if weight else "train"
        raise InputError(
            f"{place}: {field} asks with {key!r} to learn a message by {role}, expected it of the assistant's alone"
        )
    if weight is not None and train is not None and (weight > 0) != (train > 0):
        raise InputError(
            f"{place}: {field} has weight {told['weight']} and train {told['train']}, expected one of them"
        )
    marks = [mark for mark in (weight, train) if mark is not None]
    return min(marks, default=1.0) if role == "assistant" else 1.0


def _read_mark(key: str, value: object, place: str, field: str) -> float:
    if isinstance(value, Real) and isinstance(value, bool) == (key == "train") and value <= 1 and not value < 0:
        return float(value)
    expected = "true or false" if key == "train" else "a number from 0 (read, not learned) to 1 (learned in full)"
    raise InputError(f"{place}: {field}.{key} is {shorten(repr(value), 60)}, expected {expected}")


def _optional_text(told: Mapping[str, object], key: str, place: str, field: str) -> str | None:
    return read_text(told[key], place, f"{field}.{key}") if key in told else None
