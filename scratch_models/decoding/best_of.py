"""Several continuations of one prompt, and which of them the model itself finds likeliest.

Shapes: T ids of a row, V vocabulary.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scratch_models.decoding.generation import generate_rows, window_of
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.rungs.all_rungs import ScratchModel

WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class Candidate:
    """One continuation, without the id that ended it."""

    ids: tuple[int, ...]
    nats_per_token: float
    """What the model, without temperature, top-k and top-p, found each of its ids to cost on average, the end included;
    infinite where there is none."""


@dataclass(frozen=True)
class Candidates:
    """All of them, the likeliest first, and what they cost."""

    ranked: tuple[Candidate, ...]
    tokens: int
    """Ids that were generated for all of them."""
    seconds: float


def sample_candidates(
    model: ScratchModel,
    input_ids: Sequence[int],
    count: int,
    max_new_tokens: int,
    sampling: Sampling,
    end_id: int | None = None,
) -> Candidates:
    """So many continuations, drawn together, each under noise of its own.

    Raises:
        InputError: `input_ids` is empty, or the model's logits are broken.
    """
    began = time.monotonic()
    rows: list[list[int]] = [[] for _ in range(count)]
    for chosen in generate_rows(model, [input_ids] * count, max_new_tokens, sampling):
        for row, id_ in zip(rows, chosen, strict=True):
            if end_id is None or end_id not in row[-1:]:
                row.append(id_)
        if end_id is not None and all(row[-1] == end_id for row in rows):
            break
    candidates = []
    for row in rows:
        nats = math.inf if not row else float(nats_of(model, input_ids, row).mean())
        ids = row[:-1] if end_id in row[-1:] else row
        candidates.append(Candidate(tuple(ids), nats))
    ranked = tuple(sorted(candidates, key=lambda candidate: candidate.nats_per_token))
    return Candidates(ranked, tokens=sum(map(len, rows)), seconds=time.monotonic() - began)


@torch.no_grad()
def nats_of(model: ScratchModel, input_ids: Sequence[int], continued: Sequence[int]) -> Tensor:
    """What each id of a continuation cost the model that saw what came before, as far as its window goes: (T)."""
    model.eval()
    device = next(model.parameters()).device
    ids = torch.tensor([*input_ids, *continued], device=device)  # (all)
    window, first = window_of(model), len(input_ids)
    costs = []
    # What fits the window is read in one go. Beyond it every id is seen from another first id: each has its own row.
    within = min(len(ids), window + 1)
    if first < within:
        logits = model(ids[None, : within - 1])[0, first - 1 :]  # (within - first, V)
        costs.append(_cost(logits, ids[first:within]))
    starts = torch.arange(max(first, within), len(ids), device=device) - window
    for some in starts.split(WINDOWS_AT_ONCE):
        rows = ids[some[:, None] + torch.arange(window, device=device)]  # (some, window)
        costs.append(_cost(model(rows)[:, -1], ids[some + window]))
    return torch.cat(costs)


def _cost(logits: Tensor, ids: Tensor) -> Tensor:
    return -logits.float().log_softmax(dim=-1).gather(1, ids[:, None])[:, 0]  # (T)
