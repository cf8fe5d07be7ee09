"""Questions whose answers can be scored, read from any records that have an `answer`.

The formats are those of `conversations`; with `answer` beside it, a question alone is enough: ``question``, ``prompt``,
``instruction`` or ``messages`` that end with the user's. An answer may be worked out, as GSM8K's are: what follows its
last ``####`` is what a reply is compared with, else the whole of it. With ``choices`` it is multiple choice.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from configs import InputError
from finetune.conversations.formats import (
    Conversation,
    Message,
    final_answer,
    to_conversation,
    unread_keys,
)
from finetune.conversations.keys import READ_BESIDE, REFUSED_COLUMNS, count_unread
from finetune.conversations.messages import until_last_reply
from finetune.conversations.splits import read_conversation_splits
from finetune.files.records import read_all
from scratch_models.embedded.default import EMBEDDED
from tokenizer_ext.pages.shortened import shorten

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with the texts that may answer it, one of which does."""

    asked: tuple[Message, ...]
    choices: tuple[str, ...]
    right: int
    """Place of the right choice, from 0."""
    source: str


def to_choice_question(record: Mapping[str, object], asked: tuple[Message, ...], place: str) -> ChoiceQuestion:
    """The question of a record with `choices` and `answer`, which is a place from 0, a choice's text, or its letter.

    >>> record = {"choices": ["Rome", "Paris"], "answer": "B"}
    >>> to_choice_question(record, (Message("user", "Capital of France?"),), "quiz.jsonl:1").right
    1

    Raises:
        InputError: the record cannot be used; it begins with `place`.

    """
    choices, labels = _read_choices(record["choices"], place)
    answer = record.get("answer", record.get("answerKey"))
    return ChoiceQuestion(asked, choices, _place_of(answer, choices, labels, place), place)


def _read_choices(value: object, place: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts, and the labels by which the answer may name them."""
    labels: object = list(LETTERS)
    if isinstance(value, dict):  # as ARC has them: {"text": [...], "label": ["A", ...]}
        labels = value.get("label")
        value = value.get("text")
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise InputError(f'{place}: choices are {_short(value)}, expected a list of texts, as ["Rome", "Paris"]')
    if not 2 <= len(value) <= len(LETTERS) or len(set(value)) < len(value):
        raise InputError(f"{place}: choices are {_short(value)}, expected 2 to {len(LETTERS)} different texts")
    if not isinstance(labels, list) or len(labels) < len(value):
        raise InputError(f"{place}: choices.label is {_short(labels)}, expected a label for each of {len(value)} texts")
    return tuple(value), tuple(str(label) for label in labels[: len(value)])


def _place_of(answer: object, choices: tuple[str, ...], labels: tuple[str, ...], place: str) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    for names in (choices, labels):
        if answer in names:
            return names.index(str(answer))
    raise InputError(
        f"{place}: answer is {_short(answer)}, expected a place from 0 to {len(choices) - 1}, the text of a choice, or "
        f"one of {', '.join(labels)}"
    )


def _short(value: object) -> str:
    return shorten(repr(value), 80)


Question = Conversation | ChoiceQuestion
FILLER = "?"


def read_asked(data: str, left_alone: Counter[str]) -> tuple[list[Conversation], list[ChoiceQuestion]]:
    """The questions of the data; of the embedded data those that are held out. `left_alone` counts what is not read."""
    if data == EMBEDDED:
        return list(read_conversation_splits(data).held_out), []
    return read_questions(data, left_alone)


def read_questions(
    data: str, left_alone: Counter[str] | None = None
) -> tuple[list[Conversation], list[ChoiceQuestion]]:
    """The conversations of the data, each up to its last reply, and its multiple-choice questions.

    `left_alone` counts what is not read, and how often.

    Raises:
        InputError: a record cannot be used; place and field of the first one, and the number of others.

    """
    unread: Counter[str] = Counter()

    def parse(record: Mapping[str, object], place: str) -> Question:
        question = to_question(record, place)
        unread.update(unread_of_question(record))
        return question

    questions = read_all(data, parse, "questions")
    if left_alone is not None:
        left_alone.update(count_unread(unread, beside="questions"))
    return (
        [one for one in questions if isinstance(one, Conversation)],
        [one for one in questions if isinstance(one, ChoiceQuestion)],
    )


def describe_left_alone(left_alone: Mapping[str, int]) -> str:
    """The counts on one line.

    >>> describe_left_alone({"values beside the questions ('id')": 4})
    "left alone: 4 values beside the questions ('id')"
    """
    return "left alone: " + "; ".join(f"{count:,} {what}" for what, count in left_alone.items())


def to_question(record: Mapping[str, object], place: str) -> Question:
    """What one record asks.

    >>> to_question({"prompt": "Half of 48?", "answer": 24}, "quiz.jsonl:1").answer
    '24'

    Raises:
        InputError: the record cannot be used; it begins with `place`.

    """
    record = {key: value for key, value in record.items() if value is not None}  # the Hub fills absent fields with null
    if "choices" in record:
        # The choices are the replies; to read the question alone it gets one that is never looked at.
        return to_choice_question(record, _with_reply(record, FILLER, place).messages[:-1], place)
    answer = _written(record.get("answer"))
    if answer is None:
        return until_last_reply(to_conversation(record, place))
    conversation = _with_reply(record, answer, place)
    text = str(answer)
    return replace(conversation, answer=final_answer(text) or text.strip())


def unread_of_question(record: Mapping[str, object]) -> list[str]:
    """The keys of a record that hold something and are left alone.

    >>> unread_of_question({"prompt": "Half of 48?", "choices": ["24", "42"], "answerKey": "A", "mood": "good"})
    ['mood']
    """
    record = {key: value for key, value in record.items() if value is not None}
    if "choices" not in record and "answer" not in record:
        return unread_keys(record)
    answered = _answered(record, record.get("answer", FILLER))
    read = {*answered} - {*unread_keys(answered)}
    messages = answered.get("messages")
    if record.get("prompt") == (messages[:-1] if isinstance(messages, list) else answered.get("question")):
        read.add("prompt")
    if "choices" in record:
        read |= {"choices", "answer" if "answer" in record else "answerKey"}
        read.discard("tools")  # a choice is a text
    return [key for key in record if key not in read]


def _with_reply(record: Mapping[str, object], answer: object, place: str) -> Conversation:
    """The conversation of a record; the answer becomes the reply where a question stands alone."""
    return until_last_reply(to_conversation(_answered(record, answer), place))


def _answered(record: Mapping[str, object], answer: object) -> dict[str, object]:
    """The record of that conversation."""
    answered = {**record, "answer": answer}
    beside = {key: value for key, value in record.items() if key in (*READ_BESIDE, *REFUSED_COLUMNS)}
    prompt = record.get("prompt") if "completion" not in record else None
    messages = record.get("messages", prompt)
    if isinstance(messages, list) and _is_the_users(messages[-1:]):
        messages = [*messages, {"role": "assistant", "content": answer}]
        answered = {**beside, "messages": messages, "answer": answer}
    elif "messages" not in record and prompt is not None:
        answered = {**beside, "question": prompt, "answer": answer}
    elif "instruction" in record and "output" not in record:
        answered["output"] = answer
    return answered


def _is_the_users(last: list[object]) -> bool:
    return any(isinstance(message, dict) and message.get("role") == "user" for message in last)


def _written(answer: object) -> object:
    """A number as it would be written; anything else is left to be read, or refused, as it is."""
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
    return str(answer) if is_number else answer
