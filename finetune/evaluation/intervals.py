"""How sure a comparison is: intervals for a share, for the difference of two shares, and for a difference of costs.

Base and assistant answer the same questions, so their difference is taken question by question: what is hard for both
says nothing about it. All intervals are at 95 %. They are written out here, since scipy is none of our dependencies.

Shapes: N questions, R resamples of them, K kinds of numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)
RESAMPLED_AT_ONCE, DRAWS = 100, 20


@dataclass(frozen=True)
class Interval:
    """From the lowest to the highest value that the data agree with."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The second minus the first, with its interval."""

    value: float
    interval: Interval


def wilson_interval(successes: float, trials: int) -> Interval:
    """The score interval of a share (Wilson 1927; Newcombe 1998, "Two-sided confidence intervals", method 3).

    Ties that count as half a success make it wider than it need be, never narrower: a half varies less than a whole.

    >>> share = wilson_interval(81, 263)
    >>> round(share.low, 4), round(share.high, 4)
    (0.2553, 0.3662)
    """
    share, squared = successes / trials, NORMAL_QUANTILE**2
    centre = 2 * successes + squared
    half = NORMAL_QUANTILE * math.sqrt(squared + 4 * successes * (1 - share))
    low, high = (centre - half) / (2 * (trials + squared)), (centre + half) / (2 * (trials + squared))
    # Rounding must not push an end past a share of none or all.
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == trials else high)


def share_difference(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """How much larger the share of the second is, with the score interval for paired shares.

    The interval is method 10 of Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data". Unlike a bootstrap it keeps its width where the two hardly ever differ.
    """
    both, only_first, only_second, neither = _count_pairs(first, second)
    trials = len(first)
    p1, p2 = (both + only_second) / trials, (both + only_first) / trials
    of_second, of_first = wilson_interval(both + only_second, trials), wilson_interval(both + only_first, trials)
    phi = _correlation(both, only_second, only_first, neither)
    below = _joined(p1 - of_second.low, of_first.high - p2, phi)
    above = _joined(of_second.high - p1, p2 - of_first.low, phi)
    return Difference(p1 - p2, Interval(p1 - p2 - below, p1 - p2 + above))


def mcnemar_p(first: Sequence[bool], second: Sequence[bool]) -> float:
    """The chance of so uneven a split of the questions that only one of the two gets right, were both equally good.

    The exact test of McNemar 1947: two-sided and binomial.

    >>> mcnemar_p([True] * 5 + [False] * 5, [False] * 5 + [False] * 5)
    0.0625
    """
    _, only_first, only_second, _ = _count_pairs(first, second)
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(discordant, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**discordant))


def ratio_difference(
    first: Sequence[float], second: Sequence[float], first_weights: Sequence[float], second_weights: Sequence[float]
) -> Difference:
    """How much larger the second's sum over its weights is, with the interval of the paired bootstrap.

    Args:
        first: One number a question, as the nats of its known reply.
        second: The same of the second model, in the same order.
        first_weights: What the first's sum is divided by, as the bytes of the replies.
        second_weights: The same of the second.

    """
    sums = _resampled_sums(first, first_weights, second, second_weights)  # (4, R)
    drawn = sums[2] / sums[3] - sums[0] / sums[1]  # (R)
    return Difference(sum(second) / sum(second_weights) - sum(first) / sum(first_weights), _middle(drawn))


def ratio_interval(values: Sequence[float], weights: Sequence[float]) -> Interval:
    """The interval of a sum over its weights, as of bits per byte, by the bootstrap over questions."""
    sums = _resampled_sums(values, weights)  # (2, R)
    return _middle(sums[0] / sums[1])


def _resampled_sums(*numbers: Sequence[float]) -> Tensor:
    """The sums over the same drawn questions of each kind of number, (K, R); the draws are the same every time."""
    parts = torch.tensor(numbers, dtype=torch.float64)  # (K, N)
    questions = parts.shape[1]
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randint(questions, (RESAMPLED_AT_ONCE, questions), generator=generator) for _ in range(DRAWS)]
    return torch.cat([parts[:, chosen].sum(dim=-1) for chosen in draws], dim=1)


def _middle(drawn: Tensor) -> Interval:
    """What the middle 95 % of the resampled values span."""
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(low, high)


def _count_pairs(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, int, int]:
    """On how many questions both are right, the first alone, the second alone, neither."""
    pairs = list(zip(first, second, strict=True))
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    only_first = pairs.count((True, False))
    return both, only_first, len(pairs) - both - neither - only_first, neither


def _correlation(both: int, only_one: int, only_other: int, neither: int) -> float:
    """The phi coefficient, with the continuity correction of the method where it is positive."""
    scale = (both + only_one) * (only_other + neither) * (both + only_other) * (only_one + neither)
    if scale == 0:
        return 0.0
    excess = both * neither - only_one * only_other
    corrected = max(excess - (both + only_one + only_other + neither) / 2, 0) if excess > 0 else excess
    return corrected / math.sqrt(scale)


def _joined(own: float, others: float, phi: float) -> float:
    return math.sqrt(max(own**2 - 2 * phi * own * others + others**2, 0.0))
