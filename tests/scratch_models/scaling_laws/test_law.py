"""The fit of a scaling law finds the law that made its points."""

import math
import random
import sys

import numpy as np
import pytest
from scipy.optimize import check_grad

from configs import InputError
from scratch_models.scaling_laws.law import FEWEST_POINTS, Measured, ScalingLaw, _misfit, fit_law

CHINCHILLA = ScalingLaw(
    floor=1.69, parameter_scale=406.4, parameter_power=0.34, token_scale=410.7, token_power=0.28
)  # Hoffmann et al. 2022, equation 10
SMALL = ScalingLaw(floor=1.2, parameter_scale=15.0, parameter_power=0.31, token_scale=250.0, token_power=0.48)


def grid_of(law: ScalingLaw, noise: float = 0.0) -> list[Measured]:
    sizes, counts = ((4e7, 1e10), (1e9, 3e11)) if law is CHINCHILLA else ((2e4, 4e5), (1e5, 2e6))
    generator = random.Random(0)
    return [
        Measured(
            parameters=int(parameters),
            tokens=int(tokens),
            loss_nats=law.predict(int(parameters), int(tokens)) * math.exp(generator.gauss(0, noise)),
        )
        for parameters in np.geomspace(*sizes, 5)
        for tokens in np.geomspace(*counts, 5)
    ]


@pytest.mark.parametrize("law", [CHINCHILLA, SMALL])
def test_the_numbers_that_made_the_points_are_found(law: ScalingLaw) -> None:
    found = fit_law(grid_of(law))
    for name, value in vars(law).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-4), name


def test_with_noise_a_run_of_ten_times_the_compute_is_predicted_within_a_percent() -> None:
    law = fit_law(grid_of(SMALL, noise=0.003))
    assert law.predict(1.2e6, 6e6) == pytest.approx(SMALL.predict(1.2e6, 6e6), rel=0.01)


def test_a_run_that_failed_moves_the_law_little() -> None:
    points = grid_of(SMALL)
    points[12] = Measured(parameters=points[12].parameters, tokens=points[12].tokens, loss_nats=9.0)
    assert fit_law(points).predict(8e5, 4e6) == pytest.approx(SMALL.predict(8e5, 4e6), rel=1e-3)


def test_the_gradient_is_that_of_the_misfit() -> None:
    points = grid_of(SMALL, noise=0.01)
    logarithms = [np.log([getattr(point, name) for point in points]) for name in ("parameters", "tokens", "loss_nats")]
    law = np.array([0.2, 2.5, 0.3, 5.0, 0.45])
    value, gradient = _misfit(law, *logarithms)
    assert value > 1
    difference = check_grad(lambda at: _misfit(at, *logarithms)[0], lambda at: _misfit(at, *logarithms)[1], law)
    assert difference < 1e-5 * np.linalg.norm(gradient)


def test_too_few_runs_and_no_optimiser_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="5 runs, expected at least 6"):
        fit_law(grid_of(SMALL)[: FEWEST_POINTS - 1])
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(InputError, match="needs scipy: pip install 'graft-lm"):
        fit_law(grid_of(SMALL))
