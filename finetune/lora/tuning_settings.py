"""The settings that every tuning of a base shares: how long, how fast, and what trains.

How many steps, what rate and how long a warm-up is only known once base and data are read. Where a user leaves them
out they are None here, and `resolved_settings` fills them in.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from configs import InputError
from finetune.lora.adapter_shape import BaseBits, Lora
from finetune.lora.rope_settings import check_rope_scaling
from scratch_models.loop.loop_settings import LoopSettings, RunSettings


@dataclass(frozen=True, kw_only=True)
class TuningSettings(RunSettings):
    """What trains of a model, LoRA or every weight, and how long."""

    ONE_OF: ClassVar[tuple[tuple[str, str], ...]] = (("max_steps", "epochs"), ("warmup_steps", "warmup_share"))
    """Settings that say the same in two ways."""
    RESOLVED: ClassVar[tuple[str, ...]] = ("max_steps", "warmup_steps", "learning_rate", "base_bits")
    """What is known once base and data are read; None before that where a user leaves it out."""
    EPOCHS: ClassVar[float]
    """How often the data is read where neither steps nor epochs are given."""
    FULL_RATE: ClassVar[float]
    """Learning rate for every weight of a model 2,000 wide, which the rate is chosen from."""
    WARMUP_SHARE: ClassVar[float] = 0.05
    """Of the steps, where no warm-up is given."""

    epochs: float | None = None
    """How often all data is read."""
    max_steps: int | None = None
    """Optimizer steps, in the place of epochs."""
    learning_rate: float | None = None
    """Peak learning rate of AdamW; by default one that suits the width of the base and the method."""
    learning_rate_multiplier: float = 1.0
    """Multiplies that default, as OpenAI's service counts rates."""
    warmup_share: float | None = None
    """Share of the steps in which the learning rate rises from 0; by default 0.05."""
    warmup_steps: int | None = None
    """The same in steps, in the place of a share."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak."""
    method: Literal["lora", "full"] = "lora"
    """What trains: LoRA, or every weight."""
    base_bits: BaseBits | None = None
    """Bits of each frozen weight in memory: 32, 16 as stored, 8 or 4 quantised; by default what suits the machine."""
    lora_rank: int = 16
    """Rank of the adapter's matrices."""
    lora_alpha: float = 32.0
    """Scale of the adapter: it adds alpha / rank times its product."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs dropped in training."""
    lora_options: dict[str, Any] = field(default_factory=dict)
    """Further fields of peft's LoraConfig, as in `--lora_options.use_dora true`: use_rslora, init_lora_weights, ..."""
    target_modules: str | list[str] | None = None
    """Layers that get LoRA: ends of their names or a regular expression; by default all linear ones in the blocks."""
    rope_scaling: dict[str, Any] = field(default_factory=dict)
    """For rows longer than the base was trained on: scales its rotary positions, in the saved config too, as in
    `--rope_scaling.rope_type yarn --rope_scaling.factor 4`."""
    merge: bool = False
    """Write base and adapter as one model too, to `merged/`, which is read back and compared."""
    push_to_hub: str | None = None
    """Repository on the Hub to upload the finished model to, as a private one, such as `my-name/my-assistant`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length()
        check_rope_scaling(self.rope_scaling)
        self.expect("lora_rank", self.lora_rank >= 1, "at least 1")
        self.expect("lora_dropout", 0 <= self.lora_dropout < 1, "0 or more and below 1")
        self.expect("lora_alpha", 0 < self.lora_alpha < math.inf, "a finite number above 0")
        for name in ("lora_options", "target_modules", "merge"):
            if self.method == "full" and getattr(self, name):
                raise InputError(f"{name}: with --method full there is no adapter: leave it out, or use --method lora")

    def _check_length(self) -> None:
        for one, other in self.ONE_OF:
            found = getattr(self, one), getattr(self, other)
            if None not in found:
                raise InputError(
                    f"{one} and {other}: found both ({found[0]} and {found[1]}), expected one: drop either"
                )
        steps, epochs, rate, share = self.max_steps, self.epochs, self.learning_rate, self.warmup_share
        self.expect("max_steps", steps is None or steps >= 1, "at least 1")
        self.expect("epochs", epochs is None or 0 < epochs < math.inf, "a finite number above 0")
        self.expect("learning_rate", rate is None or 0 < rate < math.inf, "a finite number above 0")
        factor = self.learning_rate_multiplier
        self.expect("learning_rate_multiplier", 0 < factor < math.inf, "a finite number above 0")
        self.expect("warmup_share", share is None or 0 <= share < 1, "0 or more and below 1")
        self.expect("warmup_steps", self.warmup_steps is None or self.warmup_steps >= 0, "0 or more")

    @property
    def loop(self) -> LoopSettings:
        """What the training loop takes, once all of it is known."""
        return LoopSettings(**{one.name: getattr(self, one.name) for one in dataclasses.fields(LoopSettings)})

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
