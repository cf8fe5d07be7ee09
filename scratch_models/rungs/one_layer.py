"""A language model of one layer that mixes tokens: what averaging and attention are worth without the rest of a block.

Shapes: B rows of a batch, T tokens of a row, V vocabulary, D width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from configs import InputError
from scratch_models.rungs.attention_heads import Heads
from scratch_models.rungs.averaging import AveragePast


@dataclass(frozen=True, kw_only=True)
class OneLayerConfig:
    """The shape of a model of one layer."""

    vocabulary_size: int
    """Rows of the token embedding."""
    block_size: int
    """Longest row in tokens: the number of learned positions."""
    width: int
    """Width of the embeddings."""
    mixing: Literal["average", "attention"]
    """How a token reads those before it."""
    heads: int = 1
    """Heads of attention; they divide the width."""

    def __post_init__(self) -> None:
        if min(self.vocabulary_size, self.block_size, self.width, self.heads) < 1:
            raise InputError(f"the shape of a model needs sizes of at least 1, got {self}")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not a multiple of heads {self.heads}: choose a width that is")


class OneLayerModel(nn.Module):
    """Token and position embeddings, one layer that mixes tokens, and a head."""

    def __init__(self, config: OneLayerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding_table = nn.Embedding(config.vocabulary_size, config.width)
        self.position_embedding_table = nn.Embedding(config.block_size, config.width)
        self.mixing = AveragePast() if config.mixing == "average" else Heads(config.width, config.heads)
        self.lm_head = nn.Linear(config.width, config.vocabulary_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at every position: (B, T) ids -> (B, T, V)."""
        T = input_ids.shape[1]
        if self.config.block_size < T:
            raise InputError(f"{T} tokens do not fit the model's {self.config.block_size} positions: crop the row")
        positions = torch.arange(T, device=input_ids.device)  # (T)
        stream = self.token_embedding_table(input_ids) + self.position_embedding_table(positions)  # (B, T, D)
        logits: Tensor = self.lm_head(self.mixing(stream))  # (B, T, V)
        return logits
