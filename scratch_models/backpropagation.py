"""Shows backpropagation number by number: the graph of one neuron, and a network that learns two moons.

    python -m scratch_models.backpropagation

It computes the loss of a single neuron at a point and writes the graph of that with the gradient of every number
(`neuron.dot`, and `neuron.svg` where Graphviz is installed). Then it trains an MLP on two moons by gradient descent and
plots what it decides all over the plane (`decision_surface.svg`). No torch: all of it is in `scratch_models/neurons/`.
"""

import dataclasses
from dataclasses import dataclass

from configs import InputError, run_entry


@dataclass(frozen=True, kw_only=True)
class BackpropagationSettings:
    """Draws the graph of a neuron with its gradients, and trains an MLP on two moons."""

    points: int = 60
    """Points of both moons together, as many held out again."""
    noise: float = 0.1
    """Standard deviation by which a point is moved off its half circle."""
    width: int = 8
    """Neurons of a hidden layer."""
    layers: int = 2
    """Hidden layers; 0 draws a straight line."""
    max_steps: int = 150
    """Steps of gradient descent, each on all points."""
    learning_rate: float = 2.0
    """How far the first step goes along the gradient; the last goes a tenth of it."""
    seed: int = 0
    """Same seed, same points, same start, same network."""
    output_dir: str | None = None
    """New folder; by default `runs/backpropagation-<n>`."""

    def __post_init__(self) -> None:
        for name, least in (("points", 2), ("width", 1), ("layers", 0), ("max_steps", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not 0 <= self.noise <= 10:
            raise InputError(f"noise is {self.noise}, expected between 0 and 10, as 0.1")
        if not 0 < self.learning_rate <= 100:
            raise InputError(f"learning_rate is {self.learning_rate}, expected more than 0 and at most 100, as 2.0")


def main(settings: BackpropagationSettings) -> None:
    """Draws the graph, trains the network, plots what it decides."""
    from scratch_models.loop.run_folder import choose_run_folder
    from scratch_models.neurons.demonstration import draw_neuron, learn_moons
    from tokenizer_ext.pages.plots import require_plots

    require_plots()
    fields = dataclasses.asdict(settings)
    run = choose_run_folder(settings.output_dir, "backpropagation", fields, resume=False)
    run = run.start(fields, {}, resume=False)
    draw_neuron(run)
    learn_moons(
        run,
        points=settings.points,
        noise=settings.noise,
        sizes=[2, *[settings.width] * settings.layers, 1],
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )


if __name__ == "__main__":
    run_entry(main, BackpropagationSettings)
