"""Conversations, read from the formats in which people keep them.

=====================================  ==================================================================
keys of a record                       becomes
=====================================  ==================================================================
``messages``                           its messages: a list of ``{"role", "content"}``
``prompt``, ``completion``             text: one user and one assistant message; lists: their messages
``instruction``, ``output`` (Alpaca)   user: instruction, a blank line and ``input`` where there is one
``question``, ``answer``               one user and one assistant message
=====================================  ==================================================================

Beside the first three, ``answer`` may hold the one checkable answer; in ``question``/``answer`` it is what follows
``####`` (GSM8K). Other keys are left alone.
"""

from collections.abc import Callable, Mapping
from typing import cast

from configs import InputError
from finetune.conversations.messages import Conversation, Message, Role, ToolCall
from finetune.conversations.records import read_all, type_names

__all__ = ["Conversation", "Message", "Role", "ToolCall", "final_answer", "read_conversations", "to_conversation"]

ROLES: tuple[Role, ...] = ("system", "user", "assistant")  # those that can be read
ANSWER_MARK = "####"


def read_conversations(data: str) -> list[Conversation]:
    """All conversations of a ``.jsonl`` or ``.json`` file, or of a data set on the Hub (``owner/name:configuration``).

    Raises:
        InputError: a record cannot be used; place and field of the first one, and the number of others.

    """
    return read_all(data, to_conversation, "conversations")


def to_conversation(record: Mapping[str, object], place: str) -> Conversation:
    """The conversation of one record.

    >>> to_conversation({"question": "Half of 48?", "answer": "48/2=24 #### 24"}, "gsm8k.jsonl:1").answer
    '24'

    Raises:
        InputError: the record cannot be used; it begins with `place`.

    """
    read = next((read for keys, read in FORMATS.items() if all(key in record for key in keys)), None)
    if read is None:
        found = ", ".join(repr(key) for key in record)[:120] or "nothing"
        expected = "; or ".join(" and ".join(keys) for keys in FORMATS)
        raise InputError(f"{place}: keys are {found}, expected {expected}")
    messages, answer = read(record, place)
    _check_order(messages, place)
    return Conversation(messages=tuple(messages), source=place, answer=answer)


def final_answer(text: str) -> str | None:
    """What follows the last ``####`` of a worked answer, None where there is no such mark.

    >>> final_answer("48/2 = 24 clips in May. 48 + 24 = 72. #### 72")
    '72'
    """
    _, mark, answer = text.rpartition(ANSWER_MARK)
    return (answer.strip() or None) if mark else None


Reading = tuple[list[Message], str | None]


def _read_messages(record: Mapping[str, object], place: str) -> Reading:
    return _message_list(record["messages"], place, "messages"), _checkable(record, place)


def _read_completion(record: Mapping[str, object], place: str) -> Reading:
    prompt = _one_or_more("user", record["prompt"], place, "prompt")
    completion = _one_or_more("assistant", record["completion"], place, "completion")
    if all(message.role != "assistant" for message in completion):
        raise InputError(f"{place}: completion has no assistant message, nothing to learn from")
    return prompt + completion, _checkable(record, place)


def _read_instruction(record: Mapping[str, object], place: str) -> Reading:
    given = record.get("input")
    parts = [_text(record["instruction"], place, "instruction"), "" if given is None else _text(given, place, "input")]
    user = Message("user", "\n\n".join(part for part in parts if part))
    return [user, _message("assistant", record["output"], place, "output")], _checkable(record, place)


def _read_question(record: Mapping[str, object], place: str) -> Reading:
    reply = _message("assistant", record["answer"], place, "answer")
    return [_message("user", record["question"], place, "question"), reply], final_answer(reply.content)


FORMATS: dict[tuple[str, ...], Callable[[Mapping[str, object], str], Reading]] = {
    ("messages",): _read_messages,
    ("prompt", "completion"): _read_completion,
    ("instruction", "output"): _read_instruction,
    ("question", "answer"): _read_question,
}


def _checkable(record: Mapping[str, object], place: str) -> str | None:
    answer = record.get("answer")  # the Hub fills absent fields with null
    return None if answer is None else _text(answer, place, "answer")


def _one_or_more(role: Role, value: object, place: str, field: str) -> list[Message]:
    return _message_list(value, place, field) if isinstance(value, list) else [_message(role, value, place, field)]


def _message_list(value: object, place: str, field: str) -> list[Message]:
    if not isinstance(value, list):
        raise InputError(f"{place}: {field} is {_kind(value)}, expected a list of messages")
    return [_message_object(entry, place, f"{field}[{index}]") for index, entry in enumerate(value)]


def _message_object(value: object, place: str, field: str) -> Message:
    if not isinstance(value, dict) or not {"role", "content"} <= value.keys():
        found = (
            f"an object with {', '.join(map(repr, value)) or 'no keys'}"[:120]
            if isinstance(value, dict)
            else _kind(value)
        )
        raise InputError(f'{place}: {field} is {found}, expected {{"role": ..., "content": ...}}')
    role = value["role"]
    if role not in ROLES:
        found = repr(role)[:40] if isinstance(role, str) else _kind(role)
        raise InputError(f"{place}: {field}.role is {found}, expected one of {', '.join(ROLES)}")
    return _message(cast(Role, role), value["content"], place, f"{field}.content")


def _message(role: Role, content: object, place: str, field: str) -> Message:
    message = Message(role, _text(content, place, field))
    if role == "assistant" and not message.content.strip():
        raise InputError(f"{place}: {field} of the assistant is empty, expected the text to learn")
    return message


def _text(value: object, place: str, field: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: {field} is {_kind(value)}, expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"\\u{ord(value[error.start]):04x}"
        raise InputError(f"{place}: {field} holds half a surrogate pair ({found}) at character {error.start}") from None
    return value


def _check_order(messages: list[Message], place: str) -> None:
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        number = roles.index("system", 1) + 1
        raise InputError(
            f"{place}: message {number} of {len(roles)} is the system's, which can only come first and once"
        )
    if "assistant" not in roles:
        found = ", ".join(roles) or "no message"
        raise InputError(f"{place}: no assistant message (found {found}), nothing to learn from")


def _kind(value: object) -> str:
    return type_names.get(type(value), type(value).__name__)
