"""Self-attention written out: one head, then several side by side.

Each token asks (its query), each offers itself (its key), and where they fit it hands over its value. So the mean of
the past becomes a weighted one whose weights depend on what the tokens are. `gpt.py` computes the same in one product
for all heads, with torch's own kernel.

Source: Vaswani et al. 2017, "Attention Is All You Need", sections 3.2.1 and 3.2.2.

Shapes: B rows of a batch, T tokens of a row, D width, K width of a head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratch_models.rungs.averaging import hide_future


class Head(nn.Module):
    """One head of causal self-attention."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, head_width, bias=False)
        self.key = nn.Linear(width, head_width, bias=False)
        self.value = nn.Linear(width, head_width, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """What each token reads from itself and those before it: (B, T, D) -> (B, T, K)."""
        mixed: Tensor = self.weights(stream) @ self.value(stream)  # (B, T, K)
        return mixed

    def weights(self, stream: Tensor) -> Tensor:
        """How much each token reads from each; the row of a token sums to 1: (B, T, D) -> (B, T, T)."""
        queries, keys = self.query(stream), self.key(stream)  # (B, T, K)
        # Sums of K products of variance 1 have variance K, and a softmax of large scores is nearly a choice of one.
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(keys.shape[-1])  # (B, T, T)
        return F.softmax(hide_future(scores), dim=-1)


class Heads(nn.Module):
    """Several heads that each look for something else, their findings mixed by a linear layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(width, width // heads) for _ in range(heads))
        self.projection = nn.Linear(width, width)

    def forward(self, stream: Tensor) -> Tensor:
        """What all heads read, mixed: (B, T, D) -> (B, T, D)."""
        mixed: Tensor = self.projection(torch.cat([head(stream) for head in self.heads], dim=-1))
        return mixed
