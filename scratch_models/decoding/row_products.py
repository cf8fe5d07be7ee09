"""Products of a few rows with a weight, as decoding needs them: each reads every weight once for every token.

A product of one row is as fast as the weight can be read, and how fast that is depends on how it lies in memory. On a
CPU a weight that has at least as many outputs as inputs is read about one and a half times as fast where it is laid
out by columns, one with fewer where it is laid out by rows (tests/benchmarks/generation.py measures it).

Shapes: R rows, K inputs, N outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class RowProduct:
    """``x @ weight.T + bias``: (..., K) -> (..., N); several weights that read the same rows are one, end to end."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None], *, lay_out: bool) -> None:
        """Takes weights of (N, K) each, and a bias or None for each.

        `lay_out` says whether copies may be made that are read faster; without it the weights serve as they are.
        """
        self.outputs = [weight.shape[0] for weight in weights]
        self.weights, self.biases = tuple(weights), tuple(biases)
        self.columns: Tensor | None = None  # (K, N)
        self.copied_bytes = 0
        if not lay_out or weights[0].device.type != "cpu":
            return
        if sum(self.outputs) >= weights[0].shape[1]:
            whole = (
                torch.cat([weight.detach().t() for weight in weights], dim=1) if len(weights) > 1 else weights[0].t()
            )
            self.columns = whole.detach().contiguous()
            self.biases = (_joined(weights, biases),)
            self.copied_bytes = 0 if self.columns.data_ptr() == weights[0].data_ptr() else self.columns.nbytes
        else:
            self.weights = tuple(weight.detach().contiguous() for weight in weights)
            pairs = zip(self.weights, weights, strict=True)
            self.copied_bytes = sum(ours.nbytes for ours, theirs in pairs if ours.data_ptr() != theirs.data_ptr())

    def __call__(self, rows: Tensor) -> Tensor:
        """The products, the outputs of several weights side by side."""
        if self.columns is not None:
            product = rows @ self.columns
            return product if self.biases[0] is None else product + self.biases[0]
        products = [F.linear(rows, weight, bias) for weight, bias in zip(self.weights, self.biases, strict=True)]
        return products[0] if len(products) == 1 else torch.cat(products, dim=-1)


def _joined(weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor | None:
    """The biases end to end, (N), zeros where one lacks; None where all do."""
    if all(bias is None for bias in biases):
        return None
    pairs = zip(weights, biases, strict=True)
    return torch.cat([weight.new_zeros(len(weight)) if bias is None else bias.detach() for weight, bias in pairs])
