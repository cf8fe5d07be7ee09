import math

import pytest

from scratch_models.neurons.perceptron import MLP
from scratch_models.neurons.two_moons import evaluate, point_loss, train_on_moons, two_moons


def test_without_noise_the_points_lie_on_two_half_circles_that_reach_into_each_other() -> None:
    points = two_moons(40, noise=0.0, seed=0)
    assert [point.moon for point in points[:4]] == [-1, 1, -1, 1]
    for point in points:
        x, y = (point.x, point.y) if point.moon < 0 else (1 - point.x, 0.5 - point.y)
        assert math.hypot(x, y) == pytest.approx(1)
        assert y >= -1e-12
    ends = [(round(point.x, 9), round(point.y, 9)) for point in (points[0], points[1], points[-2], points[-1])]
    assert ends == [(1, 0), (0, 0.5), (-1, 0), (2, 0.5)]


def test_the_loss_of_a_point_is_the_negative_log_of_the_probability_of_its_moon() -> None:
    network = MLP([2, 3, 1], seed=0)
    for point in two_moons(4, noise=0.1, seed=0):
        score = network([point.x, point.y])[0].data
        probability = 1 / (1 + math.exp(-score))  # of moon 1
        expected = -math.log(probability if point.moon == 1 else 1 - probability)
        assert point_loss(network, point).data == pytest.approx(expected)


@pytest.mark.long
def test_hidden_neurons_divide_what_no_straight_line_does() -> None:
    points, held_out = two_moons(30, noise=0.05, seed=0), two_moons(30, noise=0.05, seed=1)
    right = {}
    for name, sizes in (("line", [2, 1]), ("network", [2, 8, 8, 1])):
        network = MLP(sizes, seed=0)
        losses = [metrics["loss_nats"] for metrics in train_on_moons(network, points, 150, 2.0)]
        assert losses[-1] < losses[0]
        right[name] = evaluate(network, held_out)[1]
    assert right["line"] < 29 <= right["network"]
