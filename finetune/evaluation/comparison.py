"""Two models measured over the questions of a file: figures, the questions behind them, and how to say it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.conversations.formats import Conversation
from finetune.conversations.questions import ChoiceQuestion
from finetune.evaluation.best_of import Taken, take_best
from finetune.evaluation.draw import Draw
from finetune.evaluation.figures import MISSING, Figure, compare_choices, compare_replies, to_record, to_table
from finetune.evaluation.multiple_choice import Chosen, choose, choose_fitting
from finetune.evaluation.questions_asked import choose_askable
from finetune.evaluation.scoring import Answered, Evaluation, best_scores, score
from finetune.evaluation.tables import calculation_rows
from finetune.replies.asked_model import AskedModel
from finetune.replies.local_model import LocalModel
from finetune.replies.side import Side, asked_over_data
from finetune.replies.side_settings import FormatChoice
from tokenizer_ext.pages.progress import progress

Ways = Mapping[str, AskedModel]
"""A model in each prompt format in which it is asked, by the format's name."""


@dataclass(frozen=True)
class Asking:
    """How the questions are asked."""

    questions: int
    """At most so many of them, spread evenly."""
    reply_tokens: int
    draw: Draw = Draw()  # noqa: RUF009 - it is frozen
    """How each reply comes about; the likeliest token every time, unless it is the best of several."""


@dataclass(frozen=True)
class Measured:
    """Figures over one kind of question, with what they were taken from."""

    kind: str
    figures: list[Figure]
    questions: list[dict[str, Any]]
    text: str
    cost: dict[str, Any] = field(default_factory=dict)
    """What the replies of each model cost, where they are the best of several."""

    def to_record(self) -> dict[str, Any]:
        """All but the text, for JSON."""
        record: dict[str, Any] = {"figures": to_record(self.figures), "questions": self.questions}
        return record | ({"cost": self.cost} if self.cost else {})


def measure_sides(
    base: tuple[Side, FormatChoice],
    tuned: tuple[Side, FormatChoice],
    conversations: list[Conversation],
    choices: list[ChoiceQuestion],
    asking: Asking,
    *,
    calculator: bool,
) -> list[Measured]:
    """What each kind of question comes to, asked of both sides in the formats that are chosen for them."""
    found = []
    if conversations:
        of_base, of_tuned = (asked_over_data(*one, calculator=calculator) for one in (base, tuned))
        found.append(measure_replies(of_base, of_tuned, conversations, asking))
    if choices:  # a calculator has nothing to do where nothing is generated
        of_base, of_tuned = (asked_over_data(*one) for one in (base, tuned))
        found.append(measure_choices(of_base, of_tuned, choices, asking))
    return found


def measure_replies(base: Ways, tuned: Ways, conversations: list[Conversation], asking: Asking) -> Measured:
    """The figures over the conversations that can be asked of both models, with the number of those left out."""
    asked = choose_askable(conversations, asking.questions, [*base.values(), *tuned.values()])
    sides = {"base": base, "tuned": tuned}
    models = {_label(which, name): one for which, ways in sides.items() for name, one in ways.items()}
    taken = take_best(models, asked, asking.reply_tokens, asking.draw)
    of_base, of_tuned = (
        {name: _evaluate(_label(which, name), one, taken[_label(which, name)]) for name, one in ways.items()}
        for which, ways in sides.items()
    )
    figures = compare_replies(of_base, of_tuned)
    best = [best_scores([one.scores for one in side.values()]) for side in (of_base, of_tuned)]
    left_out = min(asking.questions, len(conversations)) - len(asked)
    text = (
        f"{to_table(f'on {len(asked)} questions', figures, calculation_rows(*best))}\n"
        f"asked {len(asked)} of {len(conversations)} conversations, spread evenly; "
        f"{left_out} left out as too long for the models or without a question"
    )
    if any(scores.bits_per_byte is None for scores in best):
        text += f"\n{MISSING if figures[0].difference is None else 'no bits per byte'}: a server gives no likelihoods"
    questions, costs = _list_replies(of_base, of_tuned), dict[str, Any]()
    if asking.draw.replies > 1:
        text += "".join(f"\n{label}: {one.describe()}" for label, one in taken.items())
        costs = {label: one.to_record() for label, one in taken.items()}
        for number, question in enumerate(questions):
            for which, ways in sides.items():
                for name in ways:
                    question[which][name] |= taken[_label(which, name)].drawn[number].to_record(asking.draw.by)
    return Measured("replies", figures, questions, text, costs)


def measure_choices(base: Ways, tuned: Ways, choices: list[ChoiceQuestion], asking: Asking) -> Measured:
    """The figures over the multiple-choice questions that fit both models, with the number of those left out.

    Both have to be on this machine: a server gives no likelihood of a choice.
    """
    local = _local(base), _local(tuned)
    models = [(one.model, one.prompt_format) for side in local for one in side.values()]
    asked = choose_fitting(choices, asking.questions, models)
    of_base, of_tuned = ({name: _choose(one, asked) for name, one in side.items()} for side in local)
    figures = compare_choices(asked, of_base, of_tuned)
    guessed = sum(1 / len(question.choices) for question in asked) / len(asked)
    left_out = min(asking.questions, len(choices)) - len(asked)
    text = (
        f"{to_table(f'on {len(asked)} multiple-choice questions', figures)}\n"
        f"asked {len(asked)} of {len(choices)} multiple-choice questions, spread evenly; {left_out} left out as too "
        f"long for the models; guessing gets {guessed:.1%}"
    )
    return Measured("multiple_choice", figures, _list_choices(asked, of_base, of_tuned), text)


def _label(which: str, prompt_format: str) -> str:
    return f"{which}, {prompt_format}"


def _evaluate(label: str, model: AskedModel, taken: Taken) -> Evaluation:
    """The figures of the replies that were taken, and of the known ones."""
    answered = taken.answered
    with progress(label):
        return score(answered, model.costs([one.conversation for one in answered]))


def _local(ways: Ways) -> dict[str, LocalModel]:
    local = {name: one for name, one in ways.items() if isinstance(one, LocalModel)}
    assert len(local) == len(ways), "a server gives no likelihood of a choice"
    return local


def _choose(model: LocalModel, questions: Sequence[ChoiceQuestion]) -> Chosen:
    with model.as_asked():
        return choose(model.model, model.prompt_format, questions)


def _list_replies(base: Mapping[str, Evaluation], tuned: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    first = next(iter(base.values())).answered
    return [
        {
            "source": one.conversation.source,
            "question": one.question,
            "expected": one.conversation.answer or one.expected,
            "base": {name: _reply(asked.answered[number]) for name, asked in base.items()},
            "tuned": {name: _reply(asked.answered[number]) for name, asked in tuned.items()},
        }
        for number, one in enumerate(first)
    ]


def _reply(answered: Answered) -> dict[str, Any]:
    return {
        "reply": answered.reply,
        "is_right": answered.is_right,
        "contains_answer": answered.contains_answer,
        "stopped": answered.stopped,
    }


def _list_choices(
    questions: Sequence[ChoiceQuestion], base: Mapping[str, Chosen], tuned: Mapping[str, Chosen]
) -> list[dict[str, Any]]:
    return [
        {
            "source": question.source,
            "question": question.asked[-1].content,
            "expected": question.choices[question.right],
            "base": {name: _choice(question, one, number) for name, one in base.items()},
            "tuned": {name: _choice(question, one, number) for name, one in tuned.items()},
        }
        for number, question in enumerate(questions)
    ]


def _choice(question: ChoiceQuestion, chosen: Chosen, number: int) -> dict[str, str]:
    return {
        "by_nats": question.choices[chosen.by_nats[number]],
        "by_nats_per_byte": question.choices[chosen.by_nats_per_byte[number]],
    }
