"""What a run would take in time and memory, measured by doing a little of it: some steps, one evaluation, some replies.

Everything else is counted: the tokens of all steps, the evaluations, the questions.
"""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from configs.disk_space import temporary_folder
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import Batches, MicroBatch
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import train
from tokenizer_ext.pages.progress import progress

FEW_TOKENS, MORE_TOKENS = 2, 18
REPEATS = 2
SLOW_SECONDS = 3.0
"""What takes longer is measured once, with fewer questions and parts of steps: a look ahead must not take minutes."""


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
        figures = {name: in_words(seconds) for name, seconds in self.seconds.items()}
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
    few = seconds_of(partial(asking.ask, FEW_TOKENS))  # fills caches
    repeats = 1 if few > SLOW_SECONDS else REPEATS
    if few <= SLOW_SECONDS:
        few = min(seconds_of(partial(asking.ask, FEW_TOKENS)) for _ in range(repeats))
    more = min(seconds_of(partial(asking.ask, MORE_TOKENS)) for _ in range(repeats))
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


STEPS_LOOKED_AT = 400
MEASURED_TOKENS = 20_000


FEWEST_STEPS, MOST_STEPS = 5, 20
LARGE_STEP_TOKENS, LARGE_STEPS = 3_000, 2
"""Of steps with more tokens so many are done, and of each the largest micro-batch alone."""


def estimate_training(
    loss_model: nn.Module,
    batches: Batches,
    optimizer: Optimizer,
    settings: LoopSettings,
    accelerator: Accelerator,
) -> float:
    """Seconds that all steps take, without evaluations; every process trains the model a few steps meanwhile."""
    costs = step_costs(batches, settings.max_steps, accelerator.num_processes)
    steps, in_part = choose_steps(costs), mean_tokens(costs) > LARGE_STEP_TOKENS
    if in_part:
        steps = steps[:LARGE_STEPS]
    seconds = rehearse(loss_model, ChosenSteps(batches, steps, in_part), optimizer, settings, accelerator)
    return seconds_of_all(costs, dict(zip(steps, seconds, strict=True)), settings.max_steps, in_part=in_part)


def seconds_of_all(
    costs: Mapping[int, "StepCost"], done: Mapping[int, float], max_steps: int, *, in_part: bool = False
) -> float:
    """Seconds that all steps take, told from those of some, which stand in the order in which they were done.

    With `in_part` the largest micro-batch of each was done alone.

    >>> costs = {0: StepCost(100, 100), 1: StepCost(300, 100)}
    >>> seconds_of_all(costs, {1: 5.0, 0: 0.2}, max_steps=11)
    9.0
    >>> round(seconds_of_all(costs, {1: 5.0, 0: 0.2}, max_steps=11, in_part=True), 6)
    9.4
    """
    first, *others = done  # the first step warms up: it fills caches, makes the optimizer's state, compiles
    read = {step: costs[step].largest if in_part else costs[step].filled for step in done}
    others = others or [first]
    rate = sum(done[step] for step in others) / sum(read[step] for step in others)
    return done[first] + rate * (costs[first].filled - read[first] + mean_tokens(costs) * (max_steps - 1))


def mean_tokens(costs: Mapping[int, "StepCost"]) -> float:
    """What a process reads in a step on average."""
    return sum(cost.filled for cost in costs.values()) / len(costs)


@dataclass(frozen=True)
class StepCost:
    """What one process reads in a step, filling included, in tokens."""

    filled: int
    largest: int
    """Of its micro-batches."""


def step_costs(
    batches: Batches, max_steps: int, processes: int, looked_at: int = STEPS_LOOKED_AT
) -> dict[int, StepCost]:
    """The costs of so many steps, spread evenly over the run."""
    costs = {}
    for step in evenly_spaced(range(max_steps), looked_at):
        tokens = [micro_batch["input_ids"].numel() for micro_batch in batches.micro_batches(step, 0, processes)]
        costs[step] = StepCost(sum(tokens), max(tokens))
    return costs


def choose_steps(costs: Mapping[int, StepCost]) -> list[int]:
    """The steps to do: the heaviest, then others spread over the run; the more of them, the less there is in one.

    >>> choose_steps({step: StepCost(filled=9000, largest=900 + step % 3) for step in range(8)})
    [2, 0, 2, 4, 6]
    """
    heaviest = max(costs, key=lambda step: costs[step].largest)
    number = max(FEWEST_STEPS, min(MOST_STEPS, round(MEASURED_TOKENS / mean_tokens(costs))))
    return [heaviest, *evenly_spaced(list(costs), number - 1)]


@dataclass(frozen=True)
class ChosenSteps:
    """Some steps of a run as if they were its first."""

    batches: Batches
    steps: Sequence[int]
    in_part: bool = False
    """Whether of each the largest micro-batch is read alone."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """What the chosen step reads."""
        found = self.batches.micro_batches(self.steps[step], rank, world_size)
        return [max(found, key=lambda one: one["input_ids"].numel())] if self.in_part else found

    def describe(self, step: int) -> str:
        """What the chosen step reads, by number."""
        return self.batches.describe(self.steps[step])


def rehearse(
    loss_model: nn.Module,
    chosen: ChosenSteps,
    optimizer: Optimizer,
    settings: LoopSettings,
    accelerator: Accelerator,
) -> list[float]:
    """Seconds of each chosen step, done by the training loop itself; what it writes is thrown away."""
    steps = len(chosen.steps)
    short = settings.rehearsal(steps=steps, warmup_steps=0)
    with temporary_folder() as folder:
        run = RunFolder(folder)
        with progress("trying a few steps"):
            train(loss_model, chosen, [optimizer], short, accelerator=accelerator, run=run, evaluate=lambda step: {})
        ended = [entry["seconds"] for entry in run.read_metrics()]  # none where this is not the main process
    return [end - start for start, end in zip([0.0, *ended], ended or [0.0] * steps, strict=False)]
