"""Start rows for new tokens.

    zero            nothing
    normal          noise with the mean and the spread of the old rows, coordinate by coordinate
    mean            the mean of the old rows: a new token is no more likely than an old one is on average
                    (Hewitt 2021, https://www.cs.columbia.edu/~johnhew/vocab-expansion.html)
    subtoken_mean   the mean of the rows that the token's text took before (Gee et al. 2022, "Fast Vocabulary Transfer
                    for Language Model Compression"); the mean of all rows where it took none, as for control tokens
    asymmetric      input rows: that mean, as long as old rows are on average; output rows: the mean of the output rows
                    of the same tokens, each weighted by its characters (Joshi et al. 2026, arXiv 2608.03494)

A row of a tied model is both, and follows the rule for input rows.

Shapes: V ids before, N new tokens, D width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from configs import InputError
from tokenizer_ext.embeddings.start_names import Start
from tokenizer_ext.embeddings.tables import find_tables


def start_tables(
    model: nn.Module,
    first_new_id: int,
    sub_tokens: Sequence[Sequence[int]],
    start: Start,
    seed: int = 0,
    *,
    character_counts: Mapping[int, int] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The `input_rows` and `output_rows` that `grow_rows` writes for new tokens, given the old ids of each.

    `character_counts` says how many characters each old id stands for, at least one; only "asymmetric" asks for it, of
    a model with output rows of their own. In a bigram table the columns start as the rows do: a new token follows the
    others as its old ids did. Both are scores there, so "asymmetric" takes the rule for output rows.

    Raises:
        InputError: "asymmetric" lacks the character counts.

    """
    tables = find_tables(model)
    old = tables.embedding.weight.detach()[:first_new_id]  # (V, D)
    if tables.head is None:
        rows = output_start_rows(old, sub_tokens, start, seed, character_counts)  # (N, D)
        grown = torch.cat([old, rows]).T  # (D, V + N)
        columns = output_start_rows(grown, sub_tokens, start, seed + 1, character_counts).T  # (V + N, N)
        return torch.cat([rows, columns[first_new_id:]], dim=1), columns[:first_new_id]
    rows = start_rows(old, sub_tokens, start, seed)  # (N, D)
    if tables.tied:
        return rows, None
    return rows, output_start_rows(tables.head.weight[:first_new_id], sub_tokens, start, seed + 1, character_counts)


def start_rows(old_rows: Tensor, sub_tokens: Sequence[Sequence[int]], start: Start, seed: int = 0) -> Tensor:
    """One input row a new token: (V, D) and the old ids of each of N tokens -> (N, D).

    >>> start_rows(torch.tensor([[0.0, 2.0], [4.0, 4.0], [5.0, 9.0]]), [[0, 1], []], "subtoken_mean")
    tensor([[2., 3.],
            [3., 5.]])
    """
    old_rows = old_rows.detach()
    if start == "zero":
        return old_rows.new_zeros(len(sub_tokens), old_rows.shape[1])  # (N, D)
    if start == "normal":
        noise = torch.randn((len(sub_tokens), old_rows.shape[1]), generator=torch.Generator().manual_seed(seed))
        return noise.to(old_rows) * old_rows.std(dim=0) + old_rows.mean(dim=0)  # (N, D)
    if start == "mean":
        return old_rows.mean(dim=0).repeat(len(sub_tokens), 1)  # (N, D)
    rows = weighted_means(old_rows, sub_tokens)  # (N, D)
    return rows if start == "subtoken_mean" else _with_norm_of(old_rows, rows, sub_tokens)


def weighted_means(
    old_rows: Tensor, sub_tokens: Sequence[Sequence[int]], weights: Mapping[int, int] | None = None
) -> Tensor:
    """The mean of each token's old rows, every id by its weight; of all rows where it has none: (V, D) -> (N, D).

    >>> weighted_means(torch.tensor([[0.0], [4.0]]), [[0, 1], [0, 1, 1]], {0: 3, 1: 1})
    tensor([[1.0000],
            [1.6000]])
    """
    old_rows = old_rows.detach()
    rows = old_rows.mean(dim=0).repeat(len(sub_tokens), 1)  # (N, D)
    exact = torch.promote_types(old_rows.dtype, torch.float32)  # half precision could not tell 1/3 from 0.3320
    for place, ids in enumerate(sub_tokens):
        if ids:
            shares = torch.tensor([1 if weights is None else weights[id_] for id_ in ids], dtype=exact).to(rows.device)
            rows[place] = (shares / shares.sum()) @ old_rows[list(ids)].to(exact)
    return rows


def output_start_rows(
    old_rows: Tensor,
    sub_tokens: Sequence[Sequence[int]],
    start: Start,
    seed: int,
    character_counts: Mapping[int, int] | None,
) -> Tensor:
    """One row of an untied head a new token: (V, D) and the old ids of each of N tokens -> (N, D).

    Raises:
        InputError: "asymmetric" lacks the character counts.

    """
    if start != "asymmetric":
        return start_rows(old_rows, sub_tokens, start, seed)
    if character_counts is None:
        raise InputError(
            "start: found 'asymmetric' and no character_counts, expected the characters of every old id: pass "
            "character_counts=tokenizer_ext.huggingface.hf_tokenizer.character_counts(tokenizer)"
        )
    return weighted_means(old_rows, sub_tokens, character_counts)


def _with_norm_of(old_rows: Tensor, rows: Tensor, sub_tokens: Sequence[Sequence[int]]) -> Tensor:
    """The rows as long as old ones are on average: a mean is shorter than what it is a mean of."""
    # The mean of all rows, where a control token starts, is short because it points nowhere: it stays as it is.
    has_sub_tokens = torch.tensor([bool(ids) for ids in sub_tokens], device=rows.device).unsqueeze(-1)  # (N, 1)
    lengths = rows.norm(dim=1, keepdim=True)  # (N, 1)
    matched = rows * (old_rows.norm(dim=1).mean() / lengths.clamp(min=torch.finfo(rows.dtype).tiny))
    return torch.where(has_sub_tokens, matched, rows)  # (N, D)
