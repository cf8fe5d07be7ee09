import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from configs import InputError
from scratch_models.checkpoints.checkpoint import Checkpoint, list_checkpoints, load_newest_checkpoint, save_checkpoint
from scratch_models.loop.best_checkpoint import MEASURE, BestCheckpoint, evaluations_without_gain
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import train
from tests.scratch_models.ragged_training import RaggedBatches, make_loss_model

SETTINGS = LoopSettings(max_steps=8, learning_rate=0.05, evaluation_steps=2, checkpoint_steps=3, keep_best=True)


class Interrupted(Exception):
    """Stands for whatever ends a run before its last step."""


def run_loop(folder: Path, settings: LoopSettings, figures: Mapping[int, float], stop_at: int = 0) -> dict[int, dict]:
    """Trains with evaluations that say the figures given; the weights at each evaluation and, as step 0, at the end."""
    loss_model, seen = make_loss_model(), {}

    def evaluate(step: int) -> Mapping[str, float]:
        if step == stop_at:
            raise Interrupted
        seen[step] = weights_of(loss_model)
        return {MEASURE: figures[step]} if figures else {}

    folder.mkdir(exist_ok=True)
    train(
        loss_model,
        RaggedBatches(),
        make_optimizers(loss_model, settings),
        settings,
        accelerator=make_accelerator("fp32"),
        run=RunFolder(folder),
        evaluate=evaluate,
    )
    return seen | {0: weights_of(loss_model)}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ([3.0, 1.0, 2.0, 4.0], 4),
        ([4.0, 3.0, 2.0, 1.0], 8),
        ([1.0, 1.0, 1.0, 1.0], 2),
        ([math.nan, 2.0, math.nan, 3.0], 4),
    ],
    ids=["falls, then rises", "falls", "the first of equals", "what is not a number is never best"],
)
def test_a_run_ends_with_the_weights_of_its_best_evaluation(tmp_path: Path, capsys, figures: list[float], best: int):
    seen = run_loop(tmp_path, SETTINGS, dict(zip((2, 4, 6, 8), figures, strict=True)))
    assert same_bits(seen[0], seen[best])
    assert not any(same_bits(seen[0], seen[step]) for step in (2, 4, 6, 8) if step != best)
    assert f"The weights are those of step {best}, the best" in capsys.readouterr().out
    assert [path.name for path in list_checkpoints(tmp_path / "best")] == [f"step_{best:08d}"]


def test_without_keep_best_a_run_ends_with_its_last_weights(tmp_path: Path):
    seen = run_loop(tmp_path, replace(SETTINGS, keep_best=False), {2: 1.0, 4: 2.0, 6: 3.0, 8: 4.0})
    assert same_bits(seen[0], seen[8])
    assert not (tmp_path / "best").exists()


@pytest.mark.parametrize(("allowed", "last"), [(0, 8), (1, 4), (2, 8), (3, 8)])
def test_a_run_ends_after_so_many_evaluations_in_a_row_without_gain(tmp_path: Path, allowed: int, last: int):
    settings = replace(SETTINGS, early_stopping_evaluations=allowed)
    run_loop(tmp_path, settings, {2: 3.0, 4: 3.5, 6: 2.0, 8: 2.5})
    assert [entry["step"] for entry in RunFolder(tmp_path).read_metrics()][-1] == last
    assert load_newest_checkpoint(tmp_path / "checkpoints")[0].step == last


def test_a_run_that_ended_early_does_nothing_more_when_it_is_resumed(tmp_path: Path):
    settings = replace(SETTINGS, early_stopping_evaluations=1)
    ended = run_loop(tmp_path, settings, {2: 3.0, 4: 3.5})
    before = RunFolder(tmp_path).metrics.read_text()
    resumed = run_loop(tmp_path, replace(settings, resume=True), {})
    assert RunFolder(tmp_path).metrics.read_text() == before
    assert same_bits(resumed[0], ended[2]) and same_bits(ended[0], ended[2])


@pytest.mark.parametrize("best", [2, 6], ids=["before the checkpoint", "after the checkpoint"])
def test_a_resumed_run_finds_the_best_weights_of_an_unbroken_one(tmp_path: Path, best: int):
    figures = {step: float(step != best) for step in (2, 4, 6, 8)}
    unbroken = run_loop(tmp_path / "unbroken", SETTINGS, figures)
    settings = replace(SETTINGS, checkpoint_steps=5)
    with pytest.raises(Interrupted):
        run_loop(tmp_path / "broken", settings, figures, stop_at=8)
    resumed = run_loop(tmp_path / "broken", replace(settings, resume=True), figures)
    assert same_bits(resumed[0], unbroken[0]) and same_bits(resumed[0], unbroken[best])


def test_weights_that_a_resumed_run_never_reaches_again_are_not_its_best(tmp_path: Path):
    settings = replace(SETTINGS, checkpoint_steps=5)
    with pytest.raises(Interrupted):
        run_loop(tmp_path, settings, {2: 3.0, 4: 2.0, 6: 0.5}, stop_at=8)
    again = run_loop(tmp_path, replace(settings, resume=True), {6: 1.0, 8: 0.7})  # as a GPU may not repeat itself
    assert same_bits(again[0], again[8])


@pytest.mark.parametrize("setting", [{"keep_best": True}, {"keep_best": False, "early_stopping_evaluations": 1}])
def test_an_evaluation_that_does_not_measure_it_is_refused(tmp_path: Path, setting: dict):
    with pytest.raises(InputError, match=f"keep_best and early_stopping_evaluations: .* measures no {MEASURE}"):
        run_loop(tmp_path, replace(SETTINGS, **setting), {})


def test_the_evaluation_before_the_first_step_does_not_count():
    assert evaluations_without_gain([{"step": 0, MEASURE: 1.0}, {"step": 2, MEASURE: 2.0}]) == 0


def test_the_best_checkpoint_says_what_it_was_saved_for(tmp_path: Path):
    run_loop(tmp_path, SETTINGS, {2: 3.0, 4: 1.25, 6: 2.0, 8: 4.0})
    (path,) = list_checkpoints(tmp_path / "best")
    assert json.loads((path / "state.json").read_text()) == {"step": 4, MEASURE: 1.25}


def test_weights_are_dropped_only_when_every_process_has_read_which_there_are(tmp_path: Path):
    class Processes:
        """The main one of several, the others of which read until it waits for them."""

        is_main_process = True

        def wait_for_everyone(self) -> None:
            present.append([path.name for path in list_checkpoints(tmp_path)])

    present: list[list[str]] = []
    save_checkpoint(Checkpoint(6, {"trained": {"weight": torch.ones(1)}}, {MEASURE: 1.0}), tmp_path)
    BestCheckpoint(tmp_path, 5, Processes())  # type: ignore[arg-type]
    assert present == [["step_00000006"]] and list_checkpoints(tmp_path) == []
