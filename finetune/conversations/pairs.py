"""Preference pairs: one prompt with the reply that is preferred and one that is not.

=========================================  ==============================================================
keys of a record                           becomes
=========================================  ==============================================================
``prompt``, ``chosen``, ``rejected``       text: one user message and two assistant messages; lists: their messages
``chosen``, ``rejected``                   two lists of messages; those that they begin with alike are the prompt
``question``, ``chosen``, ``rejected``     as with ``prompt``
``instruction``, ``chosen``, ``rejected``  the same, a blank line and ``input`` behind the instruction
``conversations``, ``chosen``,             ShareGPT's turns, and two of the assistant
``rejected``
any of them and ``completions``            rated replies to one prompt, see `rated_replies`; OpenAI's form too
=========================================  ==============================================================

A ``chosen`` or ``rejected`` that says the prompt again before its reply, as many data sets on the Hub do, is read
without it. ``system``, ``tools`` and ``answer`` are read as in `formats`, scores and ``weight`` as in `rated_replies`.
Other keys are left alone, and can be counted; those that would change what is learned are refused, see `keys`. All
records of a set have one form.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.formats import Conversation, Message, to_conversation
from finetune.conversations.keys import BESIDE_PAIRS, HARMLESS, READ_BESIDE, count_unread, refuse_columns
from finetune.conversations.rated_replies import (
    OPENAI_SIDES,
    SIDES,
    best_against_worst,
    from_openai,
    read_scores,
    read_weight,
    score_keys,
    unread_of_completions,
)
from finetune.conversations.sharegpt import as_message
from finetune.files.records import read_all
from scratch_models.documents.json_values import read_text

ASKED = ("prompt", "question", "instruction", "conversations")
"""Where the prompt stands: the first of them that a record has."""
RATED = "completions"
FEWER_THAN_TWO = "prompts with fewer than two rated replies"


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
    weight: float = 1.0
    """How much the pair counts in the loss, from 0 to 1."""
    scores: tuple[float, float] | None = None
    """How good chosen and rejected are, where that was said."""

    def with_chosen(self) -> Conversation:
        """The conversation that ends as preferred."""
        return Conversation((*self.prompt, *self.chosen), self.source, self.answer, self.tools)

    def with_rejected(self) -> Conversation:
        """The conversation that ends as not preferred."""
        return Conversation((*self.prompt, *self.rejected), self.source, tools=self.tools)


def read_pairs(data: str, left_out: Counter[str] | None = None) -> list[Pair]:
    """All pairs of a file, a folder or a data set on the Hub, see `records`.

    `left_out` counts what is not read, and how often.

    Raises:
        InputError: a record cannot be used; place and field of the first one, and the number of others.

    """
    first: list[tuple[str, ...]] = []
    unread: Counter[str] = Counter()
    few: Counter[str] = Counter()

    def parse(record: Mapping[str, object], place: str) -> Pair | None:
        record = from_openai(record, place)
        form = form_of(record, place)
        first.append(form) if not first else _expect_same(first[0], form, place)
        rated = record.get(RATED)
        if RATED in form and isinstance(rated, list) and len(rated) < len(SIDES):
            few[FEWER_THAN_TWO] += 1
            return None
        pair = to_pair(record, place)
        unread.update(_unread_keys(record, form))
        return pair

    read = read_all(data, parse, "pairs")
    if left_out is not None:
        left_out.update({**few, **count_unread(unread, HARMLESS | BESIDE_PAIRS, "pairs")})
    return [pair for pair in read if pair is not None]


def is_pair(record: Mapping[str, object]) -> bool:
    """Whether a record would be a pair rather than a conversation."""
    return any(record.get(key) is not None for key in (*SIDES, *OPENAI_SIDES, RATED))


def _expect_same(first: tuple[str, ...], form: tuple[str, ...], place: str) -> None:
    if form != first:
        raise InputError(
            f"{place}: holds {' and '.join(form)}, and the records before it {' and '.join(first)}: give each form a "
            "file of its own"
        )


def _unread_keys(record: Mapping[str, object], form: tuple[str, ...]) -> list[str]:
    """The keys of a record that hold something and are left alone."""
    read = {*form, *READ_BESIDE, "weight", *(score_keys(record) or ()), *(("input",) if "instruction" in form else ())}
    beside = [key for key, value in record.items() if value is not None and key not in read]
    return [*beside, *sorted(unread_of_completions(record[RATED]))] if RATED in form else beside


def form_of(record: Mapping[str, object], place: str) -> tuple[str, ...]:
    """The keys that a record is read by.

    >>> form_of({"chosen": "24", "question": "Half of 48?", "rejected": "42"}, "pairs.jsonl:1")
    ('question', 'chosen', 'rejected')

    Raises:
        InputError: there is no pair in it.

    """
    given = {key for key, value in record.items() if value is not None}  # the Hub fills absent fields with null
    asked = [key for key in ASKED if key in given][:1]
    if asked and RATED in given and not given.intersection(SIDES):
        return (asked[0], RATED)
    for key in SIDES:
        if key not in given:
            found = ", ".join(repr(name) for name, value in record.items() if value is not None)[:120] or "nothing"
            raise InputError(f"{place}: no {key!r} (found {found}), expected prompt, chosen, rejected in each pair")
    whole = all(_begins_before_a_reply(record[side]) for side in SIDES)
    return SIDES if whole and asked != ["prompt"] else (*asked, *SIDES)


def _begins_before_a_reply(side: object) -> bool:
    first = side[0] if isinstance(side, list) and side else None
    return isinstance(first, dict) and first.get("role") in ("system", "developer", "user")


def to_pair(record: Mapping[str, object], place: str) -> Pair:
    """The pair of one record.

    >>> to_pair({"prompt": "Half of 48?", "chosen": "24", "rejected": "42"}, "pairs.jsonl:1").rejected[0].content
    '42'

    Raises:
        InputError: the record cannot be used; it begins with `place`.

    """
    record = from_openai(record, place)
    form = form_of(record, place)
    refuse_columns(record, place, read=("weight",))
    if RATED in form:
        record = {**record, **best_against_worst(record[RATED], place)}
    prompt = _read_prompt(record, form, place)
    (said, chosen), (_, rejected) = (_read_side(record, key, prompt, place) for key in SIDES)
    return Pair(
        said,
        chosen.messages[len(said) :],
        rejected.messages[len(said) :],
        place,
        chosen.answer,
        chosen.tools,
        read_weight(record, place),
        read_scores(record, place),
    )


def _read_prompt(record: Mapping[str, object], form: tuple[str, ...], place: str) -> object:
    """What is asked: a text, or messages as they are written."""
    if form[0] not in ASKED:
        return _shared_beginning(record, place)
    prompt = record[form[0]]
    if form[0] == "instruction":
        parts = [read_text(record[key], place, key) for key in ("instruction", "input") if record.get(key) is not None]
        return "\n\n".join(part for part in parts if part)
    if isinstance(prompt, list):
        return [as_message(one, place, f"{form[0]}[{number}]") for number, one in enumerate(prompt)]
    return prompt


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
    reply = as_message(record[key], place, key)
    reply = [reply] if isinstance(reply, dict) else reply
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
