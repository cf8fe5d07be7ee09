"""The settings of the training loop, which every training entry takes; an entry adds its own in a subclass."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from configs import InputError


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run computes, where it goes, and whether it starts, goes on, or only shows what it would do."""

    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak, linear at nothing."""
    weight_decay: float = 0.0
    """AdamW's decay of matrices; vectors (norms, biases) are not decayed."""
    gradient_clip: float = 1.0
    """Longest gradient norm; a longer gradient is scaled down to it."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 runs matrix products in bfloat16, what trains stays fp32; auto takes it where a probe finds it faster."""
    compile: bool = False
    """Compile the blocks with torch.compile, which needs a compiler; pays off on a GPU and in long runs."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    evaluation_steps: int = 100
    """Steps between two evaluations; 0 evaluates at the end only."""
    checkpoint_steps: int = 100
    """Steps between two checkpoints; 0 writes none."""
    checkpoints_kept: int = 2
    """Checkpoints that stay, the newest; 0 keeps them all, and each of a fine-tuning can be asked as a run can."""
    keep_best: bool = False
    """End with the weights that had the fewest held-out bits per byte, not with the last ones."""
    early_stopping_evaluations: int = 0
    """Evaluations in a row without fewer held-out bits per byte that end the run; 0 never ends it early."""
    log_with: str | None = None
    """Trackers of accelerate that get each step's numbers too, separated by commas: tensorboard, wandb, mlflow, ..."""
    seed: int = 0
    """Seed of the start values, the order of the data and the dropout."""
    output_dir: str | None = None
    """Folder of the run; by default a new `runs/<name>-<n>`."""
    resume: bool = False
    """Go on from the newest checkpoint in `output_dir`."""
    dry_run: bool = False
    """Show the settings, the parameter counts and the first example, then stop."""

    def __post_init__(self) -> None:
        self.expect("gradient_clip", 0 < self.gradient_clip < math.inf, "a finite number above 0")
        self.expect("weight_decay", 0 <= self.weight_decay < math.inf, "a finite number, 0 or more")
        for name in ("evaluation_steps", "checkpoint_steps", "checkpoints_kept", "early_stopping_evaluations"):
            self.expect(name, getattr(self, name) >= 0, "0 or more")
        self.expect("seed", 0 <= self.seed < 2**63, "0 or more, below 2**63")

    def expect(self, name: str, holds: bool, expected: str) -> None:
        """Refuses a setting that does not hold what is expected of it."""
        if not holds:
            raise InputError(f"{name}: found {getattr(self, name)}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class LoopSettings(RunSettings):
    """How long the loop trains, and how fast; what a run does not know before it has read its data stands here."""

    max_steps: int
    """Optimizer steps."""
    learning_rate: float
    """Peak learning rate of AdamW."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect("max_steps", self.max_steps >= 1, "at least 1")
        self.expect("learning_rate", 0 < self.learning_rate < math.inf, "a finite number above 0")
        self.expect("warmup_steps", self.warmup_steps >= 0, "0 or more")

    def rehearsal(self, *, steps: int, **changes: Any) -> Self:
        """The settings of some steps done for what they show: nothing of them is compared, kept, or gone on from.

        >>> run = LoopSettings(max_steps=500, learning_rate=1e-3, keep_best=True)
        >>> run.rehearsal(steps=9, seed=3) == LoopSettings(
        ...     max_steps=9, learning_rate=1e-3, seed=3, evaluation_steps=0, checkpoint_steps=0
        ... )
        True
        """
        nothing_kept: dict[str, Any] = {
            "evaluation_steps": 0,
            "checkpoint_steps": 0,
            "keep_best": False,
            "early_stopping_evaluations": 0,
            "log_with": None,
            "resume": False,
        }
        return replace(self, max_steps=steps, **{**nothing_kept, **changes})


def is_due(step: int, interval: int) -> bool:
    """Whether something that is done every `interval` steps is done after this one; with 0 it never is.

    >>> is_due(200, 100), is_due(150, 100), is_due(100, 0)
    (True, False, False)
    """
    return interval > 0 and step % interval == 0
