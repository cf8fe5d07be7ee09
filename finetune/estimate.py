"""What a run would take in time and memory, measured by doing a little of it: some steps, one evaluation, some replies.

Everything else is counted: the tokens of all steps, the evaluations, the questions.
"""

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator

from scratch_models.loop.loop_settings import LoopSettings

FEW_TOKENS, MORE_TOKENS = 2, 18
REPEATS = 2


@dataclass(frozen=True)
class Asking:
    """Replies that a run asks a model for."""

    ask: Callable[[int], object]
    """Asks as many questions as are answered at once, for replies of at most so many tokens."""
    times: float
    """How often the run does that."""
    tokens: int
    """How long the longest of its replies are."""


@dataclass(frozen=True)
class Estimate:
    """What a run would take."""

    seconds: Mapping[str, float]
    """What it does -> how long that takes."""
    memory_bytes: int
    """The most that a process holds at once."""
    device_bytes: int | None
    """The most that it holds of its GPU, where it has one."""

    def describe(self) -> str:
        """A line for each part, and one for the memory.

        >>> print(Estimate({"training": 190.0, "evaluations": 14.9}, 1_234_000_000, None).describe())
        estimated by doing a little of it:
          training                  3 min 10 s
          evaluations                     15 s
          in all                    3 min 25 s
          memory                       1.23 GB in each process
        """
        figures = {name: in_words(one) for name, one in self.seconds.items()}
        figures["in all"] = in_words(sum(self.seconds.values()))
        figures["memory"] = f"{self.memory_bytes / 1e9:.2f} GB"
        lines = [f"  {name:<24} {figure:>11}" for name, figure in figures.items()]
        device = "" if self.device_bytes is None else f", and {self.device_bytes / 1e9:.2f} GB of its GPU"
        return "\n".join(["estimated by doing a little of it:", *lines]) + f" in each process{device}"


def in_words(seconds: float) -> str:
    """A duration as people say it.

    >>> in_words(0.34), in_words(59.6), in_words(3600), in_words(93784)
    ('0 s', '1 min 0 s', '1 h 0 min', '1 d 2 h')
    """
    whole = round(seconds)
    for unit, smaller, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // {'h': 3600, 'min': 60, 's': 1}[smaller]} {smaller}"
    return f"{whole} s"


def estimate_asking(asking: Asking) -> float:
    """Seconds that all those replies take: what goes before the first token, and so much for each token."""
    asking.ask(FEW_TOKENS)  # fills caches
    few, more = (
        min(seconds_of(partial(asking.ask, tokens)) for _ in range(REPEATS)) for tokens in (FEW_TOKENS, MORE_TOKENS)
    )
    per_token = max(0.0, more - few) / (MORE_TOKENS - FEW_TOKENS)
    return asking.times * (few + per_token * max(0, asking.tokens - FEW_TOKENS))


def evaluations_of(settings: LoopSettings) -> int:
    """How often a run evaluates while it trains, the last step included, the start not.

    >>> evaluations_of(LoopSettings(max_steps=250, learning_rate=1e-3, evaluation_steps=100))
    3
    """
    every = settings.evaluation_steps or settings.max_steps
    return -(-settings.max_steps // every)


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_bytes(accelerator: Accelerator) -> int | None:
    """The most that this process has taken of its GPU so far."""
    return torch.cuda.max_memory_reserved(accelerator.device) if accelerator.device.type == "cuda" else None


def seconds_of(do: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start
