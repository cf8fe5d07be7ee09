"""Conversations, read from the formats in which people keep them.

=====================================  ==================================================================
keys of a record                       becomes
=====================================  ==================================================================
``messages`` (OpenAI's)                its messages, see `message_reader`
``conversations`` (ShareGPT's)         its turns, see `sharegpt`
``prompt``, ``completion``             text: one user and one assistant message; lists: their messages
``instruction``, ``output`` (Alpaca)   user: instruction, a blank line and ``input`` where there is one; pairs of
                                       texts in ``history`` are turns before them
``question``, ``answer``               one user and one assistant message
=====================================  ==================================================================

``system`` beside any of them is the system message, ``tools`` the tools that the assistant may call. Beside the first
four, ``answer`` may hold the one checkable answer; in ``question``/``answer`` it is what follows ``####`` (GSM8K). A
key whose value is null counts as absent. Other keys are left alone, and can be counted; those that would change what
is learned are refused, see `keys`. All records of a set have one format.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from configs import InputError
from finetune.conversations.keys import READ_BESIDE, refuse_columns
from finetune.conversations.message_reader import read_messages, say
from finetune.conversations.messages import Conversation, Message, Role, ToolCall
from finetune.conversations.sharegpt import read_sharegpt
from finetune.conversations.tool_calls import read_tools
from finetune.files.records import read_each
from scratch_models.documents.json_values import kind_of, read_text

__all__ = [
    "Conversation",
    "Message",
    "Role",
    "ToolCall",
    "each_conversation",
    "final_answer",
    "read_conversations",
    "to_conversation",
]

ANSWER_MARK = "####"


def read_conversations(data: str, unread: Counter[str] | None = None) -> list[Conversation]:
    """All conversations of a file, a folder or a data set on the Hub, as `each_conversation` gives them."""
    return list(each_conversation(data, unread))


def each_conversation(data: str, unread: Counter[str] | None = None) -> Iterator[Conversation]:
    """The conversations of a file, a folder or a data set on the Hub, one by one, see `records`.

    `unread` counts the values of each key that is left alone.

    Raises:
        InputError: a record cannot be used; place and field of the first one, and the number of others.

    """

    first: list[tuple[str, ...]] = []

    def parse(record: Mapping[str, object], place: str) -> Conversation:
        conversation = to_conversation(record, place)
        keys = _keys_of_format(record) or ()
        first.append(keys) if not first else _expect_same(first[0], keys, place)
        if unread is not None:
            unread.update(unread_keys(record))
        return conversation

    return read_each(data, parse, "conversations")


def _expect_same(first: tuple[str, ...], keys: tuple[str, ...], place: str) -> None:
    if keys != first:
        raise InputError(
            f"{place}: holds {' and '.join(keys)}, and the records before it {' and '.join(first)}: give each form a "
            "file of its own"
        )


def to_conversation(record: Mapping[str, object], place: str) -> Conversation:
    """The conversation of one record.

    >>> to_conversation({"question": "Half of 48?", "answer": "48/2=24 #### 24"}, "gsm8k.jsonl:1").answer
    '24'

    Raises:
        InputError: the record cannot be used; it begins with `place`.

    """
    keys = _keys_of_format(record)
    if keys is None:
        found = ", ".join(repr(key) for key in record)[:120] or "nothing"
        expected = "; or ".join(" and ".join(keys) for keys in FORMATS)
        raise InputError(f"{place}: keys are {found}, expected {expected}")
    refuse_columns(record, place, read=BESIDE.get(keys, ()))
    messages, answer = FORMATS[keys](record, place)
    messages = _begin_with_system(record, messages, place)
    _check_order(messages, place)
    return Conversation(tuple(messages), place, answer, read_tools(record.get("tools"), place))


def unread_keys(record: Mapping[str, object]) -> list[str]:
    """The keys of a record that hold something and are left alone."""
    keys = _keys_of_format(record) or ()
    read = {*keys, *READ_BESIDE, *BESIDE.get(keys, ())}
    return [key for key, value in record.items() if value is not None and key not in read]


def final_answer(text: str) -> str | None:
    """What follows the last ``####`` of a worked answer, None where there is no such mark.

    >>> final_answer("48/2 = 24 clips in May. 48 + 24 = 72. #### 72")
    '72'
    """
    _, mark, answer = text.rpartition(ANSWER_MARK)
    return (answer.strip() or None) if mark else None


Reading = tuple[list[Message], str | None]


def _read_messages(record: Mapping[str, object], place: str) -> Reading:
    return read_messages(record["messages"], place, "messages"), _checkable(record, place)


def _read_sharegpt(record: Mapping[str, object], place: str) -> Reading:
    return read_sharegpt(record["conversations"], place, "conversations"), _checkable(record, place)


def _read_completion(record: Mapping[str, object], place: str) -> Reading:
    prompt = _one_or_more("user", record["prompt"], place, "prompt")
    completion = _one_or_more("assistant", record["completion"], place, "completion")
    if all(message.role != "assistant" for message in completion):
        raise InputError(f"{place}: completion has no assistant message, nothing to learn from")
    return prompt + completion, _checkable(record, place)


def _read_instruction(record: Mapping[str, object], place: str) -> Reading:
    given = record.get("input")
    parts = [read_text(record["instruction"], place, "instruction")]
    parts += [] if given is None else [read_text(given, place, "input")]
    user = Message("user", "\n\n".join(part for part in parts if part))
    reply = say("assistant", record["output"], place, "output")
    return [*_read_history(record.get("history"), place), user, reply], _checkable(record, place)


def _read_history(value: object, place: str) -> list[Message]:
    """Earlier turns of Alpaca's: pairs of what the user said and what the assistant replied."""
    if value in (None, ""):
        return []
    if not isinstance(value, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in value):
        raise InputError(f'{place}: history is {kind_of(value)}, expected a list of pairs ["asked", "replied"]')
    return [
        say(role, turn[side], place, f"history[{number}][{side}]")
        for number, turn in enumerate(value)
        for side, role in enumerate(HISTORY_ROLES)
    ]


def _read_question(record: Mapping[str, object], place: str) -> Reading:
    reply = say("assistant", record["answer"], place, "answer")
    return [say("user", record["question"], place, "question"), reply], final_answer(reply.content)


HISTORY_ROLES: tuple[Role, Role] = ("user", "assistant")
FORMATS: dict[tuple[str, ...], Callable[[Mapping[str, object], str], Reading]] = {
    ("messages",): _read_messages,
    ("conversations",): _read_sharegpt,
    ("prompt", "completion"): _read_completion,
    ("instruction", "output"): _read_instruction,
    ("question", "answer"): _read_question,
}
BESIDE: dict[tuple[str, ...], tuple[str, ...]] = {
    ("prompt", "completion"): ("label",),
    ("instruction", "output"): ("input", "history"),
}


def _keys_of_format(record: Mapping[str, object]) -> tuple[str, ...] | None:
    """The keys of the first format that a record has values for, else of the first whose keys it has."""
    return _first_format(frozenset(record), frozenset(key for key, value in record.items() if value is not None))


@lru_cache(maxsize=1024)
def _first_format(keys: frozenset[str], with_values: frozenset[str]) -> tuple[str, ...] | None:
    found = (names for given in (with_values, keys) for names in FORMATS if given.issuperset(names))
    return next(found, None)


def _checkable(record: Mapping[str, object], place: str) -> str | None:
    answer = record.get("answer")  # the Hub fills absent fields with null
    return None if answer is None else read_text(answer, place, "answer")


def _one_or_more(role: Role, value: object, place: str, field: str) -> list[Message]:
    return read_messages(value, place, field) if isinstance(value, list) else [say(role, value, place, field)]


def _begin_with_system(record: Mapping[str, object], messages: list[Message], place: str) -> list[Message]:
    """The messages behind that of the column `system`; it may say again what the first of them says."""
    if record.get("system") in (None, ""):
        return messages
    system = say("system", record["system"], place, "system")
    if messages and messages[0].role == "system" and messages[0].content != system.content:
        raise InputError(f"{place}: system and the first message say two different things, expected one of them")
    return messages if messages[:1] == [system] else [system, *messages]


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
