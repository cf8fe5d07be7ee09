"""What a fine-tuning run would do, shown before it is done: its settings, its first example, its time and memory."""

import dataclasses
import sys
import time
from collections.abc import Sequence

from accelerate import Accelerator

from configs import InputError
from finetune.chat.dataset import SupervisedDataset, first_example
from finetune.chat.mask_page import mask_as_html
from finetune.conversations.formats import Conversation
from finetune.engine.engine import Engine
from finetune.evaluation.scoring import answer
from finetune.export.saved_model import load_start
from finetune.lora.trainable_model import TrainableModel
from finetune.supervised.estimate import (
    Asking,
    Estimate,
    estimate_asking,
    estimate_training,
    evaluations_of,
    peak_device_bytes,
    peak_memory_bytes,
    seconds_of,
)
from finetune.supervised.settings import SftSettings
from finetune.supervised.stages import ask_assistant, ask_in_every_format, make_monitor, optimizer_of
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.loop.run_folder import RUNS
from tokenizer_ext.extension.report import describe as describe_extension

ROWS_AT_ONCE = 32
"""Questions that `generate_ids` answers at once."""


def describe_plan(settings: SftSettings, trainable: TrainableModel, dataset: SupervisedDataset, engine: Engine) -> str:
    """What a run would do: settings, parameters, tokens of an epoch, and the first example with its mask."""
    parameters, trained = trainable.count_parameters()
    return "\n".join(
        [
            *(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()),
            describe_extension(trainable.extended.certificate),
            f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
            dataset.describe(),
            engine.describe(),
            "first example, with what is learned marked:",
            first_example(dataset, trainable.tokenizer, colour=sys.stdout.isatty()),
        ]
    )


def estimate_run(
    settings: SftSettings,
    trainable: TrainableModel,
    engine: Engine,
    dataset: SupervisedDataset,
    asked: Sequence[Conversation],
    accelerator: Accelerator,
    started: float,
) -> Estimate:
    """What the run would take: each part of `main` is done a little, in its order; `started` is when it began."""
    seconds = {"reading and extending": time.perf_counter() - started}
    limit, at_once = settings.reply_tokens, evenly_spaced(asked, ROWS_AT_ONCE)
    # Once trained, an assistant's replies are about as long as those that it learned from.
    usual = min(limit, max(sum(one.supervised) for one in dataset.held_out))
    batches, evaluations = len(asked) / len(at_once), evaluations_of(settings)
    if accelerator.is_main_process:
        seconds["asking the base"] = estimate_base(settings, at_once, batches, accelerator)
    monitor = make_monitor(settings, trainable, engine, dataset, [], accelerator)
    optimizer = optimizer_of(settings, trainable)
    seconds["training"] = estimate_training(monitor.loss_model, dataset.batches, optimizer, settings, accelerator)
    seconds["evaluations"] = (evaluations + 1) * seconds_of(monitor.held_out)
    if accelerator.is_main_process:
        watched, times = evenly_spaced(asked, settings.evaluation_replies), evaluations + limit / usual
        asking = Asking(lambda tokens: answer(trainable.model, monitor.prompt_format, watched, tokens), times, usual)
        seconds["evaluations"] += estimate_asking(asking) if watched else 0.0
        asking = Asking(lambda tokens: ask_assistant(settings, trainable, at_once, tokens), batches, usual)
        seconds["asking the assistant"] = estimate_asking(asking)
    # What is merged is read back while the model that was trained still lies beside it.
    merged = sum(one.numel() * one.element_size() for one in trainable.model.parameters()) if settings.merge else 0
    return Estimate(seconds, peak_memory_bytes() + merged, peak_device_bytes(accelerator))


def estimate_base(
    settings: SftSettings, at_once: Sequence[Conversation], batches: float, accelerator: Accelerator
) -> float:
    """Seconds that the base's replies take; the base is gone from memory when they are known, as it is in a run."""
    base = load_start(settings.base, accelerator.device)
    limit = settings.reply_tokens
    return estimate_asking(Asking(lambda tokens: ask_in_every_format(settings, *base, at_once, tokens), batches, limit))


def inspect_example(
    number: int, trainable: TrainableModel, dataset: SupervisedDataset, accelerator: Accelerator
) -> str:
    """Where the page of an example with its mask is, which the main process writes."""
    if not 1 <= number <= len(dataset.training):
        raise InputError(f"inspect: found {number}, expected the number of an example, 1 to {len(dataset.training):,}")
    page = RUNS / f"inspect-{number}.html"
    if accelerator.is_main_process:
        page.parent.mkdir(exist_ok=True)
        title = f"Example {number} of {len(dataset.training):,}: what is learned"
        page.write_text(mask_as_html(dataset.training[number - 1], trainable.tokenizer, title), encoding="utf-8")
    return f"{dataset.describe()}\nExample {number} with what is learned of it: {page}"
