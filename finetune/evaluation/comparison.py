"""Base and tuned model measured over the questions of a file: figures, the questions behind them, and how to say it."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.choose_format import choose_format
from finetune.conversations.formats import Conversation
from finetune.conversations.questions import ChoiceQuestion
from finetune.evaluation.figures import Figure, compare_choices, compare_replies, to_table
from finetune.evaluation.multiple_choice import Chosen, choose, choose_fitting
from finetune.evaluation.questions_asked import choose_askable
from finetune.evaluation.scoring import (
    Answered,
    Evaluation,
    ask_in_chat,
    base_prompt_formats,
    best_scores,
    evaluate_base,
)
from finetune.evaluation.tables import calculation_rows
from finetune.replies.prompts import ChatPromptFormat, PromptFormat

Model = tuple[PreTrainedModel, PreTrainedTokenizerFast]


@dataclass(frozen=True)
class Asking:
    """How the questions are asked."""

    questions: int
    """At most so many of them, spread evenly."""
    reply_tokens: int
    calculator: bool


@dataclass(frozen=True)
class Measured:
    """Figures over one kind of question, with what they were taken from."""

    kind: str
    figures: list[Figure]
    questions: list[dict[str, Any]]
    text: str


def measure_replies(base: Model, tuned: Model, conversations: list[Conversation], asking: Asking) -> Measured:
    """The figures over the conversations that can be asked of both models, with the number of those left out."""
    asked = choose_askable(conversations, asking.questions, _prompt_formats(base, tuned, asking.calculator))
    of_base = evaluate_base(*base, asked, asking.reply_tokens, calculator=asking.calculator)
    of_tuned = ask_in_chat(*tuned, asked, asking.reply_tokens, calculator=asking.calculator)
    figures = compare_replies(of_base, of_tuned)
    arithmetic = calculation_rows(best_scores([one.scores for one in of_base.values()]), of_tuned.scores)
    left_out = min(asking.questions, len(conversations)) - len(asked)
    text = (
        f"{to_table(f'on {len(asked)} questions', figures, arithmetic)}\n"
        f"asked {len(asked)} of {len(conversations)} conversations, spread evenly; "
        f"{left_out} left out as too long for the models or without a question"
    )
    return Measured("replies", figures, _list_replies(of_base, of_tuned), text)


def measure_choices(base: Model, tuned: Model, choices: list[ChoiceQuestion], asking: Asking) -> Measured:
    """The figures over the multiple-choice questions that fit both models, with the number of those left out."""
    prompt_formats = _prompt_formats(base, tuned, False)
    asked = choose_fitting(choices, asking.questions, prompt_formats)
    *of_base_formats, of_tuned = [choose(model, prompt_format, asked) for model, prompt_format in prompt_formats]
    of_base = dict(zip(base_prompt_formats(base[1]), of_base_formats, strict=True))
    figures = compare_choices(asked, of_base, of_tuned)
    guessed = sum(1 / len(question.choices) for question in asked) / len(asked)
    left_out = min(asking.questions, len(choices)) - len(asked)
    text = (
        f"{to_table(f'on {len(asked)} multiple-choice questions', figures)}\n"
        f"asked {len(asked)} of {len(choices)} multiple-choice questions, spread evenly; {left_out} left out as too "
        f"long for the models; guessing gets {guessed:.1%}"
    )
    return Measured("multiple_choice", figures, _list_choices(asked, of_base, of_tuned), text)


def _list_replies(base: dict[str, Evaluation], tuned: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "source": one.conversation.source,
            "question": one.question,
            "expected": one.conversation.answer or one.expected,
            "base": {name: _reply(prompt_format.answered[number]) for name, prompt_format in base.items()},
            "tuned": _reply(one),
        }
        for number, one in enumerate(tuned.answered)
    ]


def _reply(answered: Answered) -> dict[str, Any]:
    return {
        "reply": answered.reply,
        "is_right": answered.is_right,
        "contains_answer": answered.contains_answer,
        "stopped": answered.stopped,
    }


def _list_choices(questions: list[ChoiceQuestion], base: dict[str, Chosen], tuned: Chosen) -> list[dict[str, Any]]:
    return [
        {
            "source": question.source,
            "question": question.asked[-1].content,
            "expected": question.choices[question.right],
            "base": {name: _choice(question, one, number) for name, one in base.items()},
            "tuned": _choice(question, tuned, number),
        }
        for number, question in enumerate(questions)
    ]


def _choice(question: ChoiceQuestion, chosen: Chosen, number: int) -> dict[str, str]:
    return {
        "by_nats": question.choices[chosen.by_nats[number]],
        "by_nats_per_byte": question.choices[chosen.by_nats_per_byte[number]],
    }


def _prompt_formats(base: Model, tuned: Model, calculator: bool) -> list[tuple[PreTrainedModel, PromptFormat]]:
    """Every way in which the base is asked, then that of the tuned model."""
    of_base = base_prompt_formats(base[1], calculator=calculator, generation_config=base[0].generation_config)
    chat = choose_format(tuned[1], calculator=calculator, generation_config=tuned[0].generation_config)
    return [*((base[0], prompt_format) for prompt_format in of_base.values()), (tuned[0], ChatPromptFormat(chat))]
