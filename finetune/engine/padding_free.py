"""A model's hidden states of packed rows, which hold nothing but conversations, and whether packing is exact for it.

Shapes: B rows, T tokens of a row, N tokens of several conversations, D width.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from configs.errors import lacks_memory
from finetune.engine.shared_prefixes import packed_at

MULTIPLE_IN_HALF = 64  # tokens
LARGEST_DIFFERENCE = {torch.float64: 1e-3, torch.float32: 1e-3}
IN_HALF_DIFFERENCE = 5e-2
LENGTHS = (7, 1, 5)
"""Of the conversations that are tried; a model that joins them is far off in some of them."""
PREFIX = 3
"""Tokens that they begin with, where those are shared."""


def hidden_states(model: PreTrainedModel, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """The last hidden states of a micro-batch: (B, T) -> (B, T, D).

    Packed rows bring `position_ids`, (B, T), which begin at 0 with each conversation: without an attention mask that is
    what keeps them apart. One that begins at position P goes on from the first P tokens of the newest that begins at 0,
    which packed attention alone knows. Rows that are padded on the right bring none: no position of a causal model sees
    what follows.
    """
    tokens = input_ids.shape[1]
    if filling := _filling(input_ids):
        input_ids = F.pad(input_ids, (0, filling))
        if position_ids is not None:  # a last conversation in which nothing is learned
            position_ids = torch.cat([position_ids, _positions(filling, position_ids)], dim=1)
    positions = {} if position_ids is None else {"position_ids": position_ids}
    with packed_at(position_ids):
        hidden: Tensor = model.base_model(input_ids=input_ids, use_cache=False, **positions).last_hidden_state
    return hidden[:, :tokens]


def packing_is_exact(model: PreTrainedModel) -> bool:
    """Whether each conversation of a packed row has the hidden states that it has alone, measured.

    It has not where layers let something of one conversation into the next, as convolutions and recurrences do, or
    where the model does not take positions.
    """
    return _is_exact(model, prefix=0)


def prefix_sharing_is_exact(model: PreTrainedModel) -> bool:
    """Whether it is also where conversations go on from a prefix that stands in the row once, measured."""
    return _is_exact(model, prefix=PREFIX)


@torch.no_grad()
def _is_exact(model: PreTrainedModel, prefix: int) -> bool:
    was_training = model.training
    model.eval()
    try:
        sizes = [prefix + length for length in LENGTHS]
        ids = torch.arange(3, 3 + sum(sizes), device=model.device) % model.config.get_text_config().vocab_size
        texts = [torch.cat([ids[:prefix], one[prefix:]]) for one in ids.split(sizes)]
        skipped = [0, *[prefix] * (len(texts) - 1)]
        alone = [hidden_states(model, text.unsqueeze(0))[0, skip:] for text, skip in zip(texts, skipped, strict=True)]
        parts = [
            (text[skip:], torch.arange(skip, len(text), device=model.device))
            for text, skip in zip(texts, skipped, strict=True)
        ]
        row, positions = (torch.cat(part).unsqueeze(0) for part in zip(*parts, strict=True))
        packed = hidden_states(model, row, positions)[0]
    except (ValueError, TypeError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        return False  # it takes no positions, or an attention that it has is not known
    finally:
        model.train(was_training)
    expected = torch.cat(alone)  # (N, D)
    apart = (packed - expected).norm(dim=1) / expected.norm(dim=1)  # (N,)
    return bool((apart <= LARGEST_DIFFERENCE.get(packed.dtype, IN_HALF_DIFFERENCE)).all())


def _filling(input_ids: Tensor) -> int:
    """Tokens that each row is filled up with: for a new number of them a CPU compiles products of half anew."""
    if input_ids.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return 0
    rows, tokens = input_ids.shape
    return -tokens % (MULTIPLE_IN_HALF // math.gcd(MULTIPLE_IN_HALF, rows))


def _positions(number: int, like: Tensor) -> Tensor:
    return torch.arange(number, device=like.device, dtype=like.dtype).expand(len(like), -1)
