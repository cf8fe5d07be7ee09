"""A model's hidden states with the conversations of a micro-batch laid end to end, and whether that is exact for it.

Shapes: B rows, T tokens, N tokens of all conversations, D width.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune.flat_attention import FLAT_ATTENTION, as_mask
from finetune.flat_rows import lay_end_to_end
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
