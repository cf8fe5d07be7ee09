"""The settings of an adapter, which supervised and preference tuning share; each brings its own defaults."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from configs import InputError
from finetune.lora.adapter_shape import Lora
from scratch_models.loop.loop_settings import LoopSettings


@dataclass(frozen=True, kw_only=True)
class AdapterSettings(LoopSettings):
    """What trains of a model: LoRA, or every weight."""

    method: Literal["lora", "full"] = "lora"
    """What trains: LoRA, or every weight."""
    lora_rank: int
    """Rank of the adapter's matrices."""
    lora_alpha: float
    """Scale of the adapter: it adds alpha / rank times its product."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs dropped in training."""
    lora_options: dict[str, Any] = field(default_factory=dict)
    """Further fields of peft's LoraConfig, as in `--lora_options.use_dora true`: use_rslora, init_lora_weights, ..."""
    target_modules: str | list[str] | None = None
    """Layers that get LoRA: ends of their names or a regular expression; by default all linear ones in the blocks."""
    merge: bool = False
    """Write base and adapter as one model too, to `merged/`, which is read back and compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect("lora_rank", self.lora_rank >= 1, "at least 1")
        self.expect("lora_dropout", 0 <= self.lora_dropout < 1, "0 or more and below 1")
        self.expect("lora_alpha", 0 < self.lora_alpha < math.inf, "a finite number above 0")
        for name in ("lora_options", "target_modules", "merge"):
            if self.method == "full" and getattr(self, name):
                raise InputError(f"{name}: with --method full there is no adapter: leave it out, or use --method lora")

    @property
    def lora(self) -> Lora | None:
        """The adapter; None where every weight trains."""
        if self.method == "full":
            return None
        return Lora(
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            options=self.lora_options,
            target_modules=self.target_modules,
        )
