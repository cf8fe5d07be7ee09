"""Preference pairs: one prompt with the reply that is preferred and one that is not.

=====================================  ==================================================================
keys of a record                       becomes
=====================================  ==================================================================
``prompt``, ``chosen``, ``rejected``   text: one user message and two assistant messages; lists: their messages
``chosen``, ``rejected``               two lists of messages; those that they begin with alike are the prompt
=====================================  ==================================================================

A ``chosen`` or ``rejected`` that says the prompt again before its reply, as many data sets on the Hub do, is read
without it. ``system``, ``tools`` and ``answer`` are read as in `formats`. Other keys are left alone, and can
be counted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.formats import Conversation, Message, to_conversation
from finetune.conversations.keys import READ_BESIDE, refuse_columns
from finetune.files.records import read_all

KEYS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Pair:
    """A prompt with two replies, the place they were read from, and the answer that can be checked, if there is one."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    source: str
    answer: str | None = None
    tools: str | None = None
    """JSON text of the list of tools that the assistant may call."""

    def with_chosen(self) -> Conversation:
        """The conversation that ends as preferred."""
        return Conversation((*self.prompt, *self.chosen), self.source, self.answer, self.tools)

    def with_rejected(self) -> Conversation:
        """The conversation that ends as not preferred."""
        return Conversation((*self.prompt, *self.rejected), self.source, tools=self.tools)


def read_pairs(data: str, unread: Counter[str] | None = None) -> list[Pair]:
    """All pairs of a ``.jsonl`` or ``.json`` file, or of a data set on the Hub (``owner/name:configuration``).

    `unread` counts the values of each key that is left alone.

    Raises:
        InputError: a record cannot be used; place and field of the first one, and the number of others.

    """

    def parse(record: Mapping[str, object], place: str) -> Pair:
        pair = to_pair(record, place)
        if unread is not None:
            read = {*KEYS, *READ_BESIDE}
            unread.update(key for key, value in record.items() if value is not None and key not in read)
        return pair

    return read_all(data, parse, "pairs")


def to_pair(record: Mapping[str, object], place: str) -> Pair:
    """The pair of one record.

    >>> to_pair({"prompt": "Half of 48?", "chosen": "24", "rejected": "42"}, "pairs.jsonl:1").rejected[0].content
    '42'

    Raises:
        InputError: the record cannot be used; it begins with `place`.

    """
    for key in ("chosen", "rejected"):
        if record.get(key) is None:  # the Hub fills absent fields with null
            found = ", ".join(repr(name) for name, value in record.items() if value is not None)[:120] or "nothing"
            raise InputError(f"{place}: no {key!r} (found {found}), expected {', '.join(KEYS)} in each pair")
    refuse_columns(record, place)
    prompt = record["prompt"] if record.get("prompt") is not None else _shared_beginning(record, place)
    (said, chosen), (_, rejected) = (_read_side(record, key, prompt, place) for key in ("chosen", "rejected"))
    return Pair(said, chosen.messages[len(said) :], rejected.messages[len(said) :], place, chosen.answer, chosen.tools)


def _shared_beginning(record: Mapping[str, object], place: str) -> list[object]:
    chosen, rejected = record["chosen"], record["rejected"]
    if not isinstance(chosen, list) or not isinstance(rejected, list):
        raise InputError(f"{place}: no 'prompt', expected one beside chosen and rejected that are text")
    both = list(zip(chosen, rejected, strict=False))
    alike = next((place for place, (left, right) in enumerate(both) if _essence(left) != _essence(right)), len(both))
    # Two equal lists share everything; their last message is a reply all the same.
    prompt = chosen[: min(alike, len(chosen) - 1, len(rejected) - 1)]
    if not prompt:
        raise InputError(f"{place}: no 'prompt', and chosen and rejected begin with different messages; give a prompt")
    return prompt


def _read_side(
    record: Mapping[str, object], key: str, prompt: object, place: str
) -> tuple[tuple[Message, ...], Conversation]:
    """What was said before the reply, and all of it with the reply."""
    reply = record[key]
    said = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    if not said:
        raise InputError(f"{place}: prompt is an empty list, expected at least one message")
    reply = _without_prompt(reply, said, record.get("system"))
    beside = {name: record.get(name) for name in READ_BESIDE}
    conversation = to_conversation({"prompt": prompt, "completion": reply, **beside}, f"{place}, {key}")
    turns = len(conversation.messages) - (len(reply) if isinstance(reply, list) else 1)
    replied = conversation.messages[turns:]
    roles = [message.role for message in replied]
    if roles[0] != "assistant" or roles[-1] != "assistant":
        raise InputError(f"{place}: {key} is by {', '.join(roles)}, expected it to begin and end with the assistant")
    if not any(message.learned for message in replied if message.role == "assistant"):
        raise InputError(f"{place}: {key} has no message to learn: all are marked weight 0 or train false")
    if partly := [message.weight for message in replied if 0 < message.weight < 1]:
        raise InputError(
            f"{place}: {key} has a message of weight {partly[0]}, expected 0 or 1: a preference compares whole "
            "replies; weights in between are for finetune/sft.py"
        )
    return conversation.messages[:turns], conversation


def _without_prompt(reply: object, said: list[object], system: object) -> object:
    """A reply without the prompt that it says again, with or without the column `system` as a first message."""
    for start in (said, [{"role": "system", "content": system}, *said]):
        if isinstance(reply, list) and list(map(_essence, reply[: len(start)])) == list(map(_essence, start)):
            return reply[len(start) :]
    return reply


def _essence(message: object) -> object:
    """A message without keys that say nothing, or only whether it is learned."""
    if not isinstance(message, dict):
        return message
    return {key: value for key, value in message.items() if value is not None and key not in ("weight", "train")}
