"""ShareGPT's conversations, ``{"from", "value"}``, as messages.

====================================================  =========================================================
speaker in ``from``                                   becomes
====================================================  =========================================================
``human``, ``user``                                   user
``gpt``, ``assistant``, ``chatgpt``, ``bing``, …      assistant
``system``, ``developer``                             system
``tool``, ``observation``, ``function_response``      tool
``function_call``                                     assistant, whose text is the JSON of one call or of a list
====================================================  =========================================================

A list under ``conversations`` that holds ``role`` and ``content`` instead is read as messages are.
"""

from configs import InputError
from finetune.conversations.message_reader import read_messages
from finetune.conversations.messages import Message, Role
from scratch_models.documents.json_values import kind_of, parse_json, read_text

SPEAKERS: dict[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "gemini", "claude", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
CALL = "function_call"


def read_sharegpt(value: object, place: str, field: str) -> list[Message]:
    """The messages of a list.

    >>> said = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
    >>> [(one.role, one.content) for one in read_sharegpt(said, "chat.jsonl:1", "conversations")]
    [('user', '1+1?'), ('assistant', '2')]

    Raises:
        InputError: one cannot be used; it begins with `place`.

    """
    if not isinstance(value, list):
        raise InputError(f"{place}: {field} is {kind_of(value)}, expected a list of messages")
    return read_messages([as_message(one, place, f"{field}[{n}]") for n, one in enumerate(value)], place, field)


def as_message(value: object, place: str, field: str) -> object:
    """The message with ``role`` and ``content``."""
    if not isinstance(value, dict) or "role" in value:
        return value
    if "from" not in value or "value" not in value:
        found = ", ".join(map(repr, value)) or "no keys"
        raise InputError(f'{place}: {field} is an object with {found[:120]}, expected {{"from": ..., "value": ...}}')
    others = {key: one for key, one in value.items() if key not in ("from", "value")}
    speaker, text = value["from"], read_text(value["value"], place, f"{field}.value")
    name = speaker.lower() if isinstance(speaker, str) else speaker
    if name == CALL:
        calls = parse_json(f"{place}: {field}.value of {CALL}", text.encode("utf-8"))
        return {"role": "assistant", "tool_calls": calls if isinstance(calls, list) else [calls], **others}
    if not isinstance(name, str) or name not in SPEAKERS:
        found = repr(speaker)[:40] if isinstance(speaker, str) else kind_of(speaker)
        raise InputError(f"{place}: {field}.from is {found}, expected one of {', '.join((*SPEAKERS, CALL))}")
    return {"role": SPEAKERS[name], "content": text, **others}
