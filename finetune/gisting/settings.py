"""The settings of gist tokens, in a file of their own: the entry and its parts read them."""

from dataclasses import dataclass
from typing import Literal

from scratch_models.embedded.default import EMBEDDED
from scratch_models.loop.loop_settings import LoopSettings


@dataclass(frozen=True, kw_only=True)
class GistSettings(LoopSettings):
    """A prompt compressed into the rows of new control tokens."""

    prompt: str
    """Text file (UTF-8) with the prompt; blanks around it are left out."""
    base: str = EMBEDDED
    """Model that stays frozen: `embedded`, a folder, a Hub name, a GGUF file, `smollm2`, or a run (merged)."""
    tokens: int = 8
    """Control tokens that stand for the prompt; fewer than it has tokens."""
    name: str = "gist"
    """The tokens are `<|name_0|>`, `<|name_1|>`, ...; a second prompt of one base needs another name."""
    chat: Literal["auto", "plain"] = "auto"
    """Where the prompt stands: auto in the system turn of the base's chat template, or, where it has none, before a
    plain text; plain before a plain text."""
    data: str = EMBEDDED
    """Conversations whose questions are asked: `embedded`, a file (.jsonl, .parquet, .csv, ...), a folder, or a Hub
    name with `:configuration` and `@split`; the base gives its own replies."""
    held_out: str | None = None
    """Conversations whose questions are only measured on; by default one question in twenty of `data`."""
    questions: int = 256
    """Questions to learn from at most, spread over all."""
    evaluation_questions: int = 40
    """Held-out questions that are measured on at most, spread over all."""
    reply_tokens: int = 64
    """Longest reply of the base, in tokens."""
    temperature: float = 0.0
    """How the base draws the replies that are learned from; 0 takes the likeliest token. Those held out always do."""
    questions_per_step: int = 16
    """Questions that one step learns from, over all processes."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process, at most; on a CPU 1,024 at most, which is as fast."""
    max_steps: int = 100
    """Optimizer steps."""
    learning_rate: float = 1e-2
    """Peak learning rate of AdamW for the rows."""
    warmup_steps: int = 5
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak, linear at nothing."""
    evaluation_steps: int = 50
    """Steps between two evaluations; 0 evaluates at the end only."""
    checkpoint_steps: int = 20
    """Steps between two checkpoints, which hold the rows alone; 0 writes none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_1 = ("tokens", "questions", "evaluation_questions", "reply_tokens", "questions_per_step")
        for name in (*at_least_1, "tokens_per_micro_batch"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        self.expect("temperature", 0 <= self.temperature < float("inf"), "a finite number, 0 or more")
        self.expect("name", self.name.isidentifier() and self.name.isascii(), "letters, digits and _")
