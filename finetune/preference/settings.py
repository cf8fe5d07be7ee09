"""The settings of preference tuning, in a file of their own: the entry and its parts read them."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from configs.precedence import Recipe
from finetune.lora.adapter_settings import AdapterSettings
from scratch_models.embedded.default import EMBEDDED


@dataclass(frozen=True, kw_only=True)
class DpoSettings(AdapterSettings):
    """Preference tuning. With neither base nor data it makes a demo: embedded base, embedded pairs, LoRA."""

    RECIPE: ClassVar = Recipe("dpo_embedded.yaml", unless=("base", "data"))
    """The demo's."""
    MOST_QUESTIONS: ClassVar = 50
    """Prompts that are answered at most where their number is not given."""
    RESOLVED: ClassVar = (*AdapterSettings.RESOLVED, "pairs_per_step", "maximum_tokens")
    """What is known once base and data are read."""
    EPOCHS: ClassVar = 1.0
    """As Zephyr's recipe has it."""
    FULL_RATE: ClassVar = 1e-6
    """What SmolLM2 and TRL take; Zephyr's 5e-7, and 5e-6 with LoRA, are the same at its width."""

    base: str = EMBEDDED
    """Model to start from: a run of sft, `embedded`, a Hugging Face folder, or a Hub name."""
    data: str | list[str] = EMBEDDED
    """Pairs of `prompt`, `chosen` and `rejected`: `embedded`, a file (.jsonl, .parquet, .csv, ...), a folder, or a Hub
    name with `:configuration` and `@split`; or several of them, each with `:weight` where they are to be mixed."""
    held_out: str | None = None
    """Pairs that are only measured on; by default those of one prompt in twenty of `data`."""
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """What is made of a pair's log-ratios: DPO's own loss, or IPO's."""
    beta: float = 0.1
    """How much a nat of difference from the reference counts; higher keeps closer to it."""
    chosen_weight: float | None = None
    """Weight of the chosen reply's nats per token in the loss; by default 0, and 1 for a base that knows no chat format
    yet: from comparing alone it would not learn to reply."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 multiplies matrices in half precision, of the reference too; auto takes what is faster here, measured."""
    epochs: float | None = None
    """How often all pairs are read; by default once."""
    pairs_per_step: int | None = None
    """Pairs that one step learns from, over all processes; by default 4 to 32, by how many there are."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process, both replies of a pair counted; packed on a CPU 1,024 at most."""
    maximum_tokens: int | None = None
    """Longest prompt and reply in tokens, at most what the base reads at once; pairs with a longer one are left out and
    counted. By default 1,024, or what the base reads."""
    evaluation_pairs: int = 200
    """Held-out pairs whose rewards evaluations read."""
    evaluation_replies: int | None = None
    """Of them, those whose prompts are answered before training and after it; by default as many of 50 as fit into
    `evaluation_minutes`."""
    reply_tokens: int = 96
    """Longest reply in tokens when the models are asked."""
    calculator: bool | None = None
    """Let a calculator complete arithmetic in replies; its results are not learned. By default, as the base's run had
    it."""
    keep_best: bool = False
    """End with the weights that had the fewest held-out bits per byte of chosen replies, not with the last ones."""
    early_stopping_evaluations: int = 0
    """Evaluations in a row without fewer held-out bits per byte of chosen replies that end the run; 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tokens_per_micro_batch", "evaluation_pairs", "reply_tokens"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        self.expect("maximum_tokens", self.maximum_tokens is None or self.maximum_tokens >= 1, "at least 1")
        self.expect("evaluation_replies", self.evaluation_replies is None or self.evaluation_replies >= 1, "at least 1")
        self.expect("pairs_per_step", self.pairs_per_step is None or self.pairs_per_step >= 1, "at least 1")
        self.expect("beta", 0 < self.beta < math.inf, "a finite number above 0")
        weight = self.chosen_weight
        self.expect("chosen_weight", weight is None or 0 <= weight < math.inf, "a finite number, 0 or more")
