"""The settings of a model from scratch, in a file of their own: the entry and what it calls read them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scratch_models.loop.loop_settings import LoopSettings

TOKENS = ("characters", "bytes", "bpe")
"""Vocabularies that are made of the text; another name is that of a tokenizer."""
WITHOUT_BLOCKS = ("bigram", "averaging", "attention")
"""Models that have nothing to compile."""
AT_LEAST_1 = (
    *("block_size", "blocks_per_batch", "evaluation_blocks", "sample_characters", "patch_size", "vocabulary_size"),
    *("layers", "heads", "width", "local_layers", "local_width", "longest_gram", "table_rows"),
)
"""Settings that count something, whether the chosen model has it or not."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(LoopSettings):
    """A model from scratch: what it is, what it reads, how long it learns. The defaults train the bigram model."""

    name: str = "scratch"
    """Name of the run's folder: `runs/<name>-<n>`."""
    model: Literal["bigram", "averaging", "attention", "gpt", "llama", "megabyte", "speedrun"] = "bigram"
    """Which model; `averaging` and `attention` have one layer and nothing else of a block."""
    data: str = "tinyshakespeare"
    """A file of text, .jsonl or .parquet, a folder of them, `tinyshakespeare`, or `embedded`: this machine's docs."""
    filters: str | list[str] | None = None
    """Leave out documents by length, symbols, stop_words, repetition, lines, markup, language:en, near_duplicates."""
    tokens: str = "characters"
    """What an id stands for: characters, bytes, bpe (learned here), or a tokenizer by its folder or Hub name."""
    vocabulary_size: int = 4096
    """Ids of a BPE that is learned here; all else brings its own number."""
    block_size: int = 8
    """Tokens of a block, and positions of a model that has them."""
    blocks_per_batch: int = 32
    """Blocks that one step reads, over all processes."""
    blocks_per_micro_batch: int | None = None
    """Most blocks that a process computes at once: fewer need less memory; without it, all that it reads."""
    layers: int = 4
    """Blocks of a GPT or a Llama, and of a MEGABYTE's global model."""
    heads: int = 4
    """Attention heads of a layer; a Llama has half as many of keys and values, where they are even."""
    width: int = 128
    """Width of every model but the bigram; of a MEGABYTE that of its global model."""
    patch_size: int = 4
    """Tokens of a MEGABYTE's patch; it divides the block."""
    local_layers: int = 2
    """Blocks of a MEGABYTE's local model."""
    local_width: int = 64
    """Width of a MEGABYTE's local model."""
    dropout: float = 0.0
    """Share of a GPT's activations dropped in training."""
    tied: bool = True
    """Whether the head of a GPT or a Llama shares the token embedding."""
    muon_learning_rate: float | None = None
    """Peak learning rate of Muon for the hidden matrices of blocks; without it AdamW trains them too."""
    table_learning_rate: float | None = None
    """Peak learning rate of embedding tables; without it they learn as fast as the rest."""
    adam_beta2: float = 0.999
    """How slowly AdamW forgets the squares of gradients; large batches do well with 0.95."""
    longest_gram: int = 3
    """Most tokens that a table of a speedrun model looks up at once; 1 has no such table."""
    table_rows: int = 32_768
    """Most rows of such a table."""
    value_tables: bool = False
    """Whether each block of a speedrun model has a table of values."""
    residual_scalars: bool = False
    """Whether each block of a speedrun model mixes the embedding into the stream."""
    query_key_norm: bool = True
    """Whether a speedrun model scales queries and keys to one length."""
    zero_projections: bool = True
    """Whether what adds to the stream of a speedrun model starts at zero."""
    squared_relu: bool = True
    """Whether the hidden layer of a speedrun model is bent by the square of ReLU."""
    evaluation_blocks: int = 256
    """Held-out blocks that an evaluation during training reads; the last one reads all."""
    sample_characters: int = 300
    """Length of the sample at the end."""
    max_steps: int = 10_000
    """Optimizer steps."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    evaluation_steps: int = 1000
    """Steps between two evaluations; 0 evaluates at the end only."""
    checkpoint_steps: int = 1000
    """Steps between two checkpoints; 0 writes none."""

    @property
    def filter_names(self) -> list[str]:
        """The filters in the order in which they look at a document."""
        return [self.filters] if isinstance(self.filters, str) else list(self.filters or [])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect("precision", self.precision != "auto", "fp32 or bf16: only fine-tuning measures which is faster")
        self.expect("gradient_checkpointing", not self.gradient_checkpointing, "False: only fine-tuning has it")
        self.expect(
            "compile", not self.compile or self.model not in WITHOUT_BLOCKS, f"False: {self.model} has no blocks"
        )
        is_named = "/" in self.tokens or self.tokens == "smollm2" or Path(self.tokens).exists()
        self.expect(
            "tokens",
            is_named or self.tokens in TOKENS,
            f"{', '.join(TOKENS)}, or a tokenizer: a folder, or a Hub name such as openai-community/gpt2",
        )
        at_once = self.blocks_per_micro_batch
        self.expect(
            "blocks_per_micro_batch",
            at_once is None or 1 <= at_once <= self.blocks_per_batch,
            f"at least 1 and at most blocks_per_batch, which is {self.blocks_per_batch}",
        )
        self.expect("adam_beta2", 0 < self.adam_beta2 < 1, "above 0 and below 1")
        for name in AT_LEAST_1:
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        is_of_files = self.data not in ("embedded", "tinyshakespeare")
        self.expect("filters", not self.filters or is_of_files, f"none, as {self.data} has no documents to leave out")
        fits = self.model != "megabyte" or self.block_size % self.patch_size == 0
        self.expect("patch_size", fits, f"a divisor of block_size, which is {self.block_size}")
        self.expect("dropout", 0 <= self.dropout < 1, "0 or more and below 1")
        self.expect("dropout", self.dropout == 0 or self.model == "gpt", "0: only a gpt drops activations")
        for name in ("muon_learning_rate", "table_learning_rate"):
            rate = getattr(self, name)
            self.expect(name, rate is None or 0 < rate < math.inf, "a finite number above 0")
