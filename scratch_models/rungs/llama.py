"""Llama's architecture: what came after GPT-2, written to be read. Logits equal those of transformers' Llama.

Against `gpt.py`: the root mean square alone normalises (no mean is taken away, no bias added), positions turn queries
and keys instead of being added to the stream, several heads of queries share one of keys and values, a gate multiplies
the hidden layer, and no layer has a bias.

Source: Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", section 2.2, and what it names:
RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), SwiGLU (Shazeer 2020); grouped queries are of
Ainslie et al. 2023.

Shapes: B rows of a batch, T tokens of a row, V vocabulary, D width, H heads, G heads of keys and values, K width of a
head (D = H * K).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import InputError

INITIAL_STANDARD_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The shape of a Llama."""

    vocabulary_size: int
    """Rows of the token embedding."""
    block_size: int
    """Longest row in tokens; no weight depends on it."""
    layers: int
    """Transformer blocks."""
    heads: int
    """Heads of queries of a block; they divide the width."""
    key_value_heads: int
    """Heads of keys and values of a block; they divide the heads of queries."""
    width: int
    """Width of the residual stream."""
    hidden_width: int
    """Width of a block's hidden layer."""
    rotary_base: float = 10_000.0
    """How slowly the slowest pair of a head turns: the larger, the further it tells positions apart."""
    norm_epsilon: float = 1e-5
    """Added to the mean square before its root is taken."""
    tied: bool = True
    """Whether `lm_head` and `token_embedding_table` share one matrix."""

    def __post_init__(self) -> None:
        counts = (self.vocabulary_size, self.block_size, self.layers, self.heads, self.key_value_heads)
        if min(*counts, self.width, self.hidden_width) < 1:
            raise InputError(f"the shape of a Llama needs sizes of at least 1, got {self}")
        if self.width % (2 * self.heads):
            raise InputError(f"width {self.width} is not an even multiple of heads {self.heads}, expected one")
        if self.heads % self.key_value_heads:
            raise InputError(
                f"heads {self.heads} is not a multiple of key_value_heads {self.key_value_heads}, expected one"
            )


class Llama(nn.Module):
    """A decoder-only transformer: token embeddings, pre-norm blocks, a final norm and a head."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding_table = nn.Embedding(config.vocabulary_size, config.width)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width, config.norm_epsilon)
        self.lm_head = nn.Linear(config.width, config.vocabulary_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.token_embedding_table.weight
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INITIAL_STANDARD_DEVIATION)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at every position: (B, T) ids -> (B, T, V)."""
        T = input_ids.shape[1]
        if self.config.block_size < T:
            raise InputError(f"{T} tokens are more than the {self.config.block_size} of this model: crop the row")
        stream = self.token_embedding_table(input_ids)  # (B, T, D)
        turns = rotary_turns(T, self.config.width // self.config.heads, self.config.rotary_base, stream.device)
        for block in self.blocks:
            stream = block(stream, turns)
        logits: Tensor = self.lm_head(self.final_norm(stream))  # (B, T, V)
        return logits


class LlamaBlock(nn.Module):
    """Attention, then a gated feed-forward layer; each reads the normed stream and adds to it."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.norm_1 = RMSNorm(config.width, config.norm_epsilon)
        self.attention = GroupedQueryAttention(config)
        self.norm_2 = RMSNorm(config.width, config.norm_epsilon)
        self.mlp = SwiGLU(config.width, config.hidden_width)

    def forward(self, stream: Tensor, turns: Tensor) -> Tensor:
        """The stream with this block's two contributions added: (B, T, D) -> (B, T, D)."""
        stream = stream + self.attention(self.norm_1(stream), turns)
        return stream + self.mlp(self.norm_2(stream))


class RMSNorm(nn.Module):
    """Scales each token's numbers to a root mean square of 1, then each by a learned factor."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, stream: Tensor) -> Tensor:
        """The normed stream: (B, T, D) -> (B, T, D)."""
        mean_square = stream.pow(2).mean(dim=-1, keepdim=True)  # (B, T, 1)
        return self.weight * (stream * torch.rsqrt(mean_square + self.epsilon))


class GroupedQueryAttention(nn.Module):
    """Causal attention in which each head of keys and values serves a group of heads of queries."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        head_width = config.width // config.heads
        self.head_width = head_width
        self.query = nn.Linear(config.width, config.heads * head_width, bias=False)
        self.key = nn.Linear(config.width, config.key_value_heads * head_width, bias=False)
        self.value = nn.Linear(config.width, config.key_value_heads * head_width, bias=False)
        self.projection = nn.Linear(config.width, config.width, bias=False)

    def forward(self, normed: Tensor, turns: Tensor) -> Tensor:
        """What the heads read from the tokens before: (B, T, D) -> (B, T, D)."""
        queries = turn(self._heads(self.query(normed)), turns)  # (B, H, T, K)
        keys = turn(self._heads(self.key(normed)), turns)  # (B, G, T, K)
        values = self._heads(self.value(normed))  # (B, G, T, K)
        group = queries.shape[1] // keys.shape[1]
        keys, values = (shared.repeat_interleave(group, dim=1) for shared in (keys, values))  # (B, H, T, K)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)  # (B, H, T, K)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))  # (B, T, D)
        return projected

    def _heads(self, numbers: Tensor) -> Tensor:
        return numbers.unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, T, heads * K) -> (B, heads, T, K)


class SwiGLU(nn.Module):
    """A hidden layer multiplied by a gate, which is another linear layer bent by SiLU."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden_width, bias=False)
        self.expand = nn.Linear(width, hidden_width, bias=False)
        self.contract = nn.Linear(hidden_width, width, bias=False)

    def forward(self, normed: Tensor) -> Tensor:
        """What the layer adds to the stream: (B, T, D) -> (B, T, D)."""
        contracted: Tensor = self.contract(F.silu(self.gate(normed)) * self.expand(normed))
        return contracted


def rotary_turns(tokens: int, head_width: int, base: float, device: torch.device | None = None) -> Tensor:
    """Cosines and sines of the angles by which each position turns each pair of a head: (2, T, K / 2).

    The first pair turns by one radian a position, the last by about 1 / base.
    """
    rates = base ** (-torch.arange(0, head_width, 2, device=device) / head_width)  # (K / 2)
    angles = torch.outer(torch.arange(tokens, device=device).float(), rates)  # (T, K / 2)
    return torch.stack([angles.cos(), angles.sin()])


def turn(heads: Tensor, turns: Tensor) -> Tensor:
    """Queries or keys turned by their positions: (B, H, T, K) -> (B, H, T, K).

    Number i of a head and number i + K / 2 are a pair, as Hugging Face lays out the weights. After it the product of a
    query and a key depends on how far apart the two are, and on neither position alone.
    """
    cosines, sines = turns.to(heads.dtype)  # (T, K / 2)
    first, second = heads.chunk(2, dim=-1)  # (B, H, T, K / 2)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)
