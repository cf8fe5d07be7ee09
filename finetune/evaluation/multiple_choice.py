"""Multiple choice by likelihood: the choice that a model finds likeliest after the question is its answer.

A longer choice costs more nats whatever it says, so there are two readings, which are also those of EleutherAI's
lm-evaluation-harness: by the nats of the whole choice (its `acc`), and by nats per byte (its `acc_norm`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from configs import InputError
from finetune.conversations.formats import Conversation, Message
from finetune.conversations.questions import ChoiceQuestion
from finetune.replies.likelihood import reply_row, row_nats
from finetune.replies.prompts import PromptFormat, fits
from scratch_models.corpus.evenly_spaced import evenly_spaced


@dataclass(frozen=True)
class Chosen:
    """What one model chose, question by question."""

    by_nats: list[int]
    by_nats_per_byte: list[int]


def choose(model: PreTrainedModel, prompt_format: PromptFormat, questions: Sequence[ChoiceQuestion]) -> Chosen:
    """What the model chooses when it is asked in this prompt format; of equally likely choices the first."""
    answered = [_with_choices(question) for question in questions]
    replies = [[prompt_format.known_reply(conversation) for conversation in of_one] for of_one in answered]
    rows = [
        reply_row(prompt_format, conversation, reply)
        for of_one, known in zip(answered, replies, strict=True)
        for conversation, reply in zip(of_one, known, strict=True)
    ]
    nats = iter(row_nats(model, rows))
    costs = [[(next(nats), reply.text_bytes) for reply in known] for known in replies]
    return Chosen(
        by_nats=[_cheapest([nats for nats, _ in of_one]) for of_one in costs],
        by_nats_per_byte=[_cheapest([nats / text_bytes for nats, text_bytes in of_one]) for of_one in costs],
    )


def choose_fitting(
    questions: Sequence[ChoiceQuestion], number: int, prompt_formats: Sequence[tuple[PreTrainedModel, PromptFormat]]
) -> list[ChoiceQuestion]:
    """Of so many questions, spread evenly over all, those that fit every model's positions with every choice.

    Raises:
        InputError: there is none.
    """
    chosen = evenly_spaced(questions, number)
    fitting = [question for question in chosen if _fits(question, prompt_formats)]
    if not fitting:
        raise InputError(
            f"none of {len(chosen)} multiple-choice questions fits the models' positions with its choices, expected at "
            "least one: give shorter ones"
        )
    return fitting


def _fits(question: ChoiceQuestion, prompt_formats: Sequence[tuple[PreTrainedModel, PromptFormat]]) -> bool:
    return all(
        fits(model, prompt_format, conversation)
        for model, prompt_format in prompt_formats
        for conversation in _with_choices(question)
    )


def _with_choices(question: ChoiceQuestion) -> list[Conversation]:
    """The question with each of its choices as the reply."""
    return [
        Conversation((*question.asked, Message("assistant", choice)), question.source) for choice in question.choices
    ]


def _cheapest(costs: Sequence[float]) -> int:
    return min(range(len(costs)), key=costs.__getitem__)
