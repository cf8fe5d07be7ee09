"""The settings of the training of new rows, in a file of their own: the entry and its parts read them."""

import math
from dataclasses import dataclass
from typing import Literal

from configs import InputError
from scratch_models.embedded.default import EMBEDDED
from scratch_models.loop.loop_settings import LoopSettings


@dataclass(frozen=True, kw_only=True)
class NewRowsSettings(LoopSettings):
    """Training of new rows alone."""

    base: str = EMBEDDED
    """Extended model: a folder that `tokenizer_ext.extend` wrote; `embedded` extends the embedded base first."""
    corpus: str | None = None
    """Text file (UTF-8) with the new tokens in it, the last tenth is held out; by default torch's documentation."""
    data: str | None = None
    """Conversations instead of text: `embedded`, a file (.jsonl, .parquet, .csv, ...), a folder, or a Hub name with
    `:configuration` and `@split`."""
    held_out: str | None = None
    """Conversations that are only measured on; by default one question in twenty of `data`."""
    learn: Literal["all", "last"] = "all"
    """Which replies of a conversation are learned: all that are not marked otherwise, or the last of them."""
    first_new_id: int | None = None
    """First id whose row trains; by default what the folder's certificate says."""
    probe: bool = False
    """Fill the new rows with each start in turn, train a few steps from it, and go on from the best."""
    probe_steps: int = 50
    """Steps of that, and of the short distillation that is one of the starts."""
    probe_seeds: int = 3
    """How often each start is tried, on other text in another order."""
    output_learning_rate: float | None = None
    """Peak learning rate of the head's rows where they are not the embedding's; by default `learning_rate`."""
    block_size: int = 256
    """Tokens of a block of text."""
    blocks_per_batch: int = 8
    """Blocks that one step reads, over all processes."""
    conversations_per_step: int = 32
    """Conversations that one step learns from, over all processes."""
    tokens_per_micro_batch: int = 4096
    """Tokens of conversations that are in memory at once in a process."""
    maximum_tokens: int = 512
    """Longest conversation in tokens; longer ones are left out and counted."""
    evaluation_blocks: int = 64
    """Held-out blocks of text that evaluations read, spread over all."""
    evaluation_conversations: int = 100
    """Held-out conversations that evaluations read, spread over all."""
    max_steps: int = 200
    """Optimizer steps."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW; about 3 % of a typical number in the old rows (0.1 in GPT-2's) suits them."""
    warmup_steps: int = 5
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        of_text = ("block_size", "blocks_per_batch", "evaluation_blocks")
        of_conversations = ("conversations_per_step", "tokens_per_micro_batch", "maximum_tokens")
        of_probe = ("probe_steps", "probe_seeds")
        for name in (*of_text, *of_conversations, *of_probe, "evaluation_conversations"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        first = self.first_new_id
        self.expect("first_new_id", first is None or first >= 0, "0 or more")
        rate = self.output_learning_rate
        self.expect("output_learning_rate", rate is None or 0 < rate < math.inf, "a finite number above 0")
        if self.corpus is not None and self.data is not None:
            raise InputError(
                f"corpus and data: found {self.corpus} and {self.data}, expected one: text or conversations"
            )
        if self.data is None:
            self.expect("held_out", self.held_out is None, "none without data: of text the last tenth is held out")
            self.expect("learn", self.learn == "all", "all without data: text has no replies")
