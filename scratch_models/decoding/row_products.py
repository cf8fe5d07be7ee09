"""Products of a few rows with a weight, as decoding needs them: each reads every weight once for every token.

A product of one row is as fast as the weight can be read, and how fast that is depends on how it lies in memory. On a
CPU a weight that has at least as many outputs as inputs is read about one and a half times as fast by one row where it
lies by columns, and by two to eight rows as the left side of the product; one with fewer outputs is best read as
`torch.nn.functional.linear` does (tests/benchmarks/generation.py measures it).

Shapes: R rows, K inputs, N outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

FEW_ROWS = 8
"""Rows up to which the weight stands on the left side of the product; from there on the usual product is as fast."""


class RowProduct:
    """``x @ weight.T + bias``: (..., K) -> (..., N); several weights that read the same rows are one, end to end."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None], *, lay_out: bool) -> None:
        """Takes weights of (N, K) each, and a bias or None for each.

        `lay_out` says whether copies may be made, once they are needed, that are read faster.
        """
        self.weights, self.biases = tuple(weights), tuple(biases)
        outputs = sum(len(weight) for weight in weights)
        self.is_laid_out = lay_out and weights[0].device.type == "cpu"
        self.is_wide = outputs >= weights[0].shape[1]
        self.bias = _joined(weights, biases)  # (N)
        self.columns: Tensor | None = None  # (K, N)
        self.rows: tuple[Tensor, ...] | None = None  # (N, K) each

    def __call__(self, rows: Tensor) -> Tensor:
        """The products, the outputs of several weights side by side."""
        count = rows.numel() // rows.shape[-1]
        if not self.is_laid_out or count > FEW_ROWS:
            products = [F.linear(rows, weight, bias) for weight, bias in zip(self.weights, self.biases, strict=True)]
            return products[0] if len(products) == 1 else torch.cat(products, dim=-1)
        product = self._of_one(rows) if count == 1 else self._of_few(rows)
        return product if self.bias is None else product + self.bias

    def _of_one(self, row: Tensor) -> Tensor:
        if not self.is_wide:
            return self._by_rows(row)
        if self.columns is None:
            turned = [weight.detach().t() for weight in self.weights]  # (K, N) each
            self.columns = (torch.cat(turned, dim=1) if len(turned) > 1 else turned[0]).contiguous()
        return row @ self.columns

    def _of_few(self, rows: Tensor) -> Tensor:
        if not self.is_wide:
            return self._by_rows(rows)
        turned = rows.reshape(-1, rows.shape[-1]).t()  # (K, R)
        products = [weight @ turned for weight in self._rows()]  # (N, R) each
        product = products[0] if len(products) == 1 else torch.cat(products)
        return product.t().reshape(*rows.shape[:-1], -1)

    def _by_rows(self, rows: Tensor) -> Tensor:
        products = [F.linear(rows, weight) for weight in self._rows()]
        return products[0] if len(products) == 1 else torch.cat(products, dim=-1)

    def _rows(self) -> tuple[Tensor, ...]:
        if self.rows is None:
            self.rows = tuple(weight.detach().contiguous() for weight in self.weights)
        return self.rows


def _joined(weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor | None:
    """The biases end to end, (N), zeros where one lacks; None where all do."""
    if all(bias is None for bias in biases):
        return None
    pairs = zip(weights, biases, strict=True)
    return torch.cat([weight.new_zeros(len(weight)) if bias is None else bias.detach() for weight, bias in pairs])
