"""Multiple choice by likelihood: the choice that a model finds likeliest after the question is its answer.

A longer choice costs more nats whatever it says, so there are two readings, which are also those of EleutherAI's
lm-evaluation-harness: by the nats of the whole choice (its `acc`), and by nats per byte (its `acc_norm`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from configs import InputError
from finetune.conversation_sets import spread
from finetune.conversations import Conversation, Message
from finetune.reply_likelihood import reply_row, row_nats
from finetune.ways import Way, fits

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with the texts that may answer it, one of which does."""

    asked: tuple[Message, ...]
    choices: tuple[str, ...]
    right: int
    """Place of the right choice, from 0."""
    source: str


@dataclass(frozen=True)
class Chosen:
    """What one model chose, question by question."""

    by_nats: list[int]
    by_nats_per_byte: list[int]


def to_choice_question(record: Mapping[str, object], asked: tuple[Message, ...], place: str) -> ChoiceQuestion:
    """The question of a record with `choices` and `answer`, which is a place from 0, a choice's text, or its letter.

    >>> record = {"choices": ["Rome", "Paris"], "answer": "B"}
    >>> to_choice_question(record, (Message("user", "Capital of France?"),), "quiz.jsonl:1").right
    1

    Raises: InputError that begins with `place`.
    """
    choices, labels = _read_choices(record["choices"], place)
    answer = record.get("answer", record.get("answerKey"))
    return ChoiceQuestion(asked, choices, _place_of(answer, choices, labels, place), place)


def choose(model: PreTrainedModel, way: Way, questions: Sequence[ChoiceQuestion]) -> Chosen:
    """What the model chooses when it is asked in this way; of equally likely choices the first."""
    replies = [[way.known_reply(choice) for choice in question.choices] for question in questions]
    rows = [
        reply_row(way, question.asked, reply)
        for question, known in zip(questions, replies, strict=True)
        for reply in known
    ]
    nats = iter(row_nats(model, rows))
    costs = [[(next(nats), reply.text_bytes) for reply in known] for known in replies]
    return Chosen(
        by_nats=[_cheapest([nats for nats, _ in of_one]) for of_one in costs],
        by_nats_per_byte=[_cheapest([nats / text_bytes for nats, text_bytes in of_one]) for of_one in costs],
    )


def choose_fitting(
    questions: Sequence[ChoiceQuestion], number: int, ways: Sequence[tuple[PreTrainedModel, Way]]
) -> list[ChoiceQuestion]:
    """Of so many questions, spread evenly over all, those that fit every model's positions with every choice.

    Raises:
        InputError: there is none.
    """
    chosen = spread(questions, number)
    fitting = [question for question in chosen if _fits(question, ways)]
    if not fitting:
        raise InputError(
            f"none of {len(chosen)} multiple-choice questions fits the models' positions with its choices, expected at "
            "least one: give shorter ones"
        )
    return fitting


def _fits(question: ChoiceQuestion, ways: Sequence[tuple[PreTrainedModel, Way]]) -> bool:
    with_choices = [
        Conversation((*question.asked, Message("assistant", choice)), question.source) for choice in question.choices
    ]
    return all(fits(model, way, conversation) for model, way in ways for conversation in with_choices)


def _cheapest(costs: Sequence[float]) -> int:
    return min(range(len(costs)), key=costs.__getitem__)


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
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
