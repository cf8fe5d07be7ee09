"""The ladder of models on one text: each rung trained, measured, sampled from, and all of them compared."""

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator

from configs.whole_folder import write_whole
from scratch_models.corpus.blocks import RandomBlocks
from scratch_models.corpus.encoded_text import TrainingText
from scratch_models.corpus.training_text import read_training_text
from scratch_models.from_scratch import HeldOutEvaluation, fit, make_facts, sample
from scratch_models.loop.best_checkpoint import saved_evaluation
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.run_folder import RunFolder, choose_run_folder
from scratch_models.loop.training import SummedLoss
from scratch_models.make_model import make_model
from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.rungs.bigram import bigram_of_counts
from scratch_models.scratch_folder import save_scratch_model
from scratch_models.train_settings import TrainSettings
from tokenizer_ext.pages.plots import new_figure, require_plots, save_figure

COUNTED = "counted bigram"
RUNGS: dict[str, dict[str, Any]] = {
    COUNTED: {"model": "bigram"},
    "bigram": {"model": "bigram"},
    "mean of the past": {"model": "averaging"},
    "one head": {"model": "attention", "heads": 1},
    "several heads": {"model": "attention"},
    "one block": {"model": "gpt", "layers": 1},
    "GPT": {"model": "gpt"},
    "Llama": {"model": "llama"},
    "MEGABYTE": {"model": "megabyte"},
}
"""The rungs from the lowest up, each with what it changes in the settings that all share."""


@dataclasses.dataclass(frozen=True)
class RungResult:
    """What a rung came to."""

    rung: str
    parameters: int
    """Numbers that the model holds, a shared matrix once."""
    seconds: float
    """Training alone, without the evaluation at the end."""
    held_out_loss_nats: float
    """Mean per token over all of the held-out text."""
    held_out_bits_per_byte: float
    """The same in bits per byte of the text."""
    sample: str
    """What the model writes by itself."""


def climb(shared: TrainSettings) -> list[RungResult]:
    """Trains all rungs with these settings, prints and plots what they came to.

    Raises:
        InputError: the text cannot be read or is shorter than a block, the folder is taken, or matplotlib is missing.
    """
    require_plots()
    ladder = choose_run_folder(shared.output_dir, shared.name, dataclasses.asdict(shared), resume=False)
    text = read_training_text(shared.data, shared.tokens, shared.vocabulary_size)
    RandomBlocks(text.training_ids, shared.block_size, shared.blocks_per_batch, shared.seed)  # refuses too short a text
    ladder = ladder.start(dataclasses.asdict(shared), make_facts(text), resume=False)
    accelerator = make_accelerator(shared.precision, None, ladder.path)
    results = []
    for rung in RUNGS:
        result = climb_rung(rung, shared, text, accelerator, ladder)
        results.append(result)
        print(_describe(result), flush=True)
    rows = [dataclasses.asdict(result) for result in results]
    write_whole(ladder.path / "ladder.json", json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    save_figure(plot_ladder(results), ladder.path / "ladder.svg")
    print(f"Plotted: {ladder.path / 'ladder.svg'}; figures: {ladder.path / 'ladder.json'}")
    return results


def climb_rung(
    rung: str, shared: TrainSettings, text: TrainingText, accelerator: Accelerator, ladder: RunFolder
) -> RungResult:
    """Trains one rung in a folder of its own inside the ladder's."""
    run = RunFolder(ladder.path / rung.replace(" ", "_"))
    settings = dataclasses.replace(shared, **RUNGS[rung], output_dir=str(run.path))
    if settings.model == "bigram":  # a table in which each step moves only the rows that it reads
        settings = dataclasses.replace(settings, learning_rate=10 * shared.learning_rate, weight_decay=0.0)
    torch.manual_seed(settings.seed)
    if rung == COUNTED:
        model, measured = _count(text, settings, accelerator, run)
    else:
        model = make_model(settings, len(text.vocabulary))
        measured = saved_evaluation(fit(model, text, settings, accelerator, run))
    return RungResult(
        rung=rung,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=measured["seconds"],
        held_out_loss_nats=measured["held_out_loss_nats"],
        held_out_bits_per_byte=measured["held_out_bits_per_byte"],
        sample=sample(model, text, settings),
    )


def _count(
    text: TrainingText, settings: TrainSettings, accelerator: Accelerator, run: RunFolder
) -> tuple[ScratchModel, dict[str, float]]:
    """The rung that no gradient trains, and what its line of metrics would say."""
    started = time.monotonic()
    model = bigram_of_counts(text.training_ids, len(text.vocabulary)).to(accelerator.device)
    seconds = time.monotonic() - started
    evaluation = HeldOutEvaluation(SummedLoss(model), text, settings, accelerator)
    save_scratch_model(model, text.vocabulary, run.final)
    return model, {"seconds": seconds, **evaluation(settings.max_steps)}


def _describe(result: RungResult) -> str:
    figures = f"{result.held_out_loss_nats:.4f} nats  {result.parameters:>9,} parameters  {result.seconds:>6.1f} s"
    return f"{result.rung:<18}{figures}  {result.sample[:48]!r}"


def plot_ladder(results: Sequence[RungResult]) -> Any:
    """A figure of the held-out loss against the rung, its parameters and its seconds."""
    figure = new_figure(9)
    by_rung, by_parameters, by_seconds = figure.subplots(3)
    losses = [result.held_out_loss_nats for result in results]
    by_rung.plot([result.rung for result in results], losses, marker="o")
    by_rung.tick_params(axis="x", rotation=20)
    for axes, name, numbers in (
        (by_parameters, "parameters", [result.parameters for result in results]),
        (by_seconds, "seconds of training", [max(result.seconds, 1e-3) for result in results]),
    ):
        axes.scatter(numbers, losses)
        axes.set_xscale("log")
        axes.set_xlabel(name)
        for result, number in zip(results, numbers, strict=True):
            axes.annotate(result.rung, (number, result.held_out_loss_nats), textcoords="offset points", xytext=(4, 4))
    for axes in (by_rung, by_parameters, by_seconds):
        axes.set_ylabel("held-out loss, nats")
        axes.grid(alpha=0.3)
    return figure
