"""Attention over packed rows that computes nothing between one conversation and another.

transformers keeps packed conversations apart with a mask of T x T, of which most says no. Here the mask's place is
taken by the lengths of the conversations: on a GPU in half precision torch's variable-length kernel reads them,
anywhere else each conversation is attended to by itself. Without packing (generation, evaluation, padded rows) it is
transformers' own attention. The mask that transformers would have made is looked at first: where it says more than
"causal within each conversation", such as a window that is shorter than one, it is made and used.

Shapes: B rows, T tokens of a row, S conversations of all rows, H heads, K heads of keys and values, E width of a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED_ATTENTION = "graft_packed"
HALF_PRECISION = (torch.float16, torch.bfloat16)
WIDEST_HEAD = 256  # of the variable-length kernel
OLDEST_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Conversations:
    """How many tokens each conversation of a micro-batch has, row after row."""

    lengths: list[int]
    """(S,)"""
    starts: Tensor
    """Where each begins in all rows end to end, and the end of the last, (S + 1,) of int32 on the model's device."""


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Turns it on for a model; False where the model attends in a way of its own, which is left as it is.

    Without it packed rows are computed all the same, with a mask of T x T.
    """
    if model.config.get_text_config()._attn_implementation != "sdpa":
        return False
    model.set_attn_implementation(PACKED_ATTENTION)
    return model.config.get_text_config()._attn_implementation == PACKED_ATTENTION


def use_usual_attention(model: PreTrainedModel) -> None:
    """Turns it off."""
    if model.config.get_text_config()._attn_implementation == PACKED_ATTENTION:
        model.set_attn_implementation("sdpa")


def make_mask(
    batch_size: int, q_length: int, kv_length: int, mask_function: Callable[..., Any], **options: Any
) -> Tensor | Conversations | None:
    """What transformers calls for the mask: the conversations of packed rows, else transformers' own mask."""
    usual = options.get("allow_is_causal_skip", True) or options.get("use_vmap", False)
    if usual or options.get("attention_mask") is not None or q_length != kv_length:
        return _usual_mask(batch_size, q_length, kv_length, mask_function, options)
    device = torch.device(options.get("device", "cpu"))
    rows, first = torch.arange(batch_size, device=device)[:, None], torch.zeros((), dtype=torch.int64, device=device)
    later = torch.arange(1, q_length, device=device)[None]  # (1, T - 1)
    joined = mask_function(rows, first, later, later - 1).expand(batch_size, -1)  # (B, T - 1)
    looks_ahead = mask_function(rows, first, later - 1, later).any()
    begins = torch.cat([torch.ones_like(joined[:, :1]), ~joined], dim=1) if q_length > 1 else ~joined.new_zeros(1, 1)
    starts = torch.cat([begins.flatten().nonzero().squeeze(1), torch.tensor([begins.numel()], device=device)])
    lengths = starts.diff().tolist()
    window = options.get("local_size")
    if looks_ahead or (window is not None and max(lengths) > window):
        return _usual_mask(batch_size, q_length, kv_length, mask_function, options)
    return Conversations(lengths, starts.int())


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | Conversations | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer: (B, H, T, E) and twice (B, K, T, E) -> (B, T, H, E)."""
    if not isinstance(attention_mask, Conversations):
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output
    return _attend_packed(query, key, value, attention_mask, dropout, scaling), None


AttentionInterface.register(PACKED_ATTENTION, attend)
AttentionMaskInterface.register(PACKED_ATTENTION, make_mask)


@torch.compiler.disable  # which would compile anew for the lengths of every micro-batch
def _attend_packed(
    query: Tensor, key: Tensor, value: Tensor, conversations: Conversations, dropout: float, scaling: float | None
) -> Tensor:
    B, H, T, _ = query.shape
    device = query.device.type
    if torch.is_autocast_enabled(device):  # which knows torch's own attention, not the kernel
        query, key, value = (one.to(torch.get_autocast_dtype(device)) for one in (query, key, value))
    query, key, value = (one.transpose(1, 2).flatten(0, 1) for one in (query, key, value))  # (B T, H or K, E)
    if query.shape[1] != key.shape[1]:  # the kernel of torch 2.11 wants as many heads everywhere
        key, value = (one.repeat_interleave(H // one.shape[1], dim=1) for one in (key, value))
    prompt_format = _attend_by_kernel if _has_kernel(query, value, dropout) else _attend_one_by_one
    return prompt_format(query, key, value, conversations, dropout, scaling).unflatten(0, (B, T))  # (B, T, H, E)


def _usual_mask(
    batch_size: int, q_length: int, kv_length: int, mask_function: Callable[..., Any], options: dict[str, Any]
) -> Tensor | None:
    mask: Tensor | None = sdpa_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, mask_function=mask_function, **options
    )
    return mask


def _has_kernel(query: Tensor, value: Tensor, dropout: float) -> bool:
    # The kernel knows no dropout.
    fits = query.dtype in HALF_PRECISION and query.shape[-1] == value.shape[-1] <= WIDEST_HEAD and dropout == 0.0
    return fits and query.is_cuda and torch.cuda.get_device_capability(query.device) >= OLDEST_CAPABILITY


def _attend_by_kernel(
    query: Tensor, key: Tensor, value: Tensor, conversations: Conversations, dropout: float, scaling: float | None
) -> Tensor:
    longest = max(conversations.lengths)
    starts, causal = conversations.starts, (-1, 0)
    out = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scaling, window_size=causal)
    assert isinstance(out, Tensor)  # not a pair: its sums were not asked for
    return out  # (B T, H, E)


def _attend_one_by_one(
    query: Tensor, key: Tensor, value: Tensor, conversations: Conversations, dropout: float, scaling: float | None
) -> Tensor:
    # Split, not sliced: the gradient of a slice is as long as the whole row.
    parts = (one.transpose(0, 1).unsqueeze(0).split(conversations.lengths, dim=2) for one in (query, key, value))
    attended = [
        nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(attended, dim=2)[0].transpose(0, 1)  # (B T, H, E)
