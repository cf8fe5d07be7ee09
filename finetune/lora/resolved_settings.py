"""What a run takes where its settings say nothing: steps, rate and warm-up, from the data, the base and the method."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from transformers import PreTrainedModel

from configs import InputError
from finetune.lora.tuning_settings import TuningSettings
from scratch_models.loop.run_folder import RECORD, RunFolder

S = TypeVar("S", bound=TuningSettings)

FEWEST_PER_STEP, MOST_PER_STEP = 4, 32
STEPS_OF_AN_EPOCH = 16
"""At least so many where there is enough to read: a few dozen examples in two steps would teach next to nothing."""
WIDTH, WIDTH_POWER, LORA_FACTOR = 2000, 0.781, 10
MAXIMUM_TOKENS = 1024


class Epochs(Protocol):
    """What is read, in steps."""

    @property
    def per_step(self) -> int:
        """What a step reads, over all processes."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which all of it is read once."""


def choose_per_step(examples: int, parts: int) -> int:
    """Conversations or pairs of a step: a power of two from 4 to 32, few where there are few, and shared out evenly.

    `parts` is what a step is shared out to: processes times accumulation steps.

    >>> [choose_per_step(examples, parts=1) for examples in (10, 45, 200, 500, 7473)], choose_per_step(45, parts=6)
    ([4, 4, 8, 16, 32], 6)
    """
    suited = 2 ** int(math.log2(max(examples / STEPS_OF_AN_EPOCH, 1)))
    return math.ceil(min(max(suited, FEWEST_PER_STEP), MOST_PER_STEP) / parts) * parts


def choose_maximum_tokens(given: int | None, positions: int | None) -> int:
    """The longest conversation in tokens, where the base has so many positions; None where it has no end.

    >>> choose_maximum_tokens(None, 96), choose_maximum_tokens(None, 8192), choose_maximum_tokens(8192, 8192)
    (96, 1024, 8192)

    Raises:
        InputError: more are given than the base can read at once.

    """
    if given is None:
        return min(MAXIMUM_TOKENS, positions or MAXIMUM_TOKENS)
    if positions is not None and given > positions:
        raise InputError(
            f"maximum_tokens: found {given:,}, but the base reads {positions:,} tokens at once: pass at most that, or "
            "scale its rotary positions with --rope_scaling.rope_type yarn --rope_scaling.factor "
            f"{-(-given // positions)}"
        )
    return given


def suited_learning_rate(hidden_size: int, full_rate: float, *, lora: bool) -> float:
    """A peak rate for a pretrained model of this width; `full_rate` is that of every weight at a width of 2,000.

    The law is Thinking Machines' fit over Llama models (https://tinker-docs.thinkingmachines.ai, `get_lr`): it falls
    with the width to the power of 0.781, and LoRA wants ten times the rate of full tuning (Schulman et al. 2025, "LoRA
    Without Regret"). TRL's defaults, 2e-5 for full tuning and 2e-4 with LoRA whatever the model, lie on it at 6,000.

    >>> [suited_learning_rate(width, 5e-5, lora=True) for width in (576, 768, 2048, 4096)]
    [0.0013, 0.0011, 0.00049, 0.00029]
    """
    rate = full_rate * (WIDTH / hidden_size) ** WIDTH_POWER * (LORA_FACTOR if lora else 1)
    return float(f"{rate:.1e}")


def resolve(settings: S, model: PreTrainedModel, batches: Epochs, **known: Any) -> S:
    """The settings with steps, warm-up, rate and what else is `known` as the run takes them; shares become steps.

    Raises:
        InputError: a rate is given and what multiplies the usual one, too.

    """
    steps, warmup, rate = settings.max_steps, settings.warmup_steps, settings.learning_rate
    if steps is None:
        epochs = settings.EPOCHS if settings.epochs is None else settings.epochs
        steps = max(1, math.ceil(round(epochs * batches.steps_per_epoch, 6)))
    if warmup is None:
        share = settings.WARMUP_SHARE if settings.warmup_share is None else settings.warmup_share
        warmup = round(share * steps)
    if rate is None:
        width = model.config.get_text_config().hidden_size
        rate = suited_learning_rate(width, settings.FULL_RATE, lora=settings.method == "lora")
        rate *= settings.learning_rate_multiplier
    elif settings.learning_rate_multiplier != 1 and not settings.resume:  # a run that goes on has its own rate
        raise InputError(f"learning_rate_multiplier: found beside learning_rate {rate}, expected one of them")
    length: dict[str, Any] = {"max_steps": steps, "epochs": None, "warmup_steps": warmup, "warmup_share": None}
    return replace(settings, learning_rate=rate, **length, **known)


def describe_course(settings: TuningSettings, batches: Epochs, what: str) -> str:
    """How long a run trains, how fast, and in what steps, in one line; `what` a step reads so many of.

    >>> class Read:
    ...     per_step, steps_per_epoch = 4, 12
    >>> class Settings(TuningSettings):
    ...     EPOCHS, FULL_RATE = 3.0, 5e-5
    >>> print(describe_course(Settings(max_steps=36, warmup_steps=2, learning_rate=1.3e-3), Read, "conversations"))
    trains LoRA of rank 16: 3 epochs, 36 steps of 4 conversations; learning rate 0.0013, cosine after 2 steps of warm-up
    """
    trained = f"LoRA of rank {settings.lora_rank}" if settings.lora else "every weight"
    return (
        f"trains {trained}: {epochs_in_words(settings, batches)}, {settings.max_steps:,} steps of {batches.per_step} "
        f"{what}; learning rate {settings.learning_rate:g}, {settings.schedule} after {settings.warmup_steps:,} steps "
        "of warm-up"
    )


def epochs_of(settings: TuningSettings, batches: Epochs) -> float:
    """How often a run reads all its data."""
    return settings.loop.max_steps / batches.steps_per_epoch


def epochs_in_words(settings: TuningSettings, batches: Epochs) -> str:
    """The same as people say it."""
    epochs = float(f"{epochs_of(settings, batches):.3g}")
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def take_recorded(settings: S) -> S:
    """The settings of a run that goes on, with what it recorded where they say nothing."""
    if not settings.resume or settings.output_dir is None or not (Path(settings.output_dir) / RECORD).is_file():
        return settings
    recorded = RunFolder(Path(settings.output_dir)).record()["settings"]
    said_otherwise = {one for one, other in settings.ONE_OF if getattr(settings, other) is not None}
    missing = [one.name for one in fields(settings) if getattr(settings, one.name) is None]
    known = {name: recorded[name] for name in missing if name in settings.RESOLVED and recorded.get(name) is not None}
    return replace(settings, **{name: value for name, value in known.items() if name not in said_otherwise})


def as_given(settings: TuningSettings) -> dict[str, object]:
    """The settings that are known before base and data are read."""
    named = {one.name: getattr(settings, one.name) for one in fields(settings)}
    return {name: value for name, value in named.items() if value is not None or name not in settings.RESOLVED}
