"""Attention over packed rows that computes nothing between one conversation and another.

transformers keeps packed conversations apart with a mask of T x T, of which most says no. Here the mask's place is
taken by the lengths of the conversations, which it asks for once a forward. Three kernels read them: torch's
variable-length one on a GPU in half precision, blocks of our own on a CPU, and torch's usual one, conversation by
conversation, where there is neither. Without packing (generation, evaluation of padded rows) it is transformers' own
attention; only when a model trains on a CPU do its rows go through the blocks too, packed or not. The mask that
transformers would have made is looked at first: where it says more than "causal within each conversation, within a
window", it is made and used.

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

from finetune.engine.block_attention import attend_in_blocks
from finetune.engine.shared_prefixes import prefixes_at

PACKED_ATTENTION = "graft_packed"
KNOWN_LAYERS = {"full_attention", "sliding_attention"}
UNKNOWN_OPTIONS = ("softcap", "s_aux", "position_bias")
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
    window: int | None = None
    """How many tokens each sees at most, itself included; None: all before it."""
    prefixes: list[int] | None = None
    """How many tokens each goes on from, of the newest before it that has 0 here, (S,); None: no conversation does."""


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Turns it on for a model; False where the model attends in a way of its own, which is left as it is.

    Without it packed rows are computed all the same, with a mask of T x T.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if config._attn_implementation != "sdpa" or not kinds <= KNOWN_LAYERS:
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
    lengths, prefixes = starts.diff().tolist(), prefixes_at(starts)
    window = options.get("local_size")
    if window is None or max(map(sum, zip(lengths, prefixes, strict=True))) <= window:
        window = None
    if looks_ahead or (window is not None and not knows_windows(device)):
        assert not any(prefixes), "a shared prefix under a mask that knows none"
        return _usual_mask(batch_size, q_length, kv_length, mask_function, options)
    return Conversations(lengths, starts.int(), window, prefixes if any(prefixes) else None)


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
    """What transformers calls in each layer: (B, H, T, E) and twice (B, K, T, E) -> (B, T, H, E).

    Raises:
        NotImplementedError: packed rows are to be attended to in a way that no kernel knows.

    """
    unknown = [name for name in UNKNOWN_OPTIONS if options.get(name) is not None]
    if isinstance(attention_mask, Conversations):
        if unknown:
            raise NotImplementedError(f"{PACKED_ATTENTION}: {unknown[0]} is not known to it")
        return _attend_packed(query, key, value, attention_mask, dropout, scaling), None
    if attention_mask is None and not unknown and _trains_on_cpu(module, query, key, options):
        return _attend_packed(query, key, value, None, dropout, scaling), None
    output: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )
    return output


AttentionInterface.register(PACKED_ATTENTION, attend)
AttentionMaskInterface.register(PACKED_ATTENTION, make_mask)


def _trains_on_cpu(module: nn.Module, query: Tensor, key: Tensor, options: dict[str, Any]) -> bool:
    # There torch's fused kernel knows no dropout, and takes thrice as long for the backward pass of bfloat16.
    if not module.training or query.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    is_causal = options.get("is_causal")
    return query.shape[2] == key.shape[2] and bool(
        getattr(module, "is_causal", True) if is_causal is None else is_causal
    )


@torch.compiler.disable  # which would compile anew for the lengths of every micro-batch
def _attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    conversations: Conversations | None,
    dropout: float,
    scaling: float | None,
) -> Tensor:
    B, _, T, _ = query.shape
    device = query.device
    if conversations is None:
        conversations = Conversations([T] * B, torch.arange(0, B * T + 1, T, dtype=torch.int32, device=device))
    # Autocast knows torch's own attention, not these. A rotation leaves queries and keys of another type than values.
    of_layers = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else query.dtype
    if device.type != "cpu":
        query, key, value = query.to(of_layers), key.to(of_layers), value.to(of_layers)
    attended = choose_kernel(query, value, dropout)(query, key, value, conversations, dropout, scaling)  # (B T, H, E)
    return attended.to(of_layers).unflatten(0, (B, T))  # (B, T, H, E)


def _usual_mask(
    batch_size: int, q_length: int, kv_length: int, mask_function: Callable[..., Any], options: dict[str, Any]
) -> Tensor | None:
    mask: Tensor | None = sdpa_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, mask_function=mask_function, **options
    )
    return mask


Kernel = Callable[[Tensor, Tensor, Tensor, Conversations, float, float | None], Tensor]
"""(B, H, T, E) and twice (B, K, T, E), with dropout and scaling -> (B T, H, E)."""


def choose_kernel(query: Tensor, value: Tensor, dropout: float) -> Kernel:
    """What attends: blocks on a CPU; on a GPU the variable-length kernel where it can, which knows no dropout."""
    if query.device.type == "cpu":
        return attend_by_blocks
    fits = query.dtype in HALF_PRECISION and query.shape[-1] == value.shape[-1] <= WIDEST_HEAD and dropout == 0.0
    if fits and query.is_cuda and torch.cuda.get_device_capability(query.device) >= OLDEST_CAPABILITY:
        return attend_by_varlen
    return attend_one_by_one


def knows_windows(device: torch.device) -> bool:
    """Whether what is chosen there can hide what lies further back than a window: the blocks can."""
    return device.type == "cpu"


def attend_by_blocks(
    query: Tensor, key: Tensor, value: Tensor, conversations: Conversations, dropout: float, scaling: float | None
) -> Tensor:
    """By blocks of our own."""
    # Products this small are no faster in half precision, and each length of a conversation would have them compiled
    # anew.
    dtype = torch.promote_types(query.dtype, torch.float32)
    query, key, value = (one.to(dtype).transpose(0, 1).flatten(1, 2) for one in (query, key, value))  # (., B T, E)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend_in_blocks(
        query, key, value, conversations.lengths, scaling, dropout, conversations.window, conversations.prefixes
    )


def attend_by_varlen(
    query: Tensor, key: Tensor, value: Tensor, conversations: Conversations, dropout: float, scaling: float | None
) -> Tensor:
    """By torch's variable-length kernel; it takes no dropout."""
    query, key, value = _end_to_end(query, key, value)
    longest = max(conversations.lengths)
    starts, causal = conversations.starts, (-1, 0)
    out = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scaling, window_size=causal)
    assert isinstance(out, Tensor)  # not a pair: its sums were not asked for
    return out


def attend_one_by_one(
    query: Tensor, key: Tensor, value: Tensor, conversations: Conversations, dropout: float, scaling: float | None
) -> Tensor:
    """By torch's usual kernel, called for each conversation."""
    # Split, not sliced: the gradient of a slice is as long as the whole row.
    parts = (
        one.transpose(0, 1).unsqueeze(0).split(conversations.lengths, dim=2) for one in _end_to_end(query, key, value)
    )
    attended = [
        nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(attended, dim=2)[0].transpose(0, 1)


def _end_to_end(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All rows one behind the other, with as many heads everywhere, as the kernel of torch 2.11 wants: (B T, H, E)."""
    query, key, value = (one.transpose(1, 2).flatten(0, 1) for one in (query, key, value))
    if query.shape[1] != key.shape[1]:
        heads = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(heads, dim=1) for one in (key, value))
    return query, key, value
