"""The settings of supervised fine-tuning, in a file of their own: the entry, its parts and its plan all read them."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from configs import InputError
from configs.precedence import Recipe
from finetune.lora.adapter_settings import AdapterSettings
from scratch_models.embedded.default import EMBEDDED


@dataclass(frozen=True, kw_only=True)
class SftSettings(AdapterSettings):
    """Supervised fine-tuning.

    With neither base nor data it makes the demo: embedded base, embedded conversations, LoRA and the rows of new words.
    """

    RECIPE: ClassVar = Recipe("sft_embedded.yaml", unless=("base", "data"))
    """The demo's."""
    MOST_QUESTIONS: ClassVar = 100
    """Held-out conversations that evaluations read where their number is not given."""
    RESOLVED: ClassVar = (
        *AdapterSettings.RESOLVED,
        "conversations_per_step",
        "new_tokens",
        "maximum_tokens",
    )
    """What is known once base and data are read."""
    EPOCHS: ClassVar = 3.0
    """As Predibase advises, and most recipes for sets of some thousand conversations have it."""
    FULL_RATE: ClassVar = 5e-5
    """Thinking Machines' for supervised tuning."""
    CORPUS_TOKENS: ClassVar = 500
    """Tokens to learn from a corpus that is named without their number."""

    base: str = EMBEDDED
    """Model to start from: `embedded`, a Hugging Face folder, a Hub name, a GGUF file, `smollm2`, or a run (merged)."""
    data: str | list[str] = EMBEDDED
    """Conversations: `embedded`, a file (.jsonl, .parquet, .csv, ...), a folder, or a Hub name with `:configuration`
    and `@split`; or several of them, each with `:weight` behind it where they are to be mixed."""
    held_out: str | None = None
    """Conversations that are only measured on; by default one question in twenty of `data`."""
    learn: Literal["all", "last"] = "all"
    """Which replies of a conversation are learned: all that are not marked otherwise, or the last of them."""
    method: Literal["lora", "full"] = "lora"
    """What trains: LoRA and the rows of new tokens, or every weight."""
    corpus: str | None = None
    """Text file that new tokens are learned from; with the embedded data, the documents of its domain."""
    new_tokens: int | None = None
    """Tokens to learn from the corpus; by default 500 where one is named, else none."""
    epochs: float | None = None
    """How often all conversations are read; by default 3."""
    new_rows_learning_rate: float | None = None
    """Peak learning rate of the rows of new tokens; by default that of the rest."""
    conversations_per_step: int | None = None
    """Conversations that one step learns from, over all processes; by default 4 to 32, by how many there are."""
    accumulation_steps: int | None = None
    """Micro-batches that a process cuts its share of a step into; by default as few as the next setting allows."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process, at most; packed on a CPU 1,024 at most, which is as fast."""
    maximum_tokens: int | None = None
    """Longest conversation in tokens, at most what the base reads at once; longer ones are left out and counted. By
    default 1,024, or what the base reads."""
    evaluation_conversations: int | None = None
    """Held-out conversations that evaluations read and are asked; by default 100 are read, and as many of them asked as
    fit into `evaluation_minutes`."""
    evaluation_replies: int = 16
    """Of them, those answered at every evaluation too, for the share of replies that end; two are shown."""
    reply_tokens: int = 96
    """Longest reply in tokens when the models are asked."""
    calculator: bool = False
    """Let a calculator complete arithmetic such as `<<48/2=24>>` in replies; its results are not learned."""
    inspect: int | None = None
    """Write the page that shows what is learned of the example of this number, counted from 1, then stop."""
    dry_run: bool = False
    """Show the settings, the first example, and how long the run would take and in how much memory, then stop."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 runs matrix products in bfloat16, what trains stays fp32; auto takes it where a probe finds it faster."""
    packing: Literal["auto", "never", "always"] = "auto"
    """Conversations end to end in one row, none seeing another; auto packs where the model keeps them apart."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tokens_per_micro_batch", "reply_tokens"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        self.expect("maximum_tokens", self.maximum_tokens is None or self.maximum_tokens >= 1, "at least 1")
        asked = self.evaluation_conversations
        self.expect("evaluation_conversations", asked is None or asked >= 1, "at least 1")
        per_step = self.conversations_per_step
        self.expect("conversations_per_step", per_step is None or per_step >= 1, "at least 1")
        self.expect("new_tokens", self.new_tokens is None or self.new_tokens >= 0, "0 or more")
        rate = self.new_rows_learning_rate
        self.expect("new_rows_learning_rate", rate is None or 0 < rate < math.inf, "a finite number above 0")
        self.expect("evaluation_replies", self.evaluation_replies >= 0, "0 or more")
        self.expect("inspect", self.inspect is None or self.inspect >= 1, "the number of an example, from 1")
        accumulation = self.accumulation_steps
        self.expect("accumulation_steps", accumulation is None or accumulation >= 1, "at least 1")
        if self.method == "full" and rate is not None:
            raise InputError("new_rows_learning_rate: with --method full every row has the learning rate of the rest")

    @property
    def held_out_conversations(self) -> int:
        """Held-out conversations that evaluations read."""
        return self.evaluation_conversations or self.MOST_QUESTIONS

    @property
    def wanted_tokens(self) -> int:
        """Tokens to learn from the corpus."""
        named = 0 if self.corpus is None else self.CORPUS_TOKENS
        return named if self.new_tokens is None else self.new_tokens
