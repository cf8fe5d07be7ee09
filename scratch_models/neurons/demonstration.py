"""What `python -m scratch_models.backpropagation` shows: one neuron's graph, then two moons learned."""

import time

from configs import InputError
from configs.whole_folder import write_whole
from scratch_models.loop.run_folder import RunFolder
from scratch_models.neurons.perceptron import MLP
from scratch_models.neurons.two_moons import evaluate, plot_decision_surface, train_on_moons, two_moons
from scratch_models.neurons.value_graph import HOW_TO_GET_DOT, draw_dot, write_dot
from scratch_models.neurons.values import Value
from tokenizer_ext.pages.plots import save_figure

LINES_PRINTED = 6


def draw_neuron(run: RunFolder) -> None:
    """Writes the graph of one neuron's squared error with the gradient of every number in it."""
    names = {"input 1": Value(2.0), "input 2": Value(-1.0), "weight 1": Value(0.5), "weight 2": Value(1.5)}
    names |= {"bias": Value(0.2), "target": Value(1.0)}
    total = names["input 1"] * names["weight 1"] + names["input 2"] * names["weight 2"] + names["bias"]
    loss = (total.tanh() - names["target"]) ** 2
    loss.backward()
    file = run.path / "neuron.dot"
    write_whole(file, write_dot(loss, {**names, "loss": loss}) + "\n")
    print(f"One neuron: loss {loss.data:.4f}; its graph, with the gradient of every number: {file}")
    drawing = draw_dot(file)
    print(f"Drawn: {drawing}" if drawing else f"Not drawn, as the program dot is not installed: {HOW_TO_GET_DOT}")


def learn_moons(
    run: RunFolder,
    *,
    points: int,
    noise: float,
    sizes: list[int],
    max_steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Trains an MLP of these sizes, prints how it goes and what it makes of points that it never saw, and plots it."""
    training, held_out = two_moons(points, noise, seed), two_moons(points, noise, seed + 1)
    network = MLP(sizes, seed)
    started = time.monotonic()
    try:
        for metrics in train_on_moons(network, training, max_steps, learning_rate):
            run.append_metrics(metrics)
            if (metrics["step"] - 1) % max(1, max_steps // LINES_PRINTED) == 0:
                print(f"step {metrics['step']:>5}: loss {metrics['loss_nats']:.4f} nats")
        losses = [evaluate(network, some) for some in (training, held_out)]
    except OverflowError:
        raise InputError(
            f"learning_rate is {learning_rate}, and the loss grew beyond all numbers: expected less, as 2.0"
        ) from None
    seconds = time.monotonic() - started
    for name, (loss, right) in zip(("trained on", "held out"), losses, strict=True):
        print(f"{name}: loss {loss:.4f} nats, {right} of {points} points on the right moon")
    run.append_metrics({"step": max_steps, "held_out_loss_nats": losses[1][0], "seconds": seconds})
    plot = run.path / "decision_surface.svg"
    save_figure(plot_decision_surface(network, training), plot)
    print(f"{len(network.parameters())} parameters, {max_steps} steps in {seconds:.1f} s. Plotted: {plot}")
