"""Runs that get a signal at a chosen place of a chosen step."""

import signal
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from scratch_models.loop.optimizer_step import Stepper
from scratch_models.loop.run_folder import RunFolder

PLACES = {"inside a step": 4, "after a step": 7, "before an evaluation": 5, "on a checkpoint": 10}
"""A place -> the step that is under way, or done, when the signal comes."""


def ended_at(place: str, step: int) -> AbstractContextManager[Any]:
    """Has this process get a signal inside a step, between its micro-batches, or once it is noted."""
    if place == "inside a step":
        backward, steps = Stepper._backward, []

        def listen(stepper, micro_batch, weight):
            steps.append(weight)
            if len(steps) == 2 * step:
                signal.raise_signal(signal.SIGTERM)
            return backward(stepper, micro_batch, weight)

        return patch.object(Stepper, "_backward", listen)
    append = RunFolder.append_metrics

    def noted(run, entry):
        append(run, entry)
        if entry["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    return patch.object(RunFolder, "append_metrics", noted)
