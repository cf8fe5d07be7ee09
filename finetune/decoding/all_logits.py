"""Logits after every id of a text, a few positions at a time: under an adapter over a base that others share too.

Shapes: T ids of a text, P positions at once, D width, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from finetune.decoding.decoders import ReadModel, read_model
from finetune.decoding.growing_batches import BatchByParts
from finetune.decoding.linear_layers import Adapter
from scratch_models.decoding.joining_rows import PromptReader

IDS_AT_ONCE = 512
"""Ids that go through the blocks together."""
POSITIONS_AT_ONCE = 64
"""Positions whose logits exist at a time."""


def all_logits(
    model: PreTrainedModel, adapter: Adapter | None, ids: Sequence[int], *, first: int = 0
) -> Iterator[Tensor]:
    """Logits after the ids from place `first` on, (P, V), in order; no weight is copied or changed.

    Each stretch is computed when it is asked for, so that those of two models can be compared side by side.

    Args:
        model: In evaluation mode; of an adapter that lies over a shared base, that base.
        adapter: What goes over it; None where the model is whole by itself.
        ids: At least one.
        first: How many ids are only read.
    """
    read = read_model(model, lay_out=True)
    if read.parts is None:
        assert adapter is None, "a model that has no parts has its own adapter"
        return _by_own_forward(model, ids, first)
    return _by_parts(read, adapter, ids, first)


def _by_parts(read: ReadModel, adapter: Adapter | None, ids: Sequence[int], first: int) -> Iterator[Tensor]:
    parts = read.parts
    assert parts is not None, read.why_not
    batch = BatchByParts(read)
    chosen = batch.grouped([adapter])
    with torch.inference_mode():
        reader = PromptReader(parts, [ids])
    for start in range(0, len(ids), IDS_AT_ONCE):
        with torch.inference_mode(), batch.under(chosen):
            stream = reader.read_stretch(IDS_AT_ONCE)[0, max(0, first - start) :]  # (T, D)
        for few in stream.split(POSITIONS_AT_ONCE):
            if len(few):
                with torch.inference_mode(), batch.under(chosen):  # a mode must not be left on while others go on
                    logits = parts.head(parts.final_norm(few[None]))[0]  # (P, V)
                yield logits


def _by_own_forward(model: PreTrainedModel, ids: Sequence[int], first: int) -> Iterator[Tensor]:
    cache, row = DynamicCache(config=model.config), torch.tensor([ids], device=model.device)
    # What is only read needs the logits of its last id alone.
    starts = [*range(0, first, IDS_AT_ONCE), *range(first, len(ids), POSITIONS_AT_ONCE)]
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        positions = torch.arange(start, end, device=model.device)[None]  # (1, P)
        with torch.inference_mode():
            logits = model(
                input_ids=row[:, start:end],
                position_ids=positions,
                past_key_values=cache,
                logits_to_keep=1 if start < first else 0,
            ).logits[0]
        if start >= first:
            yield logits  # (P, V)
