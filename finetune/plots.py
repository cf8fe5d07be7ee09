"""The plots of a run's report, as images that a page can hold in itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.evaluation import Scores
from tokenizer_ext.pages.plots import as_data_uri, new_figure


def plot_losses(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Training and held-out loss by step, from the lines of `metrics.jsonl`, as a data URI."""
    figure = new_figure(height=3.5)
    axes = figure.subplots()
    axes.plot(*_series(metrics, "loss_nats"), linewidth=0.8, alpha=0.6, label="training")
    axes.plot(*_series(metrics, "held_out_loss_nats"), marker="o", label="held-out")
    axes.set(xlabel="step", ylabel="nats per supervised token", title="Loss of the replies")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return as_data_uri(figure)


def plot_stop_rate(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The share of watched questions whose reply the model ended itself, by step, as a data URI."""
    figure = new_figure(height=2.0)
    axes = figure.subplots()
    axes.plot(*_series(metrics, "stop_rate"), marker="o", color="C2")
    axes.set(xlabel="step", ylabel="share", ylim=(-0.05, 1.05), title="Replies that end by themselves")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_data_uri(figure)


def plot_bits_per_byte(base: Scores, assistant: Scores) -> str:
    """Bits per byte of both as bars, as a data URI."""
    figure = new_figure(height=1.6)
    axes = figure.subplots()
    bars = axes.barh(["assistant", "base"], [assistant.bits_per_byte, base.bits_per_byte], color=["C0", "0.6"])
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.margins(x=0.12)
    axes.set(xlabel="bits per byte of the known replies (lower is better)")
    return as_data_uri(figure)


def _series(metrics: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(entry["step"], entry[name]) for entry in metrics if name in entry]
    return [step for step, _ in points], [value for _, value in points]
