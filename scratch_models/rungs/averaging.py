"""The mean of the past, written three ways that give the same: the idea from which attention is one step.

A token that looks at nothing but the mean of what came before already knows which characters there were, though not in
what order. Written as the softmax of a mask, the weights need only depend on the tokens to be attention.

Shapes: B rows of a batch, T tokens of a row, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def average_by_loop(stream: Tensor) -> Tensor:
    """The mean of each token and all before it, one after the other: (B, T, D) -> (B, T, D).

    >>> average_by_loop(torch.tensor([[[2.0], [4.0], [9.0]]])).flatten().tolist()
    [2.0, 3.0, 5.0]
    """
    means = torch.empty_like(stream)
    for row in range(stream.shape[0]):
        for token in range(stream.shape[1]):
            means[row, token] = stream[row, : token + 1].mean(dim=0)  # (D)
    return means


def average_by_product(stream: Tensor) -> Tensor:
    """The same as one matrix product, with a lower triangle whose rows sum to 1: (B, T, D) -> (B, T, D).

    >>> average_by_product(torch.tensor([[[2.0], [4.0], [9.0]]])).flatten().tolist()
    [2.0, 3.0, 5.0]
    """
    T = stream.shape[1]
    weights = torch.ones(T, T, dtype=stream.dtype, device=stream.device).tril()  # (T, T)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights @ stream


def average_by_softmax(stream: Tensor) -> Tensor:
    """The same with scores of 0 for the past, minus infinity for the future, and a softmax: (B, T, D) -> (B, T, D).

    >>> average_by_softmax(torch.tensor([[[2.0], [4.0]]])).flatten().tolist()
    [2.0, 3.0]
    """
    T = stream.shape[1]
    scores = torch.zeros(T, T, dtype=stream.dtype, device=stream.device)  # (T, T)
    return F.softmax(hide_future(scores), dim=-1) @ stream


def hide_future(scores: Tensor) -> Tensor:
    """Scores with minus infinity where a token would look ahead: (..., T, T) -> (..., T, T)."""
    T = scores.shape[-1]
    is_past = torch.ones(T, T, dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~is_past, float("-inf"))


class AveragePast(nn.Module):
    """The mean of the past as a layer; nothing of it is learned."""

    def forward(self, stream: Tensor) -> Tensor:
        """The mean of each token and all before it: (B, T, D) -> (B, T, D)."""
        return average_by_product(stream)
