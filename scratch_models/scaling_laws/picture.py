"""The picture of a scaling study: measured losses, the law through them, and the run that was held back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch_models.scaling_laws.law import Measured, ScalingLaw
from tokenizer_ext.pages.plots import new_figure


def plot_law(law: ScalingLaw, fitted: Sequence[Measured], held_back: Measured) -> Any:
    """A figure of loss against tokens, a line a size, and of predicted against measured loss."""
    figure = new_figure(8)
    by_tokens, by_loss = figure.subplots(2)
    sizes = sorted({run.parameters for run in [*fitted, held_back]})
    most = max(run.tokens for run in [*fitted, held_back])
    for number, parameters in enumerate(sizes):
        colour = f"C{number}"
        runs = [run for run in fitted if run.parameters == parameters]
        by_tokens.scatter([run.tokens for run in runs], [run.loss_nats for run in runs], color=colour)
        tokens = np.geomspace(min(run.tokens for run in fitted), most, 60)
        label = f"{parameters:,} parameters"
        by_tokens.plot(tokens, [law.predict(parameters, one) for one in tokens], color=colour, label=label)
    by_tokens.scatter([held_back.tokens], [held_back.loss_nats], marker="*", s=160, color="black", label="held back")
    by_tokens.set(xlabel="tokens read", ylabel="held-out loss, nats", xscale="log", yscale="log")
    predicted = [law.predict(run.parameters, run.tokens) for run in fitted]
    by_loss.scatter(predicted, [run.loss_nats for run in fitted], label="fitted")
    of_held_back = law.predict(held_back.parameters, held_back.tokens)
    by_loss.scatter([of_held_back], [held_back.loss_nats], marker="*", s=160, color="black", label="held back")
    ends = [min(*predicted, of_held_back), max(predicted)]
    by_loss.plot(ends, ends, color="grey", linewidth=0.8)
    by_loss.set(xlabel="predicted loss, nats", ylabel="measured")
    for axes in (by_tokens, by_loss):
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    return figure
