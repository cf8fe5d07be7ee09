"""Causal attention over conversations that lie end to end, each seeing itself alone; forward and backward by hand.

Registered with transformers under `FLAT_ATTENTION`. The lengths of the conversations come where a mask would, as a
4-D tensor of integers: models pass a 4-D mask on as it is, and gradient checkpointing repeats it. With a mask, a cache
or neither (when a model speaks or is evaluated) it is transformers' own attention.

torch's fused kernel is left aside because it knows no dropout on a CPU, takes thrice as long for the backward pass of
bfloat16, and wants one length a call. Probabilities, (H, L, L) a conversation, are kept for the backward pass where
conversations are short, and computed anew where they are long: what is kept grows with the tokens, not their square.

Shapes: N tokens of all conversations, L tokens of one, H heads, K heads of keys and values, G = H / K, E width of a
head.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from finetune.dropout_masks import MaskSource

FLAT_ATTENTION = "graft_flat"
LONGEST_KEPT = 512  # tokens


def as_mask(lengths: Tensor) -> Tensor:
    """The lengths in the shape of a mask: (S,) -> (1, 1, 1, S)."""
    return lengths.view(1, 1, 1, -1)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer: (1, H, N, E) and twice (1, K, N, E) -> (1, N, H, E)."""
    if attention_mask is None or attention_mask.dtype != torch.int64:
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output
    for name in ("softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise NotImplementedError(f"{FLAT_ATTENTION}: {name} is not known to it")
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    lengths, window = attention_mask.flatten().tolist(), options.get("sliding_window")
    out: Tensor = _Attention.apply(query[0], key[0], value[0], lengths, scaling, dropout, window)
    return out.unsqueeze(0), None


AttentionInterface.register(FLAT_ATTENTION, attend)
AttentionMaskInterface.register(FLAT_ATTENTION, sdpa_mask)


@lru_cache(maxsize=8)
def _largest_bias(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu_(1)


def _hide_unseen(scores: Tensor, window: int | None) -> Tensor:
    """Scores of (K, G L, L), in place, with -inf where a key comes after the query, or so many places before it."""
    L = scores.shape[-1]
    of_heads = scores.view(-1, L, L)
    of_heads.add_(_largest_bias(-(-L // 256) * 256, scores.dtype, scores.device)[:L, :L])
    if window is not None and window < L:
        of_heads.add_(torch.full_like(of_heads[0], -torch.inf).tril_(-window))
    return scores


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: list[int],
        scaling: float,
        dropout: float,
        window: int | None,
    ) -> Tensor:
        H, N, E = query.shape
        out = query.new_empty(N, H, E)
        source = MaskSource(dropout) if dropout else None
        saved: list[Tensor] = []
        with torch.autocast(query.device.type, enabled=False):
            for place, (q, k, v) in _conversations(lengths, query, key, value):
                probabilities = _probabilities(q, k, scaling, window)  # (K, G L, L)
                mask = None if source is None else source.draw(probabilities.shape)
                _put(out, place, _masked(probabilities, mask) @ v)
                saved += [probabilities] if mask is None else [probabilities, mask]
        if source is not None:
            out.mul_(source.scale)  # here and not where the mask is: a row of heads is shorter than one of places
        ctx.lengths, ctx.scaling, ctx.window, ctx.dropout = lengths, scaling, window, dropout
        ctx.seed = None if source is None else source.seed
        ctx.save_for_backward(query, key, value, *(saved if max(lengths) <= LONGEST_KEPT else ()))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        query, key, value, *saved = ctx.saved_tensors
        # Laid out as the layers before it read them, token by token.
        gradients = [one.new_empty(one.shape[1], one.shape[0], one.shape[2]) for one in (query, key, value)]
        kept = iter(saved)
        source = MaskSource(ctx.dropout, ctx.seed) if ctx.dropout else None
        of_out = (upstream if source is None else upstream * source.scale).transpose(0, 1)  # (H, N, E)
        for place, (q, k, v, o) in _conversations(ctx.lengths, query, key, value, of_out):
            probabilities = next(kept) if saved else _probabilities(q, k, ctx.scaling, ctx.window)  # (K, G L, L)
            mask = None
            if source is not None:
                mask = next(kept) if saved else source.draw(probabilities.shape)
            _put(gradients[2], place, _masked(probabilities, mask).transpose(1, 2) @ o)
            of_scores = _masked(o @ v.transpose(1, 2), mask)  # (K, G L, L)
            of_scores = torch._softmax_backward_data(of_scores, probabilities, -1, probabilities.dtype)
            _put(gradients[0], place, (of_scores @ k).mul_(ctx.scaling))
            _put(gradients[1], place, (of_scores.transpose(1, 2) @ q).mul_(ctx.scaling))
        return *(one.transpose(0, 1) for one in gradients), None, None, None, None


def _probabilities(query: Tensor, key: Tensor, scaling: float, window: int | None) -> Tensor:
    """What each place of a conversation takes from each: (K, G L, E) and (K, L, E) -> (K, G L, L)."""
    scores = _hide_unseen((query * scaling) @ key.transpose(1, 2), window)
    return torch.softmax(scores, -1, out=scores)


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask


def _conversations(lengths: list[int], query: Tensor, key: Tensor, value: Tensor, *like_query: Tensor) -> Any:
    """Each conversation's places, and its part of the tensors; heads that share keys lie below each other."""
    K, E = len(key), query.shape[-1]
    start = 0
    for length in lengths:
        place = range(start, start + length)
        wide = [one[:, start : place.stop].reshape(K, -1, E) for one in (query, *like_query)]  # (K, G L, E)
        narrow = [one[:, start : place.stop] for one in (key, value)]  # (K, L, E)
        yield place, (wide[0], *narrow, *wide[1:])
        start = place.stop


def _put(out: Tensor, place: range, part: Tensor) -> None:
    """Writes a conversation's part, (K, G L, E) or (K, L, E), to its places of (N, H, E) or (N, K, E)."""
    L = len(place)
    out[place.start : place.stop].transpose(0, 1).copy_(part.reshape(-1, L, part.shape[-1]))
