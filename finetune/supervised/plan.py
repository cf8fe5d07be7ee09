"""What a fine-tuning run would do, shown before it is done: its settings, its first example, its time and memory."""

import dataclasses
import sys
import time
from collections.abc import Sequence

from accelerate import Accelerator
from transformers import PreTrainedModel

from configs import InputError
from configs.whole_folder import write_whole
from finetune.chat.chat_format import describe_format
from finetune.chat.dataset import first_example
from finetune.chat.mask_page import mask_as_html
from finetune.conversations.formats import Conversation
from finetune.evaluation.questions_asked import FEWEST_QUESTIONS, spread
from finetune.evaluation.scoring import evaluate, ways_to_ask
from finetune.lora.resolved_settings import describe_course
from finetune.replies.generation import ROWS_AT_ONCE
from finetune.replies.prompts import PromptFormat
from finetune.supervised.estimate import (
    FEW_TOKENS,
    SLOW_SECONDS,
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
from finetune.supervised.stages import Start, Training, prepare_training
from scratch_models.loop.run_folder import RUNS, RunFolder
from tokenizer_ext.extension.report import describe as describe_extension
from tokenizer_ext.pages.progress import shown

QUESTIONS_WHERE_SLOW = 4


@shown("looking ahead")
def rehearse_run(settings: SftSettings, start: Start, run: RunFolder, accelerator: Accelerator, started: float) -> str:
    """What a run would do and take: each part of it is done a little, in its order; `started` is when it began."""
    read = time.perf_counter()
    of_base = {"asking the base": estimate_base(settings, start)} if accelerator.is_main_process else {}
    asked = time.perf_counter()
    training = prepare_training(settings, start, [], run, accelerator)
    seconds = {"reading and extending": read - started + time.perf_counter() - asked, **of_base}
    shown = describe_plan(settings, training)
    return f"{shown}\n{estimate_run(settings, start, training, accelerator, seconds).describe()}"


def describe_plan(settings: SftSettings, training: Training) -> str:
    """What a run would do: settings, parameters, tokens of an epoch, and the first example with its mask."""
    trainable = training.trainable
    parameters, trained = trainable.count_parameters()
    return "\n".join(
        [
            *(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()),
            describe_extension(trainable.extended.certificate),
            f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
            training.dataset.describe(),
            describe_course(settings, training.dataset.batches, "conversations"),
            training.engine.describe(),
            describe_format(training.dataset.chat),
            "first example, with what is learned marked:",
            first_example(training.dataset, colour=sys.stdout.isatty()),
        ]
    )


def estimate_run(
    settings: SftSettings, start: Start, training: Training, accelerator: Accelerator, seconds: dict[str, float]
) -> Estimate:
    """What the run would take in all; `seconds` holds what was measured before there was anything to train."""
    model, monitor, limit = training.trainable.model, training.monitor, settings.reply_tokens
    # Once trained, an assistant's replies are about as long as those that it learned from.
    usual = min(limit, max(sum(one.supervised) for one in start.dataset.held_out))
    evaluations = evaluations_of(settings.loop)
    seconds["training"] = estimate_training(
        monitor.loss_model, training.dataset.batches, training.optimizer, settings.loop, accelerator
    )
    seconds["evaluations"] = (evaluations + 1) * seconds_of(monitor.held_out)
    if accelerator.is_main_process:
        of_one = estimate_asking(asking_of(model, [monitor.prompt_format], start.asked, usual))
        watched = min(settings.evaluation_replies, len(start.asked))
        seconds["evaluations"] += of_one * watched * (evaluations + limit / usual)
        seconds["asking the assistant"] = of_one * questions_in_time(settings, start, seconds["asking the base"])
        seconds["asking the base"] *= questions_in_time(settings, start, seconds["asking the base"])
    # What is merged is read back while the model that was trained still lies beside it.
    merged = sum(weight.numel() * weight.element_size() for weight in model.parameters()) if settings.merge else 0
    return Estimate(seconds, peak_memory_bytes() + merged, peak_device_bytes(accelerator))


def questions_in_time(settings: SftSettings, start: Start, seconds_each: float) -> int:
    """How many questions the run would ask, where the base takes so long for each."""
    if settings.evaluation_conversations is not None:
        return len(start.asked)
    fitting = int(60 * settings.evaluation_minutes / seconds_each) // FEWEST_QUESTIONS * FEWEST_QUESTIONS
    return min(len(start.asked), max(fitting, FEWEST_QUESTIONS))


def asking_of(
    model: PreTrainedModel, ways: Sequence[PromptFormat], askable: Sequence[Conversation], tokens: int
) -> Asking:
    """What one question of many costs, tried with as many as are answered at once, or with few where that is slow."""

    def ask(number: int, tokens: int) -> object:
        return [evaluate(model, way, spread(askable, number), tokens) for way in ways]

    few = min(2, len(askable))
    is_slow = seconds_of(lambda: ask(few, FEW_TOKENS)) / few * ROWS_AT_ONCE > SLOW_SECONDS
    number = min(len(askable), QUESTIONS_WHERE_SLOW if is_slow else ROWS_AT_ONCE)
    return Asking(lambda tokens: ask(number, tokens), 1 / number, tokens)


def estimate_base(settings: SftSettings, start: Start) -> float:
    """Seconds that the base takes for a question."""
    ways = list(ways_to_ask(settings, start.plan.base, start.model).values())
    return estimate_asking(asking_of(start.model, ways, start.asked, settings.reply_tokens))


def inspect_example(number: int, start: Start, accelerator: Accelerator) -> str:
    """Where the page of an example with its mask is, which the main process writes.

    Raises:
        InputError: there is no example of this number.

    """
    dataset = start.dataset
    if not 1 <= number <= len(dataset.training):
        raise InputError(f"inspect: found {number}, expected the number of an example, 1 to {len(dataset.training):,}")
    page = RUNS / f"inspect-{number}.html"
    if accelerator.is_main_process:
        title = f"Example {number} of {len(dataset.training):,}: what is learned"
        write_whole(page, mask_as_html(dataset.training[number - 1], start.chat, title))
    return f"{dataset.describe()}\nExample {number} with what is learned of it: {page}"
