"""The comparison: figures of the very replies, the base at its best, and a table and record that say the same."""

import json
import math
from dataclasses import replace

import pytest

from finetune.conversations.formats import Conversation, Message
from finetune.conversations.questions import ChoiceQuestion
from finetune.evaluation.figures import LEGEND, compare_choices, compare_replies, to_record, to_table
from finetune.evaluation.intervals import share_difference, wilson_interval
from finetune.evaluation.multiple_choice import Chosen
from finetune.evaluation.scoring import Answered, Evaluation, Scores
from finetune.replies.asked_model import Costs

REPEATING = "to be or not to be or not to be or not"


def _evaluate(replies, stopped, nats):
    conversations = [
        Conversation((Message("user", f"{n}+1?"), Message("assistant", "x")), f"a:{n}", None if n == 3 else str(n + 1))
        for n in range(len(replies))
    ]
    answered = [Answered(*one) for one in zip(conversations, replies, stopped, strict=True)]
    bits = sum(nats) / math.log(2) / (10 * len(nats))
    shares = {"exact_match": 0, "answer_contained": 0, "stop_rate": 0, "repetition_rate": 0}
    scores = Scores(bits_per_byte=bits, **shares, conversations=4, checkable=3)
    return Evaluation(scores, answered, Costs(nats=nats, text_bytes=[10] * len(nats)))


BASE = {
    "question": _evaluate(["1", "It is 2.", "so 3", "4"], [True, False, False, False], [9.0] * 4),
    "bare": _evaluate(["1", "2", "no", REPEATING], [False] * 4, [12.0] * 4),
}
TUNED = _evaluate(["1", "2", "3.0", "no"], [True] * 4, [3.0, 4.0, 3.0, 4.0])


def test_figures_are_those_of_the_replies_and_the_base_takes_its_best_way_for_each():
    bits, match, contained, stops, repeats = compare_replies(BASE, {"chat": TUNED})
    assert (bits.base, bits.tuned) == pytest.approx((36 / 40 / math.log(2), 14 / 40 / math.log(2)))
    assert bits.difference == pytest.approx((14 - 36) / 40 / math.log(2))
    assert bits.difference_interval is not None and bits.difference_interval.high < 0
    assert (match.base, match.tuned, match.name) == (2 / 3, 1.0, "exact match on 3 checkable questions")
    assert (contained.base, contained.tuned, contained.questions) == (1.0, 1.0, 3)
    assert (stops.base, stops.tuned) == (0.25, 1.0)
    assert (repeats.base, repeats.tuned) == (0.0, 0.0)


def test_the_intervals_are_of_the_same_counts_and_pairs():
    match = compare_replies(BASE, {"chat": TUNED})[1]
    assert match.base_interval == wilson_interval(2, 3) and match.tuned_interval == wilson_interval(3, 3)
    assert match.difference_interval == share_difference([True, True, False], [True] * 3).interval
    assert match.p_value == 1.0


def test_answers_in_sentences_count_as_contained_with_an_interval_of_their_own():
    match, contained = compare_replies({"question": BASE["question"]}, {"chat": TUNED})[1:3]
    assert (match.base, match.base_interval) == (1 / 3, wilson_interval(1, 3))
    assert (contained.base, contained.base_interval) == (1.0, wilson_interval(3, 3))
    assert contained.difference_interval == share_difference([True] * 3, [True] * 3).interval


def _without_costs(evaluation):
    return replace(evaluation, scores=replace(evaluation.scores, bits_per_byte=None), costs=None)


@pytest.mark.parametrize("which", ["base", "tuned"])
def test_where_one_model_gives_no_likelihoods_a_dash_stands_for_its_bits_and_for_the_difference(which):
    sides = {"base": BASE, "tuned": {"chat": TUNED}}
    with_all = compare_replies(*sides.values())
    sides[which] = {name: _without_costs(one) for name, one in sides[which].items()}
    bits, *others = compare_replies(*sides.values())
    assert others == with_all[1:]
    other = "tuned" if which == "base" else "base"
    assert getattr(bits, which) is getattr(bits, f"{which}_interval") is bits.difference is bits.difference_interval
    assert getattr(bits, which) is None and getattr(bits, other) == getattr(with_all[0], other)
    assert bits.cells.count("–") == 2 and "bits per byte" in to_table("on 4 questions", [bits]).split("\n")[1]
    assert json.loads(json.dumps(to_record([bits])))[0][f"{which}_interval"] is None


def test_where_no_model_gives_likelihoods_there_are_no_bits():
    base, tuned = ({name: _without_costs(one) for name, one in side.items()} for side in (BASE, {"chat": TUNED}))
    assert compare_replies(base, tuned) == compare_replies(BASE, {"chat": TUNED})[1:]


def test_a_tuned_model_that_is_asked_in_several_formats_takes_its_best_too():
    match = compare_replies(BASE, {"question": BASE["question"], "bare": BASE["bare"]})[1]
    assert match.base == match.tuned == 2 / 3


def test_without_checkable_answers_there_is_no_figure_of_answers():
    def only_unchecked(evaluate):
        costs = Costs(nats=evaluate.costs.nats[3:], text_bytes=evaluate.costs.text_bytes[3:])
        return Evaluation(evaluate.scores, evaluate.answered[3:], costs)

    figures = compare_replies(
        {name: only_unchecked(one) for name, one in BASE.items()}, {"chat": only_unchecked(TUNED)}
    )
    assert [figure.name for figure in figures if "match" in figure.name or "answer" in figure.name] == [] and len(
        figures
    ) == 3


def test_multiple_choice_is_compared_in_both_readings():
    questions = [ChoiceQuestion((Message("user", "?"),), ("a", "b"), n % 2, f"q:{n}") for n in range(6)]
    right = [0, 1] * 3
    base = {"question": Chosen([0] * 6, right), "bare": Chosen([0] * 5 + [1], [1] * 6)}
    by_nats, per_byte = compare_choices(questions, base, {"chat": Chosen(right, [0] * 6)})
    assert (by_nats.base, by_nats.tuned) == (4 / 6, 1.0)
    assert (per_byte.base, per_byte.tuned) == (1.0, 0.5)
    assert (by_nats.questions, per_byte.difference) == (6, -0.5)


def test_the_table_writes_each_figure_with_its_interval_and_the_record_keeps_all_of_it():
    figures = compare_replies(BASE, {"chat": TUNED})
    lines = to_table("on 4 questions", figures, [("further", "1 of 2", "2 of 2")]).split("\n")
    names = ["on 4 questions", *(one.name for one in figures), "further", LEGEND]
    assert [line.split("  ")[0] for line in lines] == names
    assert "66.7% (20.8 to 93.9)" in lines[2] and "100.0% (43.9 to 100.0)" in lines[2] and "p = 1.000" in lines[2]
    assert lines[-2].split() == ["further", "1", "of", "2", "2", "of", "2"]
    record = json.loads(json.dumps(to_record(figures)))
    assert [one["tuned"] for one in record] == [one.tuned for one in figures]
    assert record[1]["base_interval"]["low"] == wilson_interval(2, 3).low
