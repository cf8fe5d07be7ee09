"""The time that the steps of a run take, measured by doing some of them.

Those that are done are steps of the run, through its own loop, on all its processes. The heaviest comes first: after it
the process has held what the run will hold.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from finetune.conversation_sets import spread
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import Batches, MicroBatch
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import train

STEPS_LOOKED_AT = 400
MEASURED_TOKENS = 20_000
FEWEST_STEPS, MOST_STEPS = 5, 20


def estimate_training(
    loss_model: nn.Module,
    batches: Batches,
    optimizer: Optimizer,
    settings: LoopSettings,
    accelerator: Accelerator,
) -> float:
    """Seconds that all steps take, without evaluations; every process trains the model a few steps meanwhile."""
    costs = step_costs(batches, settings.max_steps, accelerator.num_processes)
    steps = choose_steps(costs)
    seconds = rehearse(loss_model, ChosenSteps(batches, steps), optimizer, settings, accelerator)
    # The first step warms up: it fills caches, makes the optimizer's state, compiles.
    rate = sum(seconds[1:]) / sum(costs[step].filled for step in steps[1:])
    mean_tokens = sum(cost.filled for cost in costs.values()) / len(costs)
    return seconds[0] + rate * mean_tokens * (settings.max_steps - 1)


@dataclass(frozen=True)
class StepCost:
    """What one process reads in a step, filling included, in tokens."""

    filled: int
    largest: int
    """Of its micro-batches."""


def step_costs(batches: Batches, max_steps: int, processes: int) -> dict[int, StepCost]:
    """The costs of some steps, spread evenly over the run."""
    costs = {}
    for step in spread(range(max_steps), STEPS_LOOKED_AT):
        tokens = [one["input_ids"].numel() for one in batches.micro_batches(step, 0, processes)]
        costs[step] = StepCost(sum(tokens), max(tokens))
    return costs


def choose_steps(costs: Mapping[int, StepCost]) -> list[int]:
    """The steps to do: the heaviest, then others spread over the run; the more of them, the less there is in one.

    >>> choose_steps({step: StepCost(filled=9000, largest=900 + step % 3) for step in range(8)})
    [2, 0, 2, 4, 6]
    """
    heaviest = max(costs, key=lambda step: costs[step].largest)
    mean_tokens = sum(cost.filled for cost in costs.values()) / len(costs)
    number = max(FEWEST_STEPS, min(MOST_STEPS, round(MEASURED_TOKENS / mean_tokens)))
    return [heaviest, *spread(list(costs), number - 1)]


@dataclass(frozen=True)
class ChosenSteps:
    """Some steps of a run as if they were its first."""

    batches: Batches
    steps: Sequence[int]

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """What the chosen step reads."""
        return self.batches.micro_batches(self.steps[step], rank, world_size)


def rehearse(
    loss_model: nn.Module,
    chosen: ChosenSteps,
    optimizer: Optimizer,
    settings: LoopSettings,
    accelerator: Accelerator,
) -> list[float]:
    """Seconds of each chosen step, done by the training loop itself; what it writes is thrown away."""
    steps = len(chosen.steps)
    short = dataclasses.replace(
        settings,
        max_steps=steps,
        warmup_steps=0,
        checkpoint_steps=0,
        evaluation_steps=0,
        early_stopping_evaluations=0,
        keep_best=False,
        log_with=None,
        resume=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        train(loss_model, chosen, [optimizer], short, accelerator=accelerator, run=run, evaluate=lambda step: {})
        ended = [entry["seconds"] for entry in run.read_metrics()]  # none where this is not the main process
    return [end - start for start, end in zip([0.0, *ended], ended or [0.0] * steps, strict=False)]
