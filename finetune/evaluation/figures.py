"""Base against assistant on the same questions: each figure with how sure it is, as a table and as a record.

A share has the score interval beside it, and the difference of two shares its own and the chance of so large a one were
both equally good. Of the ways to ask the base each figure takes the one that suits it best; where there
are several, that makes the base look a little better than it is, never the assistant.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.conversations.questions import ChoiceQuestion
from finetune.evaluation.intervals import (
    Difference,
    Interval,
    mcnemar_p,
    ratio_difference,
    ratio_interval,
    share_difference,
    wilson_interval,
)
from finetune.evaluation.multiple_choice import Chosen
from finetune.evaluation.reply_checks import repeats_itself
from finetune.evaluation.scoring import Evaluation
from finetune.evaluation.tables import CONTAINED


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of both models."""

    name: str
    base: float
    tuned: float
    difference: float
    """Tuned minus base."""
    base_interval: Interval
    tuned_interval: Interval
    difference_interval: Interval
    questions: int
    p_value: float | None = None
    """Of McNemar's exact test, for shares."""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, base, tuned and difference, written out."""
        write = _write_share if self.p_value is not None else _write_cost
        difference = Difference(self.difference, self.difference_interval)
        return (
            self.name,
            write(self.base, self.base_interval),
            write(self.tuned, self.tuned_interval),
            _write_difference(difference, self.p_value),
        )


def compare_replies(base: Mapping[str, Evaluation], tuned: Evaluation) -> list[Figure]:
    """The figures of known replies and of the models' own."""
    prompt_formats = list(base.values())
    checkable = [number for number, one in enumerate(tuned.answered) if one.is_right is not None]
    figures = [_compare_costs(min(prompt_formats, key=lambda one: one.scores.bits_per_byte), tuned)]
    if checkable:
        for name, check in (
            (f"exact match on {len(checkable)} checkable questions", "is_right"),
            (CONTAINED, "contains_answer"),
        ):
            found = [
                [bool(getattr(prompt_format.answered[number], check)) for number in checkable]
                for prompt_format in (*prompt_formats, tuned)
            ]
            figures.append(_compare_shares(name, max(found[:-1], key=sum), found[-1]))
    stopped = [[one.stopped for one in prompt_format.answered] for prompt_format in (*prompt_formats, tuned)]
    figures.append(_compare_shares("replies that end by themselves", max(stopped[:-1], key=sum), stopped[-1]))
    repeated = [
        [repeats_itself(one.reply) for one in prompt_format.answered] for prompt_format in (*prompt_formats, tuned)
    ]
    figures.append(_compare_shares("replies that repeat themselves", min(repeated[:-1], key=sum), repeated[-1]))
    return figures


def compare_choices(questions: Sequence[ChoiceQuestion], base: Mapping[str, Chosen], tuned: Chosen) -> list[Figure]:
    """Multiple choice in both readings."""
    figures = []
    for name, reading in (("right by nats", "by_nats"), ("right by nats per byte", "by_nats_per_byte")):
        rights = [
            [place == question.right for place, question in zip(getattr(one, reading), questions, strict=True)]
            for one in (*base.values(), tuned)
        ]
        figures.append(_compare_shares(name, max(rights[:-1], key=sum), rights[-1]))
    return figures


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


def _compare_costs(base: Evaluation, tuned: Evaluation) -> Figure:
    base_bits, tuned_bits = _bits(base.reply_nats), _bits(tuned.reply_nats)
    bits = ratio_difference(base_bits, tuned_bits, base.reply_bytes, tuned.reply_bytes)
    return Figure(
        name="bits per byte, lower is better",
        base=base.scores.bits_per_byte,
        tuned=tuned.scores.bits_per_byte,
        difference=bits.value,
        base_interval=ratio_interval(base_bits, base.reply_bytes),
        tuned_interval=ratio_interval(tuned_bits, tuned.reply_bytes),
        difference_interval=bits.interval,
        questions=len(tuned.answered),
    )


def _compare_shares(name: str, base: Sequence[bool], tuned: Sequence[bool]) -> Figure:
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


def _bits(nats: Sequence[float]) -> list[float]:
    return [one / math.log(2) for one in nats]


def _write_cost(cost: float, interval: Interval) -> str:
    return f"{cost:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _write_share(share: float, interval: Interval) -> str:
    return f"{share:.1%} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _write_difference(difference: Difference, p_value: float | None) -> str:
    low, high = difference.interval.low, difference.interval.high
    if p_value is None:
        return f"{difference.value:+.3f} ({low:+.3f} to {high:+.3f})"
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f"{100 * difference.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), {chance}"
