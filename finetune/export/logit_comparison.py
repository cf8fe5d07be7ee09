"""Whether two models say the same: all their logits on fixed ids that hold the newest tokens too.

Shapes: B rows, T ids of a row, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tokenizer_ext.pages.progress import shown

ROWS, IDS = 8, 32


class LogitComparison(NamedTuple):
    """How far the logits of a model lie from known ones."""

    largest_difference: float
    """Between two logits; NaN where one is NaN."""
    same_choice: float
    """Share of positions at which both find the same token likeliest."""


def probe_ids(vocabulary: int, positions: int | None = None) -> Tensor:
    """Rows of ids to compare models on, (B, T): random ones, and in the last two rows the newest ids in their order.

    >>> probe_ids(300)[-2:].flatten().tolist() == list(range(236, 300))
    True
    """
    width = min(IDS, positions or IDS)
    random = torch.randint(vocabulary, (ROWS - 2, width), generator=torch.Generator().manual_seed(0))
    newest = torch.arange(vocabulary - 2 * width, vocabulary).clamp(min=0).view(2, width)
    return torch.cat([random, newest])  # (B, T)


@torch.no_grad()
def logits_of(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The logits in the model's precision, on the CPU, taken row by row: (B, T) -> (B, T, V)."""
    rows = ids.to(next(model.parameters()).device)
    return torch.cat([model(input_ids=row[None], use_cache=False).logits.cpu() for row in rows])


@torch.no_grad()
@shown("comparing logits")
def compare_logits(model: PreTrainedModel, ids: Tensor, expected: Tensor) -> LogitComparison:
    """The model against logits that are known, one row of them at a time."""
    difference, same = torch.zeros(()), 0
    for row, known in zip(ids, expected, strict=True):
        found = logits_of(model, row[None])[0]  # (T, V)
        difference = torch.maximum(difference, (found - known).abs().max())  # hands NaN on
        same += int((found.argmax(-1) == known.argmax(-1)).sum())
    return LogitComparison(float(difference), same / ids.numel())
