"""Turns a base model into an assistant.

    accelerate launch finetune/sft.py
    accelerate launch finetune/sft.py --base openai-community/gpt2 --data my_chats.jsonl
    accelerate launch finetune/sft.py --data my_chats.jsonl --dry_run    # what it would take
    accelerate launch finetune/sft.py --lora_options.use_dora --target_modules "[c_attn, c_proj]"
    accelerate launch finetune/sft.py --help

With no argument it takes the embedded base, teaches it the words of a domain that it never read, trains LoRA and the
rows of the new tokens on questions about that domain, and shows base and assistant side by side. It leaves `run.json`,
`metrics.jsonl`, `checkpoints/`, `final/` and `report.html` in a new folder under `runs/`. What can be set stands in
`sft_settings.py`.
"""

import dataclasses
import time

import torch
from accelerate import Accelerator

from configs import run_entry
from finetune.chat.batches import check_global_batch
from finetune.engine.engine import describe_engine, start_computing
from finetune.evaluation.scoring import best_replies
from finetune.export.hub import check_repository
from finetune.export.receipt import publish
from finetune.supervised.plan import describe_plan, estimate_run, inspect_example
from finetune.supervised.results import finish, make_report
from finetune.supervised.settings import SftSettings
from finetune.supervised.stages import (
    ask_assistant,
    ask_base,
    choose_asked,
    describe_run,
    load_base,
    make_facts,
    make_monitor,
    optimizer_of,
    prepare_trainable_model,
    read_dataset,
    read_sets,
)
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.precision import expect_precision
from scratch_models.loop.run_folder import choose_run_folder
from scratch_models.loop.training import record_start, start_run, train
from tokenizer_ext.extension.report import describe as describe_extension
from tokenizer_ext.pages.plots import require_plots
from tokenizer_ext.pages.terminal import quiet_libraries


def main(settings: SftSettings) -> None:
    """Reads, extends, attaches, asks the base, trains, asks the assistant, saves, reports."""
    started = time.perf_counter()
    require_plots()
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "sft", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator("auto", settings.log_with, run.path)  # the engine sees to the precision
    check_launch(settings, accelerator)
    torch.manual_seed(settings.seed)
    splits = read_sets(settings, accelerator)
    model, tokenizer = load_base(settings.base, accelerator)
    trainable = prepare_trainable_model(settings, model, tokenizer, splits)
    dataset = read_dataset(settings, trainable, splits, accelerator)
    if settings.inspect is not None:
        accelerator.print(inspect_example(settings.inspect, trainable, dataset, accelerator))
        return
    asked = choose_asked(settings, trainable, tokenizer, splits.held_out)
    computing = start_computing(trainable.model, settings, accelerator, run, packed=dataset.batches.packed)
    if settings.dry_run:
        accelerator.print(describe_plan(settings, trainable, dataset, computing))
        accelerator.print(estimate_run(settings, trainable, dataset, asked, accelerator, started).describe())
        return
    accelerator.print(describe_extension(trainable.extended.certificate), dataset.describe(), sep="\n")
    accelerator.print(describe_engine(computing.engine))
    run = start_run(run, settings, accelerator, make_facts(trainable, tokenizer, splits, computing))
    base = ask_base(settings, asked, accelerator)
    monitor = make_monitor(settings, trainable, dataset, best_replies(base), accelerator)
    if not settings.resume:
        record_start(monitor, run, accelerator)
    optimizer = optimizer_of(settings, trainable)
    train(
        monitor.loss_model, dataset.batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=monitor
    )
    computing.release()
    if accelerator.is_main_process:
        assistant = ask_assistant(settings, trainable, asked, settings.reply_tokens)
        title = f"{run.path.name}: an assistant made from {settings.base}"
        report = make_report(title, describe_run(settings, trainable, dataset, computing, run), run, base, assistant)
        finish(report, settings.base, trainable, run)
        publish(run, merge=settings.merge, push_to_hub=settings.push_to_hub)
    accelerator.end_training()


def check_launch(settings: SftSettings, accelerator: Accelerator) -> None:
    """Refuses what cannot work on this machine, before anything is read."""
    check_global_batch(settings.conversations_per_step, settings.accumulation_steps, accelerator.num_processes)
    expect_precision(settings.precision, accelerator.device)
    if settings.push_to_hub is not None:
        check_repository(settings.push_to_hub)


if __name__ == "__main__":
    run_entry(main, SftSettings)
