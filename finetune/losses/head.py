"""The head of a causal model as the losses read it: tables of rows whose product with the hidden states is the logits.

Shapes: S tokens, R rows of a segment, D width.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from configs import InputError
from scratch_models.loop.sharding import class_before_sharding
from tokenizer_ext.embeddings.extended_tables import ExtendedHead
from tokenizer_ext.held_weights.stored_layers import is_linear

Segment = tuple[Tensor, Tensor | None]
"""Weight (R, D) and bias (R,) of successive ids."""


def head_segments(head: nn.Module) -> list[Segment] | None:
    """Weight and bias in the order of the ids; None where an adapter is on the head: only its forward knows its logits.

    >>> [weight.shape for weight, bias in head_segments(nn.Linear(4, 7)) or []]
    [torch.Size([7, 4])]
    """
    if isinstance(head, ExtendedHead):
        return head.segments()
    is_plain = is_linear(head) or class_before_sharding(head) is nn.Linear
    return [(head.weight, head.bias)] if is_plain else None  # type: ignore[list-item]


def as_factors(hidden: Tensor) -> tuple[Tensor, torch.dtype]:
    """Hidden states (S, D) in the type that `nn.Linear` would multiply them in, and the type that sums are kept in."""
    device = hidden.device.type
    factors = hidden.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden
    return factors, torch.promote_types(factors.dtype, torch.float32)


@torch.no_grad()
def check_logits_are_the_heads(model: PreTrainedModel) -> None:
    """Refuses a model that caps or scales its logits, or transforms the hidden state first.

    To call the head alone would train another model than the one that replies, and nothing would show it.

    Raises:
        InputError: the logits are not the head's on the last hidden state.

    """
    was_training = model.training
    model.eval()
    input_ids = torch.tensor([[0, 1, 2]], device=next(model.parameters()).device)
    hidden = getattr(model.base_model(input_ids=input_ids, use_cache=False), "last_hidden_state", None)
    theirs = model(input_ids=input_ids, use_cache=False).logits
    ours = None if hidden is None else model.get_output_embeddings()(hidden)
    model.train(was_training)
    if ours is None or not torch.allclose(ours, theirs, rtol=1e-6, atol=1e-7):
        raise InputError(
            f"{type(model).__name__}: its logits are not its head's on the last hidden state, expected a model without "
            "capped or scaled logits such as GPT-2, Llama, Qwen or OLMo"
        )
