"""Every kind of run, ended at every kind of place and gone on with, is the unbroken run to the bit."""

import signal
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from scratch_models.loop.optimizer_step import Stepper
from scratch_models.loop.run_folder import RunFolder
from tests.reliability.small_runs import ALL_RUNS, metrics_of, weights_of, write_extended, write_inputs

PLACES = {"inside a step": 4, "after a step": 7, "before an evaluation": 5, "on a checkpoint": 10}
"""A place -> the step that is under way, or done, when the signal comes."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The inputs, and every kind of run without an end in between."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    write_extended(folder)
    for kind, run in ALL_RUNS.items():
        run(folder, folder / f"unbroken {kind}")
    return folder


def ended_at(place: str, step: int):
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


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ALL_RUNS)
def test_a_run_that_goes_on_is_the_unbroken_one(unbroken, tmp_path, kind, place):
    with ended_at(place, PLACES[place]), pytest.raises(SystemExit) as ended:
        ALL_RUNS[kind](unbroken, tmp_path / "run")
    assert ended.value.code == 0
    ALL_RUNS[kind](unbroken, tmp_path / "run", resume=True)
    whole = unbroken / f"unbroken {kind}"
    assert metrics_of(tmp_path / "run") == metrics_of(whole)
    left, right = weights_of(tmp_path / "run"), weights_of(whole)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
