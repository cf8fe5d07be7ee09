"""Preference tuning from its settings to its report: what happens, in order."""

import dataclasses

import torch

from finetune.engine.engine import start_engine
from finetune.evaluation.questions_asked import asked_questions
from finetune.evaluation.scoring import Evaluation, best_replies, evaluate
from finetune.export.base_on_disk import round_new_rows
from finetune.export.hub import check_repository
from finetune.export.receipt import publish
from finetune.files.rows_in_memory import KEPT_HELD_OUT, keep_rows
from finetune.lora.launch import prepare_launch
from finetune.lora.resolved_settings import resolve
from finetune.lora.trainable_model import make_optimizer
from finetune.preference.batches import PAIRS
from finetune.preference.dpo_loss import PreferenceLoss
from finetune.preference.monitor import PreferenceMonitor
from finetune.preference.results import finish_preferences, make_preference_report
from finetune.preference.settings import DpoSettings
from finetune.preference.stages import (
    ask_reference,
    choose_asked,
    choose_objective,
    choose_prompt_formats,
    describe_facts,
    describe_plan,
    make_facts,
    read_dataset,
    read_splits,
)
from finetune.preference.start_model import read_trainable, take_calculator
from finetune.sliced.leaving import leave_slices
from scratch_models.launch.folder_lock import folders_released
from scratch_models.launch.waiting import wait_for_all
from scratch_models.loop.run_folder import RunFolder, refuse_other_settings
from scratch_models.loop.run_record import record_start, start_run
from scratch_models.loop.training import train
from scratch_models.sharded.sliced_model import SlicedModel
from tokenizer_ext.pages.progress import progress


@folders_released()
def teach_preferences(settings: DpoSettings) -> RunFolder | None:
    """Reads, attaches, asks the reference, trains, asks again, saves, reports; returns the run, None of a dry run."""
    settings = take_calculator(settings)
    settings, run, accelerator = prepare_launch(settings, "dpo", "pairs_per_step")
    check_repository(settings.push_to_hub)
    torch.manual_seed(settings.seed)
    splits = read_splits(settings, accelerator)
    trainable, settings, sliced = read_trainable(settings, accelerator)
    engine = start_engine(trainable.model, settings, accelerator, run=run)
    dataset = read_dataset(settings, trainable, engine, splits, accelerator.num_processes)
    settings = resolve(settings, trainable.model, dataset.batches, pairs_per_step=dataset.batches.per_step)
    if settings.resume:
        refuse_other_settings(run.path, dataclasses.asdict(settings))
    prompt_formats = choose_prompt_formats(settings, trainable)
    asked = choose_asked(settings, trainable, dataset, prompt_formats)
    accelerator.print(*describe_plan(settings, trainable, dataset, engine), sep="\n")
    if settings.dry_run:
        return None
    facts = make_facts(settings, trainable, dataset, splits, engine)
    run = start_run(run, settings, accelerator, facts, trainable.model)
    loss_model = PreferenceLoss(trainable.model, choose_objective(settings, trainable), engine)
    reference = ask_reference(settings, trainable, engine, dataset, prompt_formats, asked, run, accelerator)
    if accelerator.is_main_process:
        keep_rows(settings.data, run.path)
        keep_rows(settings.held_out or "", run.path, KEPT_HELD_OUT)
        run.note(questions_asked=len(asked_questions(reference)))
    best = best_replies(reference)
    monitor = PreferenceMonitor(trainable, loss_model, dataset, best, accelerator, settings.reply_tokens)
    record_start(monitor, run, settings, accelerator)
    loop, batches = settings.loop, dataset.batches
    optimizers = [make_optimizer(trainable, loop.learning_rate, loop.learning_rate, loop.weight_decay)]
    train(loss_model, batches, optimizers, loop, accelerator=accelerator, run=run, evaluate=monitor, unit=PAIRS)
    held_out = monitor.measure()
    engine.release()
    if accelerator.is_main_process or sliced is not None:
        facts = describe_facts(settings, trainable, dataset, engine, run)
        finish_run(settings, monitor, reference, facts, held_out, run, sliced)
    wait_for_all(accelerator)  # whoever called this may open the model now, in any process
    accelerator.end_training()
    return run


def finish_run(
    settings: DpoSettings,
    monitor: PreferenceMonitor,
    reference: dict[str, Evaluation],
    facts: dict[str, str],
    held_out: dict[str, float],
    run: RunFolder,
    sliced: SlicedModel | None = None,
) -> None:
    """Asks the tuned model what the reference was asked, saves it, reports, and merges or uploads it where wanted.

    Of a model that is spread over the processes all must call it, and the main one writes.
    """
    trainable, dataset = monitor.trainable, monitor.dataset
    round_new_rows(trainable.model)
    with progress("the tuned model"):
        asked = asked_questions(reference)
        tuned = evaluate(trainable.model, monitor.prompt_format, asked, settings.reply_tokens)
    leave_slices(trainable, sliced, run, monitor.accelerator)
    if not monitor.accelerator.is_main_process:
        return
    report = make_preference_report(settings.base, facts, run, dataset, reference, tuned, held_out)
    finish_preferences(report, settings.base, trainable, dataset.chat, run)
    publish(run, merge=settings.merge, push_to_hub=settings.push_to_hub)
