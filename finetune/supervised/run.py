"""Supervised fine-tuning from its settings to its report: what happens, in order."""

import dataclasses
import time

import torch
from accelerate import Accelerator

from finetune.chat.batches import check_global_batch
from finetune.engine.engine import start_engine
from finetune.evaluation.scoring import best_replies
from finetune.export.hub import check_repository
from finetune.export.receipt import publish
from finetune.export.saved_model import load_start
from finetune.supervised.plan import describe_plan, estimate_run, inspect_example
from finetune.supervised.results import finish, make_report
from finetune.supervised.settings import SftSettings
from finetune.supervised.stages import (
    ask_assistant,
    ask_base,
    choose_asked,
    describe_run,
    make_facts,
    make_monitor,
    optimizer_of,
    prepare_trainable_model,
    read_dataset,
    read_sets,
)
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.precision import expect_precision
from scratch_models.loop.run_folder import RunFolder, choose_run_folder
from scratch_models.loop.training import record_start, start_run, train
from tokenizer_ext.extension.report import describe as describe_extension
from tokenizer_ext.pages.plots import require_plots
from tokenizer_ext.pages.terminal import quiet_libraries


def fine_tune(settings: SftSettings) -> None:
    """Reads, extends, attaches, asks the base, trains, asks the assistant, saves, reports."""
    started = time.perf_counter()
    run, accelerator = prepare_launch(settings)
    torch.manual_seed(settings.seed)
    splits = read_sets(settings, accelerator)
    model, tokenizer = load_start(settings.base, accelerator.device)
    trainable = prepare_trainable_model(settings, model, tokenizer, splits)
    engine = start_engine(trainable.model, settings, accelerator, run=run, packing=settings.packing)
    dataset = read_dataset(settings, trainable, engine, splits, accelerator)
    if settings.inspect is not None:
        accelerator.print(inspect_example(settings.inspect, trainable, dataset, accelerator))
        return
    asked = choose_asked(settings, trainable, tokenizer, splits.held_out)
    if settings.dry_run:
        accelerator.print(describe_plan(settings, trainable, dataset, engine))
        accelerator.print(estimate_run(settings, trainable, engine, dataset, asked, accelerator, started).describe())
        return
    shown = describe_extension(trainable.extended.certificate), dataset.describe(), engine.describe()
    accelerator.print(*shown, sep="\n")
    run = start_run(run, settings, accelerator, make_facts(trainable, tokenizer, splits, engine))
    base = ask_base(settings, asked, accelerator)
    monitor = make_monitor(settings, trainable, engine, dataset, best_replies(base), accelerator)
    if not settings.resume:
        record_start(monitor, run, accelerator)
    optimizer = optimizer_of(settings, trainable)
    train(
        monitor.loss_model, dataset.batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=monitor
    )
    engine.release()
    if accelerator.is_main_process:
        assistant = ask_assistant(settings, trainable, asked, settings.reply_tokens)
        title = f"{run.path.name}: an assistant made from {settings.base}"
        report = make_report(title, describe_run(settings, trainable, dataset, engine, run), run, base, assistant)
        finish(report, settings.base, trainable, run)
        publish(run, merge=settings.merge, push_to_hub=settings.push_to_hub)
    accelerator.end_training()


def prepare_launch(settings: SftSettings) -> tuple[RunFolder, Accelerator]:
    """The folder that the run will use and its processes; refuses what cannot work here, before anything is read."""
    require_plots()
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "sft", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator("auto", settings.log_with, run.path)  # the engine sees to the precision
    check_global_batch(settings.conversations_per_step, settings.accumulation_steps, accelerator.num_processes)
    expect_precision(settings.precision, accelerator.device)
    if settings.push_to_hub is not None:
        check_repository(settings.push_to_hub)
    return run, accelerator
