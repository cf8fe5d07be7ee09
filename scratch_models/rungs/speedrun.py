"""GPT as those train it who race for a loss: what their records found to matter, each behind one field.

Against `gpt.py`: norms without weights, positions that turn (as in `llama.py`), no biases, a head of its own, and by
its fields: queries and keys of one length, a hidden layer bent by the square of ReLU, projections that start at zero
(so that a new model is its embedding and nothing else), tables that look up the last two and three tokens, a table of
values for each block, and scalars that mix the embedding back into the stream.

Sources: Keller Jordan et al. 2024, https://github.com/KellerJordan/modded-nanogpt (the records and who found what);
Karpathy 2025, https://github.com/karpathy/nanochat (dev/LOG.md: what helped at which depth); QK-norm is of Henry et
al. 2020, ReLU² of So et al. 2021 ("Primer"), value tables of Zhou et al. 2024 ("Value residual learning").

Shapes: B rows of a batch, T tokens of a row, V vocabulary, D width, H heads, K width of a head (D = H * K).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import InputError
from scratch_models.rungs.llama import rotary_turns, turn

HASH_PRIME = 2_654_435_761  # Knuth, The Art of Computer Programming, volume 3, section 6.4: 2**32 by the golden ratio
ROTARY_BASE = 10_000.0


@dataclass(frozen=True, kw_only=True)
class SpeedrunConfig:
    """The shape of the model, and which of the finds it uses."""

    vocabulary_size: int
    """Rows of the token embedding."""
    block_size: int
    """Longest row in tokens; no weight depends on it."""
    layers: int = 4
    """Transformer blocks."""
    heads: int = 2
    """Attention heads of a block; they divide the width."""
    width: int = 128
    """Width of the residual stream."""
    longest_gram: int = 3
    """Most tokens that a table looks up at once: 3 has tables of pairs and of triples, 1 has none."""
    table_rows: int = 32_768
    """Most rows of such a table; where there are more pairs or triples, some share a row."""
    value_tables: bool = False
    """Whether each block adds a row of a table, chosen by the token, to its values."""
    residual_scalars: bool = False
    """Whether each block reads a learned mix of the stream and the embedding."""
    query_key_norm: bool = True
    """Whether queries and keys are scaled to one length."""
    zero_projections: bool = True
    """Whether what adds to the stream, and the head, start at zero."""
    squared_relu: bool = True
    """Whether the hidden layer is bent by the square of ReLU; otherwise by GELU."""

    def __post_init__(self) -> None:
        if min(self.vocabulary_size, self.block_size, self.layers, self.heads, self.width, self.table_rows) < 1:
            raise InputError(f"the shape of a speedrun model needs sizes of at least 1, got {self}")
        if self.width % (2 * self.heads):
            raise InputError(f"width {self.width} is not an even multiple of heads {self.heads}, expected one")
        if not 1 <= self.longest_gram <= 3:
            raise InputError(f"longest_gram is {self.longest_gram}, expected 1, 2 or 3")


class Speedrun(nn.Module):
    """A decoder-only transformer whose embedding looks up the last tokens together."""

    def __init__(self, config: SpeedrunConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding_table = nn.Embedding(config.vocabulary_size, config.width)
        self.gram_tables = nn.ModuleList(
            nn.Embedding(min(config.table_rows, config.vocabulary_size**tokens), config.width)
            for tokens in range(2, config.longest_gram + 1)
        )
        blocks = [SpeedrunBlock(config) for _ in range(config.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.lm_head = nn.Linear(config.width, config.vocabulary_size, bias=False)
        for table in self.gram_tables:
            assert isinstance(table, nn.Embedding)
            nn.init.zeros_(table.weight)
        if config.zero_projections:
            nn.init.zeros_(self.lm_head.weight)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at every position: (B, T) ids -> (B, T, V)."""
        T = input_ids.shape[1]
        if self.config.block_size < T:
            raise InputError(f"{T} tokens are more than the {self.config.block_size} of this model: crop the row")
        embedding = self.token_embedding_table(input_ids)  # (B, T, D)
        for tokens, table in enumerate(self.gram_tables, start=2):
            embedding = embedding + table(self.gram_rows(input_ids, tokens))
        stream = embedding = norm(embedding)
        turns = rotary_turns(T, self.config.width // self.config.heads, ROTARY_BASE, stream.device)
        for block in self.blocks:
            stream = block(stream, embedding, input_ids, turns)
        logits: Tensor = self.lm_head(norm(stream))  # (B, T, V)
        return logits

    def gram_rows(self, input_ids: Tensor, tokens: int) -> Tensor:
        """Which row of its table the last so many ids have, as if id 0 came before each row: (B, T) -> (B, T).

        A row to each gram where there are enough; else a multiplicative hash decides who shares.
        """
        rows, V = min(self.config.table_rows, self.config.vocabulary_size**tokens), self.config.vocabulary_size
        gram = input_ids
        for back in range(1, tokens):
            gram = gram + F.pad(input_ids[:, :-back], (back, 0))[:, : input_ids.shape[1]] * V**back
        return gram if rows == V**tokens else gram * HASH_PRIME % 2**32 % rows


class SpeedrunBlock(nn.Module):
    """Attention, then a feed-forward layer; each reads the normed stream and adds to it."""

    def __init__(self, config: SpeedrunConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.projection = nn.Linear(width, width, bias=False)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)
        for linear in (self.query, self.key, self.value, self.expand):
            nn.init.uniform_(linear.weight, -((3 / width) ** 0.5), (3 / width) ** 0.5)  # keeps the stream's scale
        for linear in (self.projection, self.contract):
            if config.zero_projections:
                nn.init.zeros_(linear.weight)
        self.value_table = nn.Embedding(config.vocabulary_size, width) if config.value_tables else None
        self.value_share = nn.Parameter(torch.tensor([0.5])) if config.value_tables else None
        self.mix = nn.Parameter(torch.tensor([1.0, 0.0])) if config.residual_scalars else None

    def forward(self, stream: Tensor, embedding: Tensor, input_ids: Tensor, turns: Tensor) -> Tensor:
        """The stream with this block's two contributions added: (B, T, D) -> (B, T, D)."""
        if self.mix is not None:
            stream = self.mix[0] * stream + self.mix[1] * embedding
        stream = stream + self.projection(self._attend(norm(stream), input_ids, turns))
        hidden = self.expand(norm(stream))  # (B, T, 4 D)
        bent = F.relu(hidden).square() if self.config.squared_relu else F.gelu(hidden)
        contracted: Tensor = self.contract(bent)
        return stream + contracted

    def _attend(self, normed: Tensor, input_ids: Tensor, turns: Tensor) -> Tensor:
        """What the heads read from the tokens before: (B, T, D) -> (B, T, D)."""
        values = self.value(normed)  # (B, T, D)
        if self.value_table is not None:
            values = values + self.value_share * self.value_table(input_ids)
        queries, keys, values = (
            numbers.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)  # (B, H, T, K)
            for numbers in (self.query(normed), self.key(normed), values)
        )
        if self.config.query_key_norm:
            queries, keys = norm(queries), norm(keys)
        queries, keys = turn(queries, turns), turn(keys, turns)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)  # (B, H, T, K)
        return mixed.transpose(1, 2).flatten(2)


def norm(numbers: Tensor) -> Tensor:
    """Scaled to a root mean square of 1 along the last dimension."""
    return F.rms_norm(numbers, numbers.shape[-1:])
