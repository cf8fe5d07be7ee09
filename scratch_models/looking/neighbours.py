"""Rows of the embedding that point the same way: those next to a token's, and those next to a sum of words.

Shapes: V tokens, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scratch_models.looking.direction_terms import direction_terms
from scratch_models.looking.token_texts import ids_of_words

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Where a sum of words points."""

    text: str
    """As it was asked for."""
    ids: Sequence[int]
    """The tokens of its words; none where a word is missing."""
    missing: Sequence[str]
    """Words that are no single token of the vocabulary."""
    nearest: Sequence[tuple[int, float]]
    """The rows nearest to the sum, with their cosines; the words asked with are not left out."""


def nearest_to(vector: Tensor, table: Tensor, shown: int = SHOWN) -> list[tuple[int, float]]:
    """The rows with the largest cosine to a vector, with their cosines: (D) and (V, D) -> ids.

    >>> nearest_to(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [3.0, 0.0]]))
    [(1, 1.0), (0, 0.0)]
    """
    cosines = F.normalize(table, dim=1) @ F.normalize(vector, dim=0)  # (V)
    best = cosines.topk(min(shown, len(table)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def find_direction(text: str, table: Tensor, texts: Mapping[int, str]) -> Direction:
    """Where a sum of words points in a table, or which of its words are no single token."""
    known = ids_of_words(texts)
    terms = direction_terms(text)
    missing = [word for _, word in terms if word not in known]
    if missing:
        return Direction(text=text, ids=(), missing=missing, nearest=())
    ids = [known[word] for _, word in terms]
    signs = torch.tensor([sign for sign, _ in terms], dtype=table.dtype)
    rows = F.normalize(table[ids], dim=1)  # of equal length, or a long row would decide the sum
    return Direction(text=text, ids=ids, missing=(), nearest=nearest_to(signs @ rows, table, SHOWN + len(set(ids))))
