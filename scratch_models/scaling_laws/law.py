"""The law L(N, D) = E + A / N^alpha + B / D^beta, fitted to measured losses.

Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section 3.3 and appendix D.2 (approach
3): the sum of Huber losses between the logarithms of predicted and measured loss, minimised by L-BFGS from a grid of
starts. Besiroglu et al. 2024, "Chinchilla Scaling: A replication attempt", found that the sum has to be minimised to a
small tolerance; so it is here.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configs import InputError

HUBER_DELTA = 1e-3
TOLERANCE = 1e-12
POWERS, SCALES, FLOORS = (0.0, 0.5, 1.0, 1.5), (0.0, 5.0, 10.0, 20.0), (-1.0, 0.0, 1.0)
"""Starts of the powers, of the logarithms of A and B, and of that of E."""
MOST_STARTS = 24
"""Those of the grid that fit best are gone on from; each takes a tenth of a second."""
FEWEST_POINTS = 6
"""One more than the law has numbers."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A run that was trained: its size, what it read, and what came of it."""

    parameters: int
    """N: all that train."""
    tokens: int
    """D: read in training, each as often as it was."""
    loss_nats: float
    """L: held-out, per token."""


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """The five numbers of a law."""

    floor: float
    """E: the loss of a model without limits that read without end."""
    parameter_scale: float
    """A."""
    parameter_power: float
    """alpha."""
    token_scale: float
    """B."""
    token_power: float
    """beta."""

    def predict(self, parameters: float, tokens: float) -> float:
        """The loss of a model of so many parameters after so many tokens.

        >>> law = ScalingLaw(
        ...     floor=1.69, parameter_scale=406.4, parameter_power=0.34, token_scale=410.7, token_power=0.28
        ... )
        >>> round(law.predict(70e9, 1.4e12), 2)  # Chinchilla, by the constants of its paper
        1.94
        """
        by_size = self.parameter_scale / parameters**self.parameter_power
        return self.floor + by_size + self.token_scale / tokens**self.token_power

    def describe(self) -> str:
        """The law as a formula.

        >>> ScalingLaw(floor=2, parameter_scale=3, parameter_power=0.5, token_scale=4, token_power=1).describe()
        'L(N, D) = 2.000 + 3 / N^0.500 + 4 / D^1.000'
        """
        by_size = f"{self.parameter_scale:.4g} / N^{self.parameter_power:.3f}"
        return f"L(N, D) = {self.floor:.3f} + {by_size} + {self.token_scale:.4g} / D^{self.token_power:.3f}"


def require_enough(runs: int) -> None:
    """Checks, before anything is trained, that a law can be fitted to so many runs.

    Raises:
        InputError: there are too few, or scipy is missing.

    """
    if runs < FEWEST_POINTS:
        raise InputError(f"{runs} runs, expected at least {FEWEST_POINTS}: the law has five numbers")
    try:
        import scipy.optimize  # noqa: F401
    except ImportError as missing:
        raise InputError("the fit of a scaling law needs scipy: pip install 'graft-lm[scaling]'") from missing


def fit_law(measured: Sequence[Measured]) -> ScalingLaw:
    """The law that fits the runs best, of all that the starts lead to.

    Raises:
        InputError: there are too few runs, or scipy is missing.

    """
    require_enough(len(measured))
    from scipy.optimize import minimize

    parameters, tokens, losses = (
        np.log([getattr(run, name) for run in measured]) for name in ("parameters", "tokens", "loss_nats")
    )
    starts = map(np.array, itertools.product(FLOORS, SCALES, POWERS, SCALES, POWERS))
    best = min(
        (
            minimize(
                _misfit,
                start,
                args=(parameters, tokens, losses),
                method="L-BFGS-B",
                jac=True,
                options={"ftol": TOLERANCE, "gtol": TOLERANCE, "maxiter": 2000},
            )
            for start in sorted(starts, key=lambda start: _misfit(start, parameters, tokens, losses)[0])[:MOST_STARTS]
        ),
        key=lambda found: found.fun,
    )
    floor, parameter_scale, parameter_power, token_scale, token_power = map(float, best.x)
    return ScalingLaw(
        floor=math.exp(floor),
        parameter_scale=math.exp(parameter_scale),
        parameter_power=parameter_power,
        token_scale=math.exp(token_scale),
        token_power=token_power,
    )


def _misfit(
    law: np.ndarray, parameters: np.ndarray, tokens: np.ndarray, losses: np.ndarray
) -> tuple[float, np.ndarray]:
    """The summed Huber loss of (log E, log A, alpha, log B, beta) on log N, log D and log L; and its gradient, (5)."""
    floor, parameter_scale, parameter_power, token_scale, token_power = law
    terms = np.stack(
        [
            np.full_like(losses, floor),
            parameter_scale - parameter_power * parameters,
            token_scale - token_power * tokens,
        ]
    )  # (3, M)
    largest = terms.max(axis=0)
    predicted = largest + np.log(np.exp(terms - largest).sum(axis=0))  # (M)
    shares = np.exp(terms - predicted)  # (3, M): how much of the prediction is each term's
    differences = predicted - losses
    small = np.abs(differences) <= HUBER_DELTA
    huber = np.where(small, differences**2 / 2, HUBER_DELTA * (np.abs(differences) - HUBER_DELTA / 2))
    slopes = shares * np.clip(differences, -HUBER_DELTA, HUBER_DELTA)  # (3, M)
    gradient = [slopes[0], slopes[1], -slopes[1] * parameters, slopes[2], -slopes[2] * tokens]
    # In units in which a tolerance means what it says: a misfit of delta at one point costs about 1.
    return float(huber.sum()) / HUBER_DELTA**2, np.array([part.sum() for part in gradient]) / HUBER_DELTA**2
