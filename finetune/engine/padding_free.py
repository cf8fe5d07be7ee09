"""A model's hidden states with the conversations of a micro-batch laid end to end, and whether that is exact for it.

Shapes: B rows, T tokens, N tokens of all conversations, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from finetune.engine.padding_free_attention import FLAT_ATTENTION, as_mask
from scratch_models.loop.micro_batches import IGNORED_TARGET

KNOWN_LAYERS = {"full_attention", "sliding_attention"}
MULTIPLE_IN_HALF = 64  # tokens


def flat_hidden_states(
    model: PreTrainedModel, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The last hidden states of conversations end to end and their targets: (1, N, D) and (1, N)."""
    in_half = torch.is_autocast_enabled(input_ids.device.type)
    rows = lay_end_to_end(input_ids, targets, position_ids, MULTIPLE_IN_HALF if in_half else 1)
    output = model.base_model(
        input_ids=rows.input_ids,
        attention_mask=as_mask(rows.lengths),
        position_ids=rows.position_ids,
        use_cache=False,
    )
    return output.last_hidden_state, rows.targets


def use_flat_attention(model: PreTrainedModel) -> bool:
    """Gives the model the attention that `flat_hidden_states` needs, if its hidden states are the same with it.

    A model whose layers read a mask otherwise than by passing it on keeps what it has.
    """
    before, was_training = model.config._attn_implementation, model.training
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if before != "sdpa" or not kinds <= KNOWN_LAYERS:
        return False
    model.eval()
    try:
        exact = _is_exact(model)
    except (ValueError, TypeError, RuntimeError):  # it cannot do with lengths in the place of a mask
        exact = False
    model.train(was_training)
    if not exact:
        model.set_attn_implementation(before)
    return exact


@torch.no_grad()
def _is_exact(model: PreTrainedModel) -> bool:
    ids = torch.arange(14, device=model.device).view(2, 7) % model.config.get_text_config().vocab_size
    targets = torch.tensor([[1] * 7, [1, 1, 1, -100, -100, -100, -100]], device=model.device)
    expected = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[targets != IGNORED_TARGET]  # (N, D)
    model.set_attn_implementation(FLAT_ATTENTION)
    found = flat_hidden_states(model, ids, targets)[0][0]  # (N, D)
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class FlatRows:
    """Conversations end to end."""

    input_ids: Tensor
    """(1, N)"""
    targets: Tensor
    """(1, N)"""
    position_ids: Tensor
    """(1, N), from 0 in each conversation."""
    lengths: Tensor
    """Tokens of each conversation, (S,)."""


def lay_end_to_end(
    input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None, multiple: int = 1
) -> FlatRows:
    """The conversations of B rows; with `position_ids`, which start anew at 0, a row may hold several.

    With a `multiple`, a last conversation in which nothing is learned fills N up to one: a CPU compiles the products of
    half precision anew for every N that it has not met.

    Where nothing at all is learned, one token is left, so that every process still takes part in its sums.

    >>> rows = lay_end_to_end(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[-100, 7, -100], [9, 4, -100]]))
    >>> rows.input_ids.tolist(), rows.lengths.tolist()
    ([[5, 6, 8, 9]], [2, 2])
    """
    if position_ids is None:
        position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    position_ids = position_ids.expand_as(input_ids).flatten()  # (B T,)
    ids, flat_targets = input_ids.flatten(), targets.flatten()
    conversation = (position_ids == 0).cumsum(0) - 1  # (B T,), whose position it is
    learned = flat_targets != IGNORED_TARGET
    # The place just behind the last target of each conversation, 0 where it has none.
    ends = torch.zeros(int(conversation[-1]) + 1, dtype=torch.int64, device=ids.device)
    ends.scatter_reduce_(0, conversation, torch.where(learned, position_ids + 1, 0), "amax")
    if not bool(learned.any()):
        ends[0] = 1
    kept = (position_ids < ends[conversation]).nonzero().squeeze(1)  # (N,)
    filling = -len(kept) % multiple
    return FlatRows(
        input_ids=F.pad(ids[kept], (0, filling)).unsqueeze(0),
        targets=F.pad(flat_targets[kept], (0, filling), value=IGNORED_TARGET).unsqueeze(0),
        position_ids=F.pad(position_ids[kept], (0, filling)).unsqueeze(0),
        lengths=F.pad(ends[ends > 0], (0, int(filling > 0)), value=filling),
    )
