"""What replies would take follows from short ones; memory is the most that the process has held."""

import time
from pathlib import Path

import pytest

from finetune.supervised import estimate
from finetune.supervised.estimate import Asking, estimate_asking, evaluations_of, peak_memory_bytes
from scratch_models.loop.loop_settings import LoopSettings

STATUS = Path("/proc/self/status")


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves itself."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(("tokens", "times"), [(96, 3.5), (2, 1), (1, 2)])
def test_replies_take_what_goes_before_the_first_token_and_so_much_for_each(clock, tokens, times):
    def ask(tokens):
        clock[0] += 5.0 + 0.25 * tokens

    expected = times * (5.0 + 0.25 * max(tokens, estimate.FEW_TOKENS))
    assert estimate_asking(Asking(ask, times, tokens)) == pytest.approx(expected)


def test_a_disturbance_of_one_measurement_is_left_out(clock):
    disturbed = iter([1.9, 0.0, 30.0, 30.0, 0.0])  # the first of the five warms up

    def ask(tokens):
        clock[0] += 0.1 + 0.05 * tokens + next(disturbed)

    assert estimate_asking(Asking(ask, 1, 10)) == pytest.approx(0.6)


def test_what_is_slow_is_asked_twice_and_no_more(clock):
    asked = []

    def ask(tokens):
        asked.append(tokens)
        clock[0] += 20.0 + tokens

    assert estimate_asking(Asking(ask, 1, 10)) == pytest.approx(30.0)
    assert asked == [estimate.FEW_TOKENS, estimate.MORE_TOKENS]


@pytest.mark.parametrize(("steps", "every", "number"), [(320, 100, 4), (300, 100, 3), (5, 100, 1), (320, 0, 1)])
def test_evaluations_are_counted_as_the_loop_makes_them(steps, every, number):
    assert evaluations_of(LoopSettings(max_steps=steps, learning_rate=1e-3, evaluation_steps=every)) == number


@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone tells it there")
def test_the_peak_is_that_of_the_operating_system():
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    assert peak_memory_bytes() == pytest.approx(int(line.split()[1]) * 1024, rel=0.02)
