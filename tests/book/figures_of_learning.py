"""Figures of gradient descent: one weight, two moons, a table, an update of low rank."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratch_models.corpus.blocks import RandomBlocks
from scratch_models.corpus.vocabulary import CharacterVocabulary
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.optimizers import learning_rate_factor
from scratch_models.neurons.perceptron import MLP
from scratch_models.neurons.two_moons import plot_decision_surface, train_on_moons, two_moons
from scratch_models.neurons.values import Value
from scratch_models.rungs.bigram import BigramLanguageModel, bigram_of_counts
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.low_rank import attach_low_rank
from tokenizer_ext.pages.plots import new_figure


def losses_of_training(
    model: nn.Module, ids: Tensor, *, steps: int, block_size: int, learning_rate: float
) -> Iterator[float]:
    """The loss of each step of AdamW on random blocks of 32."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=0.0)
    blocks = RandomBlocks(ids, block_size, 32, seed=0)
    for step in range(steps):
        (batch,) = blocks.micro_batches(step, 0, 1)
        loss = F.cross_entropy(model(batch["input_ids"]).flatten(0, 1), batch["targets"].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


def as_ids(text: str) -> tuple[CharacterVocabulary, Tensor]:
    """The characters of a text and their ids."""
    vocabulary = CharacterVocabulary.from_text(text)
    return vocabulary, torch.tensor(vocabulary.encode(text))


def descent(_text: str, _steps: int) -> Any:
    """One weight on its way down the squared error of one point, at three learning rates."""
    figure = new_figure(3)
    for axes, rate in zip(figure.subplots(1, 3, sharey=True), (0.02, 0.2, 0.52), strict=True):
        curve = [step / 20 for step in range(-40, 121)]
        axes.plot(curve, [(2 * weight - 2) ** 2 / 2 for weight in curve], color="grey")
        weight = Value(2.8)
        path = []
        for _ in range(8):
            loss = (weight * 2 - 2) ** 2 / 2
            weight.grad = 0.0
            loss.backward()
            path.append((weight.data, loss.data))
            weight.data -= rate * weight.grad
        axes.plot(*zip(*path, strict=True), marker="o", markersize=4)
        axes.set(title=f"learning rate {rate}", xlabel="weight", ylim=(-0.5, 12))
    figure.supylabel("loss")
    return figure


def decision_surface(_text: str, steps: int) -> Any:
    """What a network of two hidden layers decides of two moons."""
    points = two_moons(60, 0.1, seed=0)
    network = MLP([2, 8, 8, 1], seed=0)
    for _ in train_on_moons(network, points, min(steps, 100), 2.0):
        pass
    return plot_decision_surface(network, points)


def bigram_gradient(text: str, steps: int) -> Any:
    """The loss of a table that learns by gradient, and that of the counts, which it nears."""
    vocabulary, ids = as_ids(text)
    counted = bigram_of_counts(ids, len(vocabulary))
    with torch.no_grad():
        floor = float(F.cross_entropy(counted(ids[None, :-1])[0], ids[1:]))
    torch.manual_seed(0)
    figure = new_figure(3.5)
    axes = figure.subplots()
    for rate in (1e-3, 1e-2, 1e-1):
        model = BigramLanguageModel(len(vocabulary))
        losses = losses_of_training(model, ids, steps=steps, block_size=32, learning_rate=rate)
        axes.plot(list(losses), label=f"learning rate {rate}", linewidth=1)
    axes.axhline(floor, color="black", linestyle="--", label="counted")
    axes.set(xlabel="step", ylabel="loss, nats")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def learning_rate(_text: str, _steps: int) -> Any:
    """The learning rate over a run: warm-up, then cosine, or constant."""
    figure = new_figure(2.5)
    axes = figure.subplots()
    for schedule in ("cosine", "constant"):
        settings = LoopSettings(max_steps=1000, learning_rate=3e-3, warmup_steps=100, schedule=schedule)
        axes.plot([3e-3 * learning_rate_factor(step, settings) for step in range(1000)], label=schedule)
    axes.set(xlabel="step", ylabel="learning rate")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def low_rank(text: str, steps: int) -> Any:
    """A small GPT that learned the first half of a text, adapted to the second in capitals, at several ranks."""
    vocabulary, ids = as_ids(text + text.upper())
    first, capitals = ids[: len(ids) // 4], ids[-len(ids) // 4 :]
    shape = GPTConfig(vocabulary_size=len(vocabulary), block_size=32, layers=2, heads=2, width=48)
    torch.manual_seed(0)
    base = GPT(shape)
    list(losses_of_training(base, first, steps=steps, block_size=32, learning_rate=3e-3))
    figure = new_figure(3.5)
    axes = figure.subplots()
    for rank in (1, 8, 0):
        torch.manual_seed(0)
        model = GPT(shape)
        model.load_state_dict(base.state_dict())
        if rank:
            attach_low_rank(model, ["query_key_value", "projection", "expand", "contract"], rank, alpha=2 * rank)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        losses = list(losses_of_training(model, capitals, steps=steps // 2, block_size=32, learning_rate=3e-3))
        smooth = [sum(losses[max(0, end - 20) : end]) / min(end, 20) for end in range(1, len(losses) + 1)]
        axes.plot(smooth, label=f"rank {rank}: {trained:,} numbers" if rank else f"all {trained:,} numbers")
    axes.set(xlabel="step", ylabel="loss, nats (mean of 20 steps)")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
