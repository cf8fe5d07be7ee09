"""What continued pretraining would do, shown before it is done: its settings, its first block, its time and memory."""

import dataclasses
import time

from accelerate import Accelerator

from finetune.lora.resolved_settings import describe_course
from finetune.pretraining.settings import PretrainSettings
from finetune.pretraining.stages import Start, Training, prepare_training
from finetune.supervised.estimate import (
    Estimate,
    estimate_training,
    evaluations_of,
    peak_device_bytes,
    peak_memory_bytes,
    seconds_of,
)
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.pages.progress import shown


@shown("looking ahead")
def rehearse_run(
    settings: PretrainSettings, start: Start, run: RunFolder, accelerator: Accelerator, started: float
) -> str:
    """What a run would do and take: each part of it is done a little, in its order; `started` is when it began."""
    training = prepare_training(settings, start, run, accelerator)
    seconds = {"reading and encoding": time.perf_counter() - started}
    monitor = training.monitor
    seconds["training"] = estimate_training(
        monitor.loss_model, training.dataset.batches, training.optimizer, settings.loop, accelerator
    )
    seconds["evaluations"] = (evaluations_of(settings.loop) + 1) * seconds_of(monitor.held_out)
    estimate = Estimate(seconds, peak_memory_bytes(), peak_device_bytes(accelerator))
    return f"{describe_plan(settings, start, training)}\n{estimate.describe()}"


def describe_plan(settings: PretrainSettings, start: Start, training: Training) -> str:
    """What a run would do: settings, parameters, what is read, and the first block."""
    parameters, trained = training.trainable.count_parameters()
    return "\n".join(
        [
            *(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()),
            f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
            training.dataset.describe(),
            describe_course(settings, training.dataset.batches, "blocks"),
            training.engine.describe(),
            "first block, all of it learned, each document for itself:",
            training.dataset.first_block(start.tokenizer),
        ]
    )
