"""How many are asked follows from the time alone; which ones, and what they are answered, does not."""

from itertools import pairwise

import pytest

from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.questions_asked import (
    FEWEST_QUESTIONS,
    ask_base_questions,
    ask_in_time,
    asked_questions,
    spread,
    spread_order,
)
from finetune.evaluation.scoring import evaluate, plain_prompt_formats
from tests.finetune.tiny_models import questions
from tests.finetune.trained_runs import base_model, base_tokenizer

ASKED = [
    Conversation((Message("user", asked), Message("assistant", said)), source=str(number), answer=said)
    for number, (asked, said) in enumerate(questions(50))
]


@pytest.fixture(scope="module")
def model():
    return base_model("gpt2", base_tokenizer(), tied=True)


@pytest.fixture(scope="module")
def ways():
    return plain_prompt_formats(base_tokenizer())


class _Clock:
    """A clock that runs on by so many seconds whenever it is looked at."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.mark.parametrize("number", [1, 2, 3, 20, 37, 64, 100])
def test_every_beginning_of_the_order_is_spread_over_all_and_a_part_of_any_longer_one(number):
    order = spread_order(number)
    assert sorted(order) == list(range(number))
    for size in range(1, number + 1):
        taken = sorted(order[:size])
        assert spread(range(number), size) == taken
        ends = [-1, *taken, number]
        assert max(after - before for before, after in pairwise(ends)) <= 4 * number / size + 1


@pytest.mark.parametrize(("seconds", "number"), [(0.0, 20), (8.0, 20), (1e6, 50)])
def test_as_many_are_asked_as_fit_and_never_fewer_than_the_least(seconds, number, model, ways):
    found = ask_in_time(model, ways, ASKED, 2, seconds, clock=_Clock(4.0))
    expected = spread(ASKED, number)
    assert FEWEST_QUESTIONS == 20 and [[one.conversation for one in way.answered] for way in found.values()] == [
        expected
    ] * len(ways)


def test_asked_in_batches_the_figures_are_those_of_all_at_once(model, ways):
    name, way = next(iter(ways.items()))
    found, known = ask_in_time(model, {name: way}, ASKED, 4, 1e6)[name], evaluate(model, way, ASKED, 4)
    assert found.costs and known.costs and found.costs.text_bytes == known.costs.text_bytes
    assert found.answered == known.answered
    assert found.costs.nats == pytest.approx(known.costs.nats, rel=1e-5)
    assert found.scores.conversations == 50 and found.scores.exact_match == known.scores.exact_match


def test_a_number_that_is_given_or_was_recorded_is_asked_whatever_the_time(model, ways, capsys):
    asked = ask_base_questions(model, ways, ASKED, 2, number_given=True, minutes=1e-9)
    assert asked_questions(asked) == ASKED
    asked = ask_base_questions(model, ways, ASKED, 2, number_given=False, minutes=1e9, recorded=7)
    assert asked_questions(asked) == spread(ASKED, 7)
    assert capsys.readouterr().out == ""
    asked = ask_base_questions(model, ways, ASKED, 2, number_given=False, minutes=1e-9)
    assert len(asked_questions(asked)) == 20 and "Asked 20 of 50 questions" in capsys.readouterr().out
