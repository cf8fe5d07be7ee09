"""Two moons: points on two half circles that no straight line divides, and a network that learns which is which."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scratch_models.neurons.perceptron import MLP
from scratch_models.neurons.values import Value
from tokenizer_ext.pages.plots import new_figure

GRID_STEPS = 48
"""Points along each side of the plot at which the network is asked."""


@dataclass(frozen=True)
class Point:
    """A point and the moon that it lies on: -1 the upper, 1 the lower."""

    x: float
    y: float
    moon: int


def two_moons(count: int, noise: float, seed: int) -> list[Point]:
    """Points at equal angles of two half circles in turn, each moved by noise of a normal distribution.

    The same curves as scikit-learn's `make_moons`: (cos a, sin a) and (1 - cos a, 1/2 - sin a), 0 <= a <= pi.
    """
    generator = random.Random(seed)
    points = []
    for number in range(count):
        angle = math.pi * (number // 2) / max(1, (count - 1) // 2)
        moon = -1 if number % 2 == 0 else 1
        x, y = math.cos(angle), math.sin(angle)
        x, y = (x, y) if moon < 0 else (1 - x, 0.5 - y)
        points.append(Point(x + generator.gauss(0, noise), y + generator.gauss(0, noise), moon))
    return points


def point_loss(network: MLP, point: Point) -> Value:
    """Logistic loss in nats: log(1 + exp(-score)), with the score of the point's own moon."""
    (score,) = network([point.x, point.y])
    return (1 + (score * -point.moon).exp()).log()


def train_on_moons(
    network: MLP, points: Sequence[Point], max_steps: int, learning_rate: float
) -> Iterator[dict[str, float]]:
    """Gradient descent on the mean loss of all points; yields `step` and the `loss_nats` before it.

    The learning rate falls along a line to a tenth: large steps find the shape, small ones settle in it.
    """
    parameters = network.parameters()
    for step in range(max_steps):
        for parameter in parameters:
            parameter.grad = 0.0
        total = sum((point_loss(network, point) for point in points), Value(0.0))
        loss = total / len(points)
        loss.backward()
        rate = learning_rate * (1 - 0.9 * step / max_steps)
        for parameter in parameters:
            parameter.data -= rate * parameter.grad
        yield {"step": step + 1, "loss_nats": loss.data}


def evaluate(network: MLP, points: Sequence[Point]) -> tuple[float, int]:
    """The mean loss in nats, and how many points the network puts on the right moon."""
    losses = [point_loss(network, point).data for point in points]
    return sum(losses) / len(losses), sum(loss < math.log(2) for loss in losses)


def plot_decision_surface(network: MLP, points: Sequence[Point]) -> Any:
    """A figure of the score all over the plane, where it changes its sign, and the points."""
    figure = new_figure(5)
    axes = figure.subplots()
    xs = _grid([point.x for point in points])
    ys = _grid([point.y for point in points])
    scores = [[network([x, y])[0].data for x in xs] for y in ys]
    largest = max(abs(score) for row in scores for score in row)
    surface = axes.contourf(xs, ys, scores, levels=20, cmap="RdBu", vmin=-largest, vmax=largest)
    axes.contour(xs, ys, scores, levels=[0.0], colors="black")
    figure.colorbar(surface, label="score; the black line is 0")
    for moon, colour in ((-1, "darkred"), (1, "navy")):
        of_moon = [point for point in points if point.moon == moon]
        axes.scatter([point.x for point in of_moon], [point.y for point in of_moon], c=colour, edgecolors="white")
    axes.set_aspect("equal")
    return figure


def _grid(numbers: Sequence[float]) -> list[float]:
    low, high = min(numbers) - 0.5, max(numbers) + 0.5
    return [low + (high - low) * step / (GRID_STEPS - 1) for step in range(GRID_STEPS)]
