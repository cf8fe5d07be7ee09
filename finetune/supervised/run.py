"""Supervised fine-tuning from its settings to its report: what happens, in order."""

import dataclasses
import time
from typing import Any

import torch
from accelerate import Accelerator

from finetune.chat.chat_format import describe_format
from finetune.engine.engine import Engine
from finetune.evaluation.questions_asked import ask_base_questions, asked_questions
from finetune.evaluation.report import describe_run
from finetune.evaluation.scoring import Evaluation, best_replies, evaluate, ways_to_ask
from finetune.export.base_on_disk import config_hash, round_new_rows
from finetune.export.hub import check_repository
from finetune.export.receipt import publish
from finetune.files.rows_in_memory import KEPT_HELD_OUT, keep_rows
from finetune.files.weighted_sets import describe_data
from finetune.lora.launch import prepare_launch
from finetune.lora.resolved_settings import describe_course, epochs_of
from finetune.lora.trainable_model import TrainableModel
from finetune.sliced.leaving import leave_slices
from finetune.sliced.sliced_base import train_in_slices
from finetune.supervised.plan import inspect_example, rehearse_run
from finetune.supervised.results import finish, make_report
from finetune.supervised.settings import SftSettings
from finetune.supervised.stages import Start, Training, prepare_training, read_start
from scratch_models.launch.folder_lock import folders_released
from scratch_models.launch.waiting import wait_for_all
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.run_record import record_start, start_run
from scratch_models.loop.training import train
from scratch_models.sharded.sliced_model import SlicedModel
from tokenizer_ext.extension.report import describe as describe_extension
from tokenizer_ext.pages.progress import progress


@folders_released()
def fine_tune(settings: SftSettings) -> RunFolder | None:
    """Reads, asks the base, extends, attaches, trains, asks the assistant, saves, reports.

    Returns the folder of the run; None where it is only shown what a run would do.
    """
    started = time.perf_counter()
    settings, run, accelerator = prepare_launch(settings, "sft", "conversations_per_step")
    check_repository(settings.push_to_hub)
    torch.manual_seed(settings.seed)
    start = read_start(settings, run, accelerator)
    settings = start.settings
    if settings.inspect is not None:
        accelerator.print(inspect_example(settings.inspect, start, accelerator))
        return None
    if settings.dry_run:
        accelerator.print(rehearse_run(settings, start, run, accelerator, started))
        return None
    course = describe_course(settings, start.dataset.batches, "conversations")
    accelerator.print(describe_format(start.chat), course, sep="\n")
    base, training, sliced = ask_and_prepare(settings, start, run, accelerator)
    trainable, engine, monitor = training.trainable, training.engine, training.monitor
    shown = describe_extension(trainable.extended.certificate), training.dataset.describe(), engine.describe()
    accelerator.print(*shown, sep="\n")
    run = start_run(run, settings, accelerator, make_facts(start, trainable, engine), trainable.model)
    if accelerator.is_main_process:
        keep_rows(settings.data, run.path)
        keep_rows(settings.held_out or "", run.path, KEPT_HELD_OUT)
        run.note(questions_asked=len(asked_questions(base)))
    record_start(monitor, run, settings, accelerator)
    batches, optimizers = training.dataset.batches, [training.optimizer]
    train(monitor.loss_model, batches, optimizers, settings.loop, accelerator=accelerator, run=run, evaluate=monitor)
    engine.release()
    if accelerator.is_main_process or sliced is not None:
        finish_run(settings, start, training, base, run, accelerator, sliced)
    wait_for_all(accelerator)  # whoever called this may open the assistant now, in any process
    accelerator.end_training()
    return run


def ask_and_prepare(
    settings: SftSettings, start: Start, run: RunFolder, accelerator: Accelerator
) -> tuple[dict[str, Evaluation], Training, SlicedModel | None]:
    """The base's replies, and what trains; with what is spread over the processes where none could hold it whole.

    The main process asks a base that is whole, before it is changed. One that is spread gets its adapters first, which
    add nothing before they have trained, and all processes ask it.
    """
    if start.sliced is None:
        base = ask_base(settings, start, run, accelerator) if accelerator.is_main_process else {}
        wait_for_all(accelerator)
        return base, prepare_training(settings, start, best_replies(base), run, accelerator), None
    trainable, sliced = train_in_slices(start.sliced, settings, accelerator)
    base = ask_base(settings, start, run, accelerator)
    return base, prepare_training(settings, start, best_replies(base), run, accelerator, trainable), sliced


def ask_base(settings: SftSettings, start: Start, run: RunFolder, accelerator: Accelerator) -> dict[str, Evaluation]:
    """The base's replies in every prompt format that it may understand, to as many questions as there is time for."""
    ways = ways_to_ask(settings, start.plan.base, start.model)
    how = "in its chat format" if "chat" in ways else f"in {len(ways)} prompt formats"
    accelerator.print(f"Asking the base up to {len(start.asked)} held-out questions {how} …", flush=True)
    return ask_base_questions(
        start.model,
        ways,
        start.asked,
        settings.reply_tokens,
        number_given=settings.evaluation_conversations is not None,
        minutes=settings.evaluation_minutes,
        recorded=run.questions_asked if settings.resume else None,
    )


def finish_run(
    settings: SftSettings,
    start: Start,
    training: Training,
    base: dict[str, Evaluation],
    run: RunFolder,
    accelerator: Accelerator,
    sliced: SlicedModel | None = None,
) -> None:
    """Asks the assistant what the base was asked, saves it, reports, and merges or uploads it where that is wanted.

    Of a model that is spread over the processes all must call it, and the main one writes.
    """
    trainable = training.trainable
    round_new_rows(trainable.model)
    with progress("the assistant"):
        asked = asked_questions(base)
        assistant = evaluate(trainable.model, training.monitor.prompt_format, asked, settings.reply_tokens)
    leave_slices(trainable, sliced, run, accelerator)
    if not accelerator.is_main_process:
        return
    report = make_report(settings.base, describe_facts(settings, training, run), run, base, assistant)
    finish(report, settings.base, trainable, start.chat, run)
    publish(run, merge=settings.merge, push_to_hub=settings.push_to_hub)


def describe_facts(settings: SftSettings, training: Training, run: RunFolder) -> dict[str, str]:
    """What the report says that the run was."""
    certificate = training.trainable.extended.certificate
    new_tokens = f"{certificate.new_tokens} learned, {certificate.control_tokens} control tokens"
    return describe_run(
        {"base": settings.base, "data": describe_data(settings.data), "method": settings.method},
        training.trainable,
        {
            "chat": describe_format(training.dataset.chat),
            "new tokens": new_tokens,
            "read": training.dataset.describe(),
            "trained": describe_course(settings, training.dataset.batches, "conversations"),
        },
        training.engine,
        run,
    )


def make_facts(start: Start, trainable: TrainableModel, engine: Engine) -> dict[str, Any]:
    """What the run is made of, as hashes, what the extension changed, and how the run computes."""
    return {
        "data_sha256": start.data_sha256,
        "conversations_drawn": start.dataset.drawn and start.dataset.drawn.number,
        "epochs": epochs_of(start.settings, start.dataset.batches),
        "chat_format": start.chat.name,
        **trainable.hashes(),
        **config_hash(start.model),
        "extension": dataclasses.asdict(trainable.extended.certificate),
        **engine.facts(),
    }
