"""The settings that supervised and preference tuning share: those of every tuning, and the chat format."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from finetune.lora.tuning_settings import TuningSettings


@dataclass(frozen=True, kw_only=True)
class AdapterSettings(TuningSettings):
    """What trains of a model, LoRA or every weight, how long, and the chat format that it learns."""

    chat: Literal["auto", "base", "graft"] = "auto"
    """Chat format: the base's own template, or the project's format; auto takes the base's own where it has one."""
    template_options: dict[str, Any] = field(default_factory=dict)
    """What the base's template is given besides, as in `--template_options.enable_thinking false`."""
    evaluation_minutes: float = 2.0
    """Minutes that asking the base may take where no number of questions is given; at least 20 are asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect("evaluation_minutes", 0 < self.evaluation_minutes < math.inf, "a finite number above 0")
