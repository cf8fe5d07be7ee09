"""GPT with GPT-2's architecture, written to be read.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3; the initialisation is
GPT's (Radford et al. 2018, section 4.1) with GPT-2's scaled residual projections. Logits equal those of transformers'
`GPT2LMHeadModel`.

Shapes: B rows of a batch, T tokens of a row, V vocabulary, D width, H heads, K width of a head (D = H * K).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import InputError

INITIAL_STANDARD_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a GPT."""

    vocabulary_size: int
    """Rows of the token embedding."""
    block_size: int = 512
    """Longest row in tokens: the number of learned positions."""
    layers: int = 6
    """Transformer blocks."""
    heads: int = 4
    """Attention heads of a block; they divide the width."""
    width: int = 256
    """Width of the residual stream."""
    dropout: float = 0.0
    """Share of activations dropped in training."""
    tied: bool = True
    """Whether `lm_head` and `token_embedding_table` share one matrix."""

    def __post_init__(self) -> None:
        sizes = (self.vocabulary_size, self.block_size, self.layers, self.heads, self.width)
        if min(sizes) < 1:
            raise InputError(f"the shape of a GPT needs sizes of at least 1, got {self}")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not a multiple of heads {self.heads}: choose a width that is")


class GPT(nn.Module):
    """A decoder-only transformer: token and position embeddings, pre-norm blocks, a final norm and a head."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding_table = nn.Embedding(config.vocabulary_size, config.width)
        self.position_embedding_table = nn.Embedding(config.block_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        blocks = [Block(config) for _ in range(config.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(config.width)
        self.lm_head = nn.Linear(config.width, config.vocabulary_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.token_embedding_table.weight
        self.apply(_initialise)
        for block in blocks:
            block.scale_residual_projections(config.layers)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at every position: (B, T) ids -> (B, T, V)."""
        logits: Tensor = self.lm_head(self.hidden_states(input_ids))  # (B, T, V)
        return logits

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """The normed output of the last block, which the head reads: (B, T) -> (B, T, D)."""
        T = input_ids.shape[1]
        if self.config.block_size < T:
            raise InputError(
                f"{T} tokens do not fit the {self.config.block_size} positions of this model: crop the row"
            )
        positions = torch.arange(T, device=input_ids.device)  # (T)
        stream = self.token_embedding_table(input_ids) + self.position_embedding_table(positions)  # (B, T, D)
        stream = self.dropout(stream)
        for block in self.blocks:
            stream = block(stream)
        normed: Tensor = self.final_norm(stream)
        return normed


class Block(nn.Module):
    """Attention, then a feed-forward layer; each reads the normed stream and adds to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.width)
        self.attention = CausalSelfAttention(config)
        self.norm_2 = nn.LayerNorm(config.width)
        self.mlp = FeedForward(config)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream with this block's two contributions added: (B, T, D) -> (B, T, D)."""
        stream = stream + self.attention(self.norm_1(stream))
        return stream + self.mlp(self.norm_2(stream))

    def scale_residual_projections(self, layers: int) -> None:
        """Shrinks the two projections that add to the stream, so that its variance does not grow with depth."""
        for projection in (self.attention.projection, self.mlp.contract):
            nn.init.normal_(projection.weight, std=INITIAL_STANDARD_DEVIATION / math.sqrt(2 * layers))


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and what came before."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout_share = config.dropout
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, normed: Tensor) -> Tensor:
        """What the heads read from the tokens before, mixed back to the stream's width: (B, T, D) -> (B, T, D)."""
        B, T, D = normed.shape
        queries, keys, values = (
            part.view(B, T, self.heads, D // self.heads).transpose(1, 2)  # (B, H, T, K)
            for part in self.query_key_value(normed).split(D, dim=2)
        )
        mixed = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            is_causal=True,
            dropout_p=self.dropout_share if self.training else 0.0,
        )  # (B, H, T, K)
        merged = mixed.transpose(1, 2).reshape(B, T, D)  # (B, T, D)
        projected: Tensor = self.dropout(self.projection(merged))
        return projected


class FeedForward(nn.Module):
    """Two linear layers with GPT-2's tanh approximation of GELU between them."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.width, 4 * config.width)
        self.contract = nn.Linear(4 * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, normed: Tensor) -> Tensor:
        """What the layer adds to the stream: (B, T, D) -> (B, T, D)."""
        contracted: Tensor = self.dropout(self.contract(F.gelu(self.expand(normed), approximate="tanh")))
        return contracted


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STANDARD_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
