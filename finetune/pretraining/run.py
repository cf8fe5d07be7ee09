"""Continued pretraining from its settings to its report: what happens, in order."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator

from finetune.export.base_on_disk import config_hash
from finetune.export.hub import check_repository
from finetune.export.receipt import publish
from finetune.lora.launch import prepare_launch
from finetune.lora.resolved_settings import describe_course, epochs_of
from finetune.pretraining.monitor import continue_samples
from finetune.pretraining.plan import rehearse_run
from finetune.pretraining.results import finish, make_report
from finetune.pretraining.settings import PretrainSettings
from finetune.pretraining.stages import Start, Training, prepare_training, read_start
from finetune.sliced.leaving import leave_slices
from finetune.sliced.sliced_base import train_in_slices
from scratch_models.launch.folder_lock import folders_released
from scratch_models.launch.waiting import wait_for_all
from scratch_models.loop.best_checkpoint import describe_steps
from scratch_models.loop.run_folder import RECORD, RunFolder
from scratch_models.loop.run_record import record_start, start_run
from scratch_models.loop.training import train
from scratch_models.sharded.sliced_model import SlicedModel


@folders_released()
def pretrain(settings: PretrainSettings) -> RunFolder | None:
    """Reads, encodes, attaches, measures, trains, measures, saves, reports.

    Returns the folder of the run; None where it is only shown what a run would do.
    """
    started = time.perf_counter()
    settings, run, accelerator = prepare_launch(settings, "pretrain", "blocks_per_batch")
    check_repository(settings.push_to_hub)
    torch.manual_seed(settings.seed)
    start = read_start(settings, run, accelerator)
    settings = start.settings
    if settings.dry_run:
        accelerator.print(rehearse_run(settings, start, run, accelerator, started))
        return None
    before, training, sliced = write_and_prepare(settings, start, run, accelerator)
    dataset, engine, monitor = training.dataset, training.engine, training.monitor
    shown = dataset.describe(), describe_course(settings, dataset.batches, "blocks"), engine.describe()
    accelerator.print(*shown, sep="\n")
    run = start_run(run, settings, accelerator, make_facts(settings, training), training.trainable.model)
    record_start(monitor, run, settings, accelerator)
    batches, optimizers = dataset.batches, [training.optimizer]
    train(monitor.loss_model, batches, optimizers, settings.loop, accelerator=accelerator, run=run, evaluate=monitor)
    engine.release()
    if accelerator.is_main_process or sliced is not None:
        finish_run(settings, start, training, before, run, accelerator, sliced)
    wait_for_all(accelerator)
    accelerator.end_training()
    return run


def write_and_prepare(
    settings: PretrainSettings, start: Start, run: RunFolder, accelerator: Accelerator
) -> tuple[list[str], Training, SlicedModel | None]:
    """How the model continues the samples before it trains, and what trains; spread over the processes or whole.

    The main process asks a base that is whole. One that is spread gets its adapters first, which add nothing before
    they have trained, and all processes ask it.
    """
    if start.sliced is None:
        before = write_on(settings, start) if accelerator.is_main_process else []
        wait_for_all(accelerator)
        return before, prepare_training(settings, start, run, accelerator), None
    trainable, sliced = train_in_slices(start.sliced, settings, accelerator)
    before = write_on(settings, start)
    return before, prepare_training(settings, start, run, accelerator, trainable), sliced


def write_on(settings: PretrainSettings, start: Start) -> list[str]:
    """How the model continues the samples."""
    samples, end_id = start.dataset.samples, start.dataset.ends.end_id
    return continue_samples(start.model, start.tokenizer, samples, settings.sample_tokens, end_id)


def finish_run(
    settings: PretrainSettings,
    start: Start,
    training: Training,
    before: Sequence[str],
    run: RunFolder,
    accelerator: Accelerator,
    sliced: SlicedModel | None = None,
) -> None:
    """Has the model continue what it continued before, saves it, reports, and merges or uploads it where wanted.

    Of a model that is spread over the processes all must call it, and the main one writes.
    """
    start.model.eval()
    written = before, write_on(settings, start)
    leave_slices(training.trainable, sliced, run, accelerator)
    if not accelerator.is_main_process:
        return
    facts = describe_facts(settings, training, run)
    report = make_report(settings.base, training.dataset, start.tokenizer, written, facts, run)
    finish(report, settings.base, training.trainable, training.dataset, run)
    publish(run, merge=settings.merge, push_to_hub=settings.push_to_hub)


def describe_facts(settings: PretrainSettings, training: Training, run: RunFolder) -> dict[str, str]:
    """What the report says that the run was."""
    parameters, trained = training.trainable.count_parameters()
    return {
        "base": settings.base,
        "method": settings.method,
        "parameters": f"{parameters:,}, of which {trained:,} were trained",
        "read": training.dataset.describe(),
        "trained": describe_course(settings, training.dataset.batches, "blocks"),
        "steps": describe_steps(run),
        "computed": training.engine.describe(),
        "full settings, versions and hashes": RECORD,
    }


def make_facts(settings: PretrainSettings, training: Training) -> dict[str, Any]:
    """What the run is made of, as hashes, and how it computes."""
    return {
        "data_sha256": training.dataset.sha256,
        "epochs": epochs_of(settings, training.dataset.batches),
        **training.trainable.hashes(),
        **config_hash(training.trainable.model),
        **training.engine.facts(),
    }
