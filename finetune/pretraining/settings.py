"""The settings of continued pretraining."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from finetune.lora.tuning_settings import TuningSettings
from scratch_models.embedded.default import EMBEDDED


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TuningSettings):
    """Continued pretraining on raw text.

    With neither base nor corpus the embedded base reads torch's documentation, and 0.3 times as much of its own text.
    """

    RESOLVED: ClassVar = (*TuningSettings.RESOLVED, "block_size")
    """What is known once base and text are read."""
    EPOCHS: ClassVar = 1.0
    """Text that is read once is learned without being learned by heart."""
    FULL_RATE: ClassVar = 5e-5
    """That of supervised tuning."""

    base: str = EMBEDDED
    """Model to start from: `embedded`, a Hugging Face or extended folder, a Hub name, a GGUF file, `smollm2`, or a run
    (merged)."""
    corpus: str | list[str] | None = None
    """Text to learn from: a text file (UTF-8), .jsonl or .parquet with a `text`, .gz or .zst of them, or a folder; or
    several, each with `:weight` behind it, its share of the tokens read. The last is usually replay. By default
    `embedded:1 embedded_base:0.3`: torch's documentation, and what the embedded base has read."""
    watched: str | list[str] = field(default_factory=list)
    """Further texts, of which nothing is learned: only their bits per byte are measured."""
    best_by: str | None = None
    """The corpus or watched text whose held-out bits per byte `keep_best` and early stopping go by; by default the
    first corpus."""
    epochs: float | None = None
    """How often the first corpus is read; by default once."""
    block_size: int | None = None
    """Tokens of a block, which holds several documents or a part of one; by default 512, or all that the model can
    read where that is less."""
    blocks_per_batch: int = 8
    """Blocks that one step learns from, over all processes."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process, at most; on a CPU 1,024 at most, which is as fast."""
    evaluation_blocks: int = 64
    """Held-out blocks of each text that evaluations read, spread over all of them."""
    sample_tokens: int = 48
    """Longest continuation of a held-out text, in tokens, that is written at evaluations and for the report."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 runs matrix products in bfloat16, what trains stays fp32; auto takes it where a probe finds it faster."""
    dry_run: bool = False
    """Show the settings, the first block, and how long the run would take and in how much memory, then stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect("block_size", self.block_size is None or self.block_size >= 2, "at least 2")
        for name in ("blocks_per_batch", "tokens_per_micro_batch", "evaluation_blocks", "sample_tokens"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
