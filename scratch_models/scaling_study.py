"""A study of scaling: a grid of runs, the law fitted to them, and a larger run that it has to predict."""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from configs import InputError
from configs.whole_folder import write_whole
from scratch_models.corpus.blocks import RandomBlocks
from scratch_models.corpus.encoded_text import TrainingText
from scratch_models.corpus.training_text import read_training_text
from scratch_models.from_scratch import fit, make_facts, make_model
from scratch_models.loop.best_checkpoint import saved_evaluation
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.run_folder import RunFolder, choose_run_folder, refuse_other_settings
from scratch_models.scaling_laws.law import Measured, ScalingLaw, fit_law, require_enough
from scratch_models.scaling_laws.picture import plot_law
from scratch_models.train_settings import TrainSettings
from tokenizer_ext.pages.plots import require_plots, save_figure

LEAST_RATIO = 4
"""Of the compute of the run that is held back to that of the largest fitted one."""


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run that is to be trained."""

    settings: TrainSettings
    parameters: int
    tokens: int

    @property
    def compute(self) -> int:
        """About how many operations its training takes: six for each parameter and token."""
        return 6 * self.parameters * self.tokens

    @property
    def name(self) -> str:
        """Its shape, its tokens and its seed."""
        return f"{self.settings.layers}x{self.settings.width}_{self.tokens}_seed{self.settings.seed}"


def study_scaling(
    grid: Sequence[TrainSettings], held_back: TrainSettings, study: Mapping[str, Any], *, resume: bool
) -> None:
    """Trains the grid, fits the law, predicts the run that is held back, trains it, and shows both.

    Args:
        grid: The runs that the law is fitted to.
        held_back: The run that it has to predict.
        study: What `run.json` says of the study; `output_dir` of it is where everything goes.
        resume: Whether the folder is there already; runs that it holds are not trained again.

    Raises:
        InputError: the corpus cannot be read, the folder is taken or another study's, the run that is held back is too
            small, or a package is missing.

    """
    require_plots()
    require_enough(len(grid))
    folder = choose_run_folder(study["output_dir"], "scaling", study, resume=resume)
    text = read_training_text(held_back.data, held_back.tokens, held_back.vocabulary_size)
    planned = sorted((plan(settings, text) for settings in grid), key=lambda run: run.compute)
    last = plan(held_back, text)
    ratio = compare_compute(planned, last)
    RandomBlocks(text.training_ids, held_back.block_size, 1, held_back.seed)  # refuses too short a text
    folder = folder.start(study, make_facts(text), resume=resume)
    accelerator = make_accelerator(held_back.precision)
    fitted = [measure(run, text, accelerator, folder.path) for run in planned]
    law = fit_law(fitted)
    predicted = law.predict(last.parameters, last.tokens)
    print(f"{law.describe()}; over {len(fitted)} runs it is off by {mean_error_percent(law, fitted):.2f} % on average")
    print(f"Predicted for {last.name}, {ratio:.1f} times the compute of the largest: {predicted:.4f} nats", flush=True)
    measured = measure(last, text, accelerator, folder.path)
    save_study(law, fitted, measured, folder.path)


def save_study(law: ScalingLaw, fitted: Sequence[Measured], held_back: Measured, folder: Path) -> None:
    """Says how far the prediction was off, and writes the figures and their plot."""
    predicted = law.predict(held_back.parameters, held_back.tokens)
    percent = 100 * (predicted / held_back.loss_nats - 1)
    print(f"Predicted: {predicted:.4f} nats, measured: {held_back.loss_nats:.4f} nats, difference: {percent:+.2f} %")
    figures = {
        "law": dataclasses.asdict(law),
        "fitted": [dataclasses.asdict(run) for run in fitted],
        "held_back": {**dataclasses.asdict(held_back), "predicted_nats": predicted, "difference_percent": percent},
    }
    write_whole(folder / "scaling.json", json.dumps(figures, indent=2) + "\n")
    save_figure(plot_law(law, fitted, held_back), folder / "scaling.svg")
    print(f"Plotted: {folder / 'scaling.svg'}; figures: {folder / 'scaling.json'}")


def plan(settings: TrainSettings, text: TrainingText) -> PlannedRun:
    """The run with its size; no weight is made yet."""
    with torch.device("meta"):
        model = make_model(settings, len(text.vocabulary))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return PlannedRun(settings, parameters, settings.max_steps * settings.blocks_per_batch * settings.block_size)


def compare_compute(grid: Sequence[PlannedRun], held_back: PlannedRun) -> float:
    """How many times the compute of the largest run of the grid the one that is held back takes.

    Raises:
        InputError: it is less than four times.

    """
    ratio = held_back.compute / max(run.compute for run in grid)
    if ratio < LEAST_RATIO:
        raise InputError(
            f"held_back: {held_back.name} takes {ratio:.2f} times the compute of the largest fitted run, expected at "
            f"least {LEAST_RATIO}: hold back a larger size or more steps"
        )
    return ratio


def measure(run: PlannedRun, text: TrainingText, accelerator: Accelerator, folder: Path) -> Measured:
    """What the run came to, trained now unless it is there, in a folder of its own inside the study's."""
    own = RunFolder(folder / run.name)
    if own.final.is_dir():
        refuse_other_settings(own.path, dataclasses.asdict(run.settings))
        figures, how = saved_evaluation(own), "was there"
    else:
        shutil.rmtree(own.path, ignore_errors=True)  # what a kill left of it
        torch.manual_seed(run.settings.seed)
        settings = dataclasses.replace(run.settings, output_dir=str(own.path))
        model = make_model(settings, len(text.vocabulary))
        figures = saved_evaluation(fit(model, text, settings, accelerator, own))
        how = f"{figures['seconds']:.0f} s"
    loss = figures["held_out_loss_nats"]
    size = f"{run.parameters:>9,} parameters, {run.tokens:>9,} tokens"
    print(f"{run.name:<22}{size}: {loss:.4f} nats ({how})", flush=True)
    return Measured(parameters=run.parameters, tokens=run.tokens, loss_nats=loss)


def mean_error_percent(law: ScalingLaw, runs: Sequence[Measured]) -> float:
    """How far the law is from the runs that it was fitted to, on average."""
    errors = [abs(law.predict(run.parameters, run.tokens) / run.loss_nats - 1) for run in runs]
    return 100 * sum(errors) / len(errors)
