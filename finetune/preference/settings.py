"""The settings of preference tuning, in a file of their own: the entry and its parts read them."""

import math
from dataclasses import dataclass
from typing import Literal

from finetune.lora.adapter_settings import AdapterSettings
from scratch_models.embedded_default import EMBEDDED


@dataclass(frozen=True, kw_only=True)
class DpoSettings(AdapterSettings):
    """Preference tuning. The defaults make a demo: embedded base, embedded pairs, LoRA."""

    base: str = EMBEDDED
    """Model to start from: a run of sft, `embedded`, a Hugging Face folder, or a Hub name."""
    data: str = EMBEDDED
    """Pairs of `prompt`, `chosen` and `rejected`: `embedded`, a .jsonl or .json file, or a Hub name."""
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """What is made of a pair's log-ratios: DPO's own loss, or IPO's."""
    beta: float = 0.1
    """How much a nat of difference from the reference counts; higher keeps closer to it."""
    chosen_weight: float | None = None
    """Weight of the chosen reply's nats per token in the loss; by default 0, and 1 for a base that knows no chat format
    yet: from comparing alone it would not learn to reply."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 multiplies matrices in half precision, of the reference too; auto takes what is faster here, measured."""
    lora_rank: int = 16
    """Rank of the adapter's matrices."""
    lora_alpha: float = 32.0
    """Scale of the adapter: it adds alpha / rank times its product."""
    push_to_hub: str | None = None
    """Repository on the Hub to upload the finished model to, merged where asked, such as `my-name/my-assistant`."""
    pairs_per_step: int = 32
    """Pairs that one step learns from, over all processes."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process, both replies of a pair counted; packed on a CPU 1,024 at most."""
    maximum_tokens: int = 512
    """Longest prompt and reply in tokens; pairs with a longer one are left out and counted."""
    evaluation_pairs: int = 200
    """Held-out pairs whose rewards evaluations read."""
    evaluation_replies: int = 50
    """Of them, those whose prompts are answered before training and after it."""
    reply_tokens: int = 96
    """Longest reply in tokens when the models are asked."""
    calculator: bool | None = None
    """Let a calculator complete arithmetic in replies; its results are not learned. By default, as the base's run had
    it."""
    keep_best: bool = False
    """End with the weights that had the fewest held-out bits per byte of chosen replies, not with the last ones."""
    early_stopping_evaluations: int = 0
    """Evaluations in a row without fewer held-out bits per byte of chosen replies that end the run; 0: never."""
    max_steps: int = 200
    """Optimizer steps."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("pairs_per_step", "tokens_per_micro_batch", "maximum_tokens")
        for name in (*counts, "evaluation_pairs", "evaluation_replies", "reply_tokens"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        self.expect("beta", 0 < self.beta < math.inf, "a finite number above 0")
        weight = self.chosen_weight
        self.expect("chosen_weight", weight is None or 0 <= weight < math.inf, "a finite number, 0 or more")
