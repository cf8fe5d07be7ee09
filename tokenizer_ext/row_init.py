"""Start rows for new tokens.

    zero            nothing
    normal          noise with the mean and the spread of the old rows, coordinate by coordinate
    mean            the mean of the old rows: a new token is no more likely than an old one is on average
                    (Hewitt 2021, https://www.cs.columbia.edu/~johnhew/vocab-expansion.html)
    subtoken_mean   the mean of the rows that the token's text took before (Gee et al. 2022, "Fast Vocabulary Transfer
                    for Language Model Compression"); the mean of all rows where it took none, as for control tokens

Shapes: V ids before, N new tokens, D width.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tokenizer_ext.embeddings import find_tables

Start = Literal["zero", "normal", "mean", "subtoken_mean"]


def start_tables(
    model: nn.Module, first_new_id: int, sub_tokens: Sequence[Sequence[int]], start: Start, seed: int = 0
) -> tuple[Tensor, Tensor | None]:
    """The `input_rows` and `output_rows` that `grow_rows` writes for new tokens, given the old ids of each.

    In a bigram table the columns start as the rows do: a new token follows the others as its old ids did.
    """
    tables = find_tables(model)
    old = tables.embedding.weight.detach()[:first_new_id]  # (V, D)
    rows = start_rows(old, sub_tokens, start, seed)  # (N, D)
    if tables.head is None:
        columns = start_rows(torch.cat([old, rows]).T, sub_tokens, start, seed + 1).T  # (V + N, N)
        return torch.cat([rows, columns[first_new_id:]], dim=1), columns[:first_new_id]
    if tables.tied:
        return rows, None
    return rows, start_rows(tables.head.weight[:first_new_id], sub_tokens, start, seed + 1)


def start_rows(old_rows: Tensor, sub_tokens: Sequence[Sequence[int]], start: Start, seed: int = 0) -> Tensor:
    """One row a new token: (V, D) and the old ids of each of N tokens -> (N, D).

    >>> start_rows(torch.tensor([[0.0, 2.0], [4.0, 4.0], [5.0, 9.0]]), [[0, 1], []], "subtoken_mean")
    tensor([[2., 3.],
            [3., 5.]])
    """
    old_rows = old_rows.detach()
    rows = old_rows.new_zeros(len(sub_tokens), old_rows.shape[1])  # (N, D)
    if start == "zero":
        return rows
    if start == "normal":
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)).to(rows)  # (N, D)
        return noise * old_rows.std(dim=0) + old_rows.mean(dim=0)
    rows += old_rows.mean(dim=0)
    if start == "subtoken_mean":
        for place, ids in enumerate(sub_tokens):
            if ids:
                rows[place] = old_rows[list(ids)].mean(dim=0)
    return rows
