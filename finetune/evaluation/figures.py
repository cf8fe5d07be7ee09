"""Two models on the same questions: each figure with how sure it is, as a table and as a record.

A share has the score interval beside it, and the difference of two shares its own and the chance of so large a one were
both equally good. Of the prompt formats in which a model is asked each figure takes the one that suits it best; where
there are several, as for a base in plain text, that makes the model look a little better than it is. A model that
gives no likelihoods, as on a server, has no bits per byte: a dash stands in their place, and there is no difference.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from finetune.conversations.questions import ChoiceQuestion
from finetune.evaluation.intervals import (
    Interval,
    mcnemar_p,
    ratio_difference,
    ratio_interval,
    share_difference,
    wilson_interval,
)
from finetune.evaluation.multiple_choice import Chosen
from finetune.evaluation.reply_checks import repeats_itself
from finetune.evaluation.scoring import Answered, Evaluation, bits_of
from finetune.evaluation.tables import CONTAINED
from finetune.replies.asked_model import Costs


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of both models."""

    name: str
    base: float | None
    """None where the model does not give it."""
    tuned: float | None
    difference: float | None
    """Tuned minus base; None where one of them is missing."""
    base_interval: Interval | None
    tuned_interval: Interval | None
    difference_interval: Interval | None
    questions: int
    p_value: float | None = None
    """Of McNemar's exact test, for shares."""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, base, tuned and difference, written out."""
        write = _write_share if self.p_value is not None else _write_cost
        return (
            self.name,
            write(self.base, self.base_interval),
            write(self.tuned, self.tuned_interval),
            _write_difference(self.difference, self.difference_interval, self.p_value),
        )


Asked = Mapping[str, Evaluation]
"""A model in every prompt format in which it was asked."""


def compare_replies(base: Asked, tuned: Asked) -> list[Figure]:
    """The figures of known replies, where a model gives their likelihood, and of the models' own."""
    both = list(base.values()), list(tuned.values())
    conversations = [one.conversation for one in both[0][0].answered]
    checkable = [number for number, one in enumerate(conversations) if one.answer is not None]
    every = range(len(conversations))
    figures = [] if (costs := _compare_costs(*both, len(conversations))) is None else [costs]
    if checkable:
        name = f"exact match on {len(checkable)} checkable questions"
        figures.append(compare_shares(name, *(_most(side, checkable, attrgetter("is_right")) for side in both)))
        contained = (_most(side, checkable, attrgetter("contains_answer")) for side in both)
        figures.append(compare_shares(CONTAINED, *contained))
    stopped = (_most(side, every, attrgetter("stopped")) for side in both)
    figures.append(compare_shares("replies that end by themselves", *stopped))
    repeated = (_fewest(side, every, lambda one: repeats_itself(one.reply)) for side in both)
    figures.append(compare_shares("replies that repeat themselves", *repeated))
    return figures


def compare_choices(
    questions: Sequence[ChoiceQuestion], base: Mapping[str, Chosen], tuned: Mapping[str, Chosen]
) -> list[Figure]:
    """Multiple choice in both readings."""
    figures = []
    for name, reading in (("right by nats", "by_nats"), ("right by nats per byte", "by_nats_per_byte")):
        rights = [
            max(
                (
                    [place == question.right for place, question in zip(getattr(one, reading), questions, strict=True)]
                    for one in side.values()
                ),
                key=sum,
            )
            for side in (base, tuned)
        ]
        figures.append(compare_shares(name, *rights))
    return figures


MISSING = "–"
LEGEND = "in brackets: 95 % intervals; differences of shares in points; p: McNemar's exact test"


def to_table(title: str, figures: Sequence[Figure], further: Sequence[tuple[str, str, str]] = ()) -> str:
    """The table for the terminal, with what its brackets mean; `further` rows have no difference."""
    header = (title, "base", "tuned", "tuned - base")
    rows = [header, *(figure.cells for figure in figures), *((*row, "") for row in further)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:<{widths[3]}}".rstrip()
        for row in rows
    ]
    return "\n".join([*lines, LEGEND])


def to_record(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as JSON keeps them."""
    return [dataclasses.asdict(figure) for figure in figures]


def _compare_costs(base: Sequence[Evaluation], tuned: Sequence[Evaluation], questions: int) -> Figure | None:
    """Bits per byte, each model in the prompt format with the fewest; None where neither gives them."""
    first, second = (min(side, key=bits_of) for side in (base, tuned))
    if first.costs is None and second.costs is None:
        return None
    difference = None
    if first.costs and second.costs:
        weights = first.costs.text_bytes, second.costs.text_bytes
        difference = ratio_difference(_bits(first.costs), _bits(second.costs), *weights)
    return Figure(
        name="bits per byte, lower is better",
        base=first.scores.bits_per_byte,
        tuned=second.scores.bits_per_byte,
        difference=difference.value if difference else None,
        base_interval=ratio_interval(_bits(first.costs), first.costs.text_bytes) if first.costs else None,
        tuned_interval=ratio_interval(_bits(second.costs), second.costs.text_bytes) if second.costs else None,
        difference_interval=difference.interval if difference else None,
        questions=questions,
    )


def _bits(costs: Costs) -> list[float]:
    return [nats / math.log(2) for nats in costs.nats]


def _most(side: Sequence[Evaluation], numbers: Sequence[int], holds: Callable[[Answered], object]) -> list[bool]:
    """Of which questions something holds, in the prompt format where it does most often."""
    return max(_each(side, numbers, holds), key=sum)


def _fewest(side: Sequence[Evaluation], numbers: Sequence[int], holds: Callable[[Answered], object]) -> list[bool]:
    return min(_each(side, numbers, holds), key=sum)


def _each(side: Sequence[Evaluation], numbers: Sequence[int], holds: Callable[[Answered], object]) -> list[list[bool]]:
    return [[bool(holds(one.answered[number])) for number in numbers] for one in side]


def compare_shares(name: str, base: Sequence[bool], tuned: Sequence[bool]) -> Figure:
    """How often something holds of each of two models, on the same questions."""
    difference = share_difference(base, tuned)
    return Figure(
        name=name,
        base=sum(base) / len(base),
        tuned=sum(tuned) / len(tuned),
        difference=difference.value,
        difference_interval=difference.interval,
        base_interval=wilson_interval(sum(base), len(base)),
        tuned_interval=wilson_interval(sum(tuned), len(tuned)),
        questions=len(tuned),
        p_value=mcnemar_p(base, tuned),
    )


def _write_cost(cost: float | None, interval: Interval | None) -> str:
    if cost is None or interval is None:
        return MISSING
    return f"{cost:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _write_share(share: float | None, interval: Interval | None) -> str:
    if share is None or interval is None:
        return MISSING
    return f"{share:.1%} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _write_difference(difference: float | None, interval: Interval | None, p_value: float | None) -> str:
    if difference is None or interval is None:
        return MISSING
    if p_value is None:
        return f"{difference:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f"{100 * difference:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f}), {chance}"
