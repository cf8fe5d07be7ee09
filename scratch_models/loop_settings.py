"""The settings that every training entry shares; an entry adds its own in a subclass."""

import math
from dataclasses import dataclass
from typing import Literal

from configs import InputError


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """The settings of the loop, which every training entry shares."""

    max_steps: int
    """Optimizer steps."""
    learning_rate: float
    """Peak learning rate of AdamW."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak."""
    weight_decay: float = 0.0
    """AdamW's decay of matrices; vectors (norms, biases) are not decayed."""
    gradient_clip: float = 1.0
    """Longest gradient norm; a longer gradient is scaled down to it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs matrix products under autocast; weights stay fp32."""
    evaluation_steps: int = 100
    """Steps between two evaluations; 0 evaluates at the end only."""
    checkpoint_steps: int = 100
    """Steps between two checkpoints; 0 writes none."""
    seed: int = 0
    """Seed of the start values, the order of the data and the dropout."""
    output_dir: str | None = None
    """Folder of the run; by default a new `runs/<name>-<n>`."""
    resume: bool = False
    """Go on from the newest checkpoint in `output_dir`."""
    dry_run: bool = False
    """Show the settings, the parameter counts and the first example, then stop."""

    def __post_init__(self) -> None:
        _expect(self.max_steps >= 1, "max_steps", self.max_steps, "at least 1")
        rates = ("learning_rate", "gradient_clip")
        for name in rates:
            value = getattr(self, name)
            _expect(math.isfinite(value) and value > 0, name, value, "a finite number above 0")
        _expect(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "a finite number, 0 or more")
        _expect(0 <= self.warmup_steps <= self.max_steps, "warmup_steps", self.warmup_steps, "0 to max_steps")
        for name in ("evaluation_steps", "checkpoint_steps", "seed"):
            _expect(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def _expect(holds: bool, name: str, found: object, expected: str) -> None:
    if not holds:
        raise InputError(f"{name}: found {found}, expected {expected}")
