"""Intervals and tests: the worked examples of the papers, scipy where it is there, and how often they hold."""

import pytest
import torch

from finetune.evaluation.intervals import mcnemar_p, ratio_difference, ratio_interval, share_difference, wilson_interval


def _pairs(both, only_first, only_second, neither):
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_that_of_newcombes_table(successes, trials, low, high):
    interval = wilson_interval(successes, trials)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_the_interval_of_a_share_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    for trials in (1, 2, 7, 50, 1319):
        for successes in {0, 1, trials // 3, trials - 1, trials}:
            theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
            ours = wilson_interval(successes, trials)
            assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(
    ("pairs", "low", "high"),
    [
        # Newcombe 1998, paired data, table II (a); and Fagerland, Lydersen & Laake 2014, of Bentur et al. 2009.
        ((36, 2, 12, 0), 0.0569, 0.3404),
        ((1, 7, 1, 12), -0.507, -0.026),
    ],
)
def test_the_interval_of_a_paired_difference_is_that_of_the_published_examples(pairs, low, high):
    difference = share_difference(*_pairs(*pairs))
    digits = len(str(low).partition(".")[2])
    assert (round(difference.interval.low, digits), round(difference.interval.high, digits)) == (low, high)


def test_swapping_the_two_models_turns_the_difference_round():
    there, back = share_difference(*_pairs(20, 3, 11, 16)), share_difference(*_pairs(20, 11, 3, 16))
    assert there.value == -back.value
    assert (there.interval.low, there.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))


def test_an_interval_keeps_its_width_where_both_are_always_right_or_never():
    for pairs in ((30, 0, 0, 0), (0, 0, 0, 30)):
        interval = share_difference(*_pairs(*pairs)).interval
        assert interval.low < -0.05 and interval.high > 0.05


def test_the_published_example_of_mcnemars_exact_test():
    # Fagerland, Lydersen & Laake 2013, table 2: 1 + 7 discordant patients, exact conditional p = 0.070.
    assert round(mcnemar_p(*_pairs(1, 7, 1, 12)), 3) == 0.070


def test_mcnemars_test_is_scipys_binomial_test_of_the_discordant_questions():
    stats = pytest.importorskip("scipy.stats")
    for only_first, only_second in [(1, 0), (5, 5), (3, 12), (40, 90), (0, 1000)]:
        theirs = stats.binomtest(only_first, only_first + only_second, 0.5).pvalue
        assert mcnemar_p(*_pairs(9, only_first, only_second, 4)) == pytest.approx(theirs, rel=1e-9)
    assert mcnemar_p(*_pairs(9, 0, 0, 4)) == 1.0


def test_the_bootstrap_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(1)
    first, noise, weights = torch.rand(3, 150, dtype=torch.float64, generator=generator) + 0.5
    second = 0.8 * first + 0.2 * noise
    ours = ratio_difference(first.tolist(), second.tolist(), weights.tolist(), weights.tolist())

    def difference(a, b, w, axis):
        return (b.sum(axis) - a.sum(axis)) / w.sum(axis)

    data = (first.numpy(), second.numpy(), weights.numpy())
    theirs = stats.bootstrap(data, difference, paired=True, n_resamples=4000, method="percentile", rng=0)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.value == pytest.approx(((second - first).sum() / weights.sum()).item())
    for ends in zip(vars(ours.interval).values(), theirs.confidence_interval, strict=True):
        assert abs(ends[0] - ends[1]) < 0.1 * width


def test_the_interval_of_one_ratio_is_that_of_its_difference_from_nothing():
    values, weights = [0.1 * n % 1 for n in range(40)], [1.0 + n % 3 for n in range(40)]
    alone = ratio_interval(values, weights)
    assert alone == ratio_difference([0.0] * 40, values, weights, weights).interval
    assert alone.low < sum(values) / sum(weights) < alone.high


def test_a_paired_difference_is_far_surer_than_the_two_figures_by_themselves():
    costs = torch.rand(100, generator=torch.Generator().manual_seed(0)).tolist()
    lower = [0.9 * cost for cost in costs]
    paired = ratio_difference(costs, lower, [1.0] * 100, [1.0] * 100)
    apart = ratio_difference(costs, lower[::-1], [1.0] * 100, [1.0] * 100)
    assert paired.value == pytest.approx(apart.value)
    assert paired.interval.high < 0 < apart.interval.high


def test_the_same_questions_give_the_same_interval_every_time():
    numbers = [0.1 * n % 1 for n in range(40)], [0.3 * n % 1 for n in range(40)], [1.0] * 40, [2.0] * 40
    assert ratio_difference(*numbers) == ratio_difference(*numbers)


def test_95_of_100_intervals_hold_the_true_difference():
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(400):
        first, second = (torch.rand(2, 60, generator=generator) < torch.tensor([[0.3], [0.5]])).tolist()
        interval = share_difference(first, second).interval
        held += interval.low <= 0.2 <= interval.high
    assert 0.925 <= held / 400 <= 0.985
