"""Causal attention over conversations that lie end to end, each seeing itself alone; forward and backward by hand.

The kernel that `packed_attention` takes on a CPU. torch's fused kernel is left aside there because it knows no dropout
on a CPU, takes thrice as long for the backward pass of bfloat16, and wants one length a call. Probabilities are kept
for the backward pass where conversations are short, and computed anew where they are long: what is kept grows with the
tokens, not their square. Conversations that begin with the same tokens may share them: the first brings them along, the
others go on from there, and what they ask of the shared ones adds up in their gradient.

Shapes: N tokens of all conversations, Q queries of a block of one, L keys that they may see, H heads, K heads of keys
and values, G = H / K, E width of a head.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from finetune.engine.dropout import MaskSource

LONGEST_KEPT = 512  # tokens
BLOCK_QUERIES = 96


def attend_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    scaling: float,
    dropout: float = 0.0,
    window: int | None = None,
    prefixes: list[int] | None = None,
) -> Tensor:
    """What each query takes from the values of its conversation: (H, N, E) and twice (K, N, E) -> (N, H, E).

    Args:
        query: In single precision or better, as the others.
        key: Heads may be fewer, each shared by successive heads of queries.
        value: As many heads as keys.
        lengths: Tokens of each conversation, N in all.
        scaling: What scores are multiplied by.
        dropout: Share of the probabilities that is dropped.
        window: How many tokens a query sees at most, itself included.
        prefixes: How many tokens each conversation goes on from, of the newest one before it that has 0 here.

    """
    blocks = list(_blocks(lengths, prefixes or [0] * len(lengths)))
    out: Tensor = _Attention.apply(query, key, value, blocks, scaling, dropout, window)
    return out


class _Block(NamedTuple):
    """Successive queries of one conversation, and the keys up to the last of them."""

    start: int
    """Where the conversation starts."""
    begin: int
    """Where the queries begin."""
    end: int
    """Where queries and keys end."""
    is_last: bool
    """Whether it is the conversation's last, which comes first."""
    shared: slice
    """Where the keys lie that the conversation shares with an earlier one, and that come before its own."""

    def queries(self, one: Tensor, key_heads: int) -> Tensor:
        """Their part of (H, N, E), heads that share keys below each other: (K, G Q, E)."""
        return one[:, self.begin : self.end].reshape(key_heads, -1, one.shape[-1])

    def keys(self, one: Tensor) -> Tensor:
        """Their part of (K, N, E): (K, L, E)."""
        own = one[:, self.start : self.end]
        return own if self.prefix == 0 else torch.cat([one[:, self.shared], own], dim=1)

    @property
    def prefix(self) -> int:
        """How many keys are shared."""
        return int(self.shared.stop - self.shared.start)

    @property
    def seen(self) -> int:
        """How many keys there are."""
        return self.prefix + self.end - self.start


def _blocks(lengths: list[int], prefixes: list[int]) -> Iterator[_Block]:
    """The blocks of all conversations: no key is multiplied that all queries of a block come before."""
    start = shared = 0
    for length, prefix in zip(lengths, prefixes, strict=True):
        shared = shared if prefix else start
        for begin in reversed(range(0, length, BLOCK_QUERIES)):
            end = min(begin + BLOCK_QUERIES, length)
            yield _Block(start, start + begin, start + end, end == length, slice(shared, shared + prefix))
        start += length


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: list[_Block],
        scaling: float,
        dropout: float,
        window: int | None,
    ) -> Tensor:
        H, N, E = query.shape
        out = query.new_empty(N, H, E)
        source = MaskSource(dropout) if dropout else None
        keeps = max(block.seen for block in blocks) <= LONGEST_KEPT
        saved: list[Tensor] = []
        with torch.autocast(query.device.type, enabled=False):
            for block in blocks:
                probabilities = _probabilities(block, query, key, scaling, window)  # (K, G Q, L)
                mask = None if source is None else source.draw(probabilities.shape)
                of_block = _masked(probabilities, mask) @ block.keys(value)  # (K, G Q, E)
                _rows(out, block.begin, block.end).copy_(of_block.view(H, -1, E))
                if keeps:  # else the memory of all of them would grow with the square of the longest
                    saved += [probabilities] if mask is None else [probabilities, mask]
        if source is not None:
            out.mul_(source.scale)  # here and not where the mask is: a row of heads is shorter than one of places
        ctx.blocks, ctx.scaling, ctx.window, ctx.dropout = blocks, scaling, window, dropout
        ctx.seed = None if source is None else source.seed
        ctx.save_for_backward(query, key, value, *saved)
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
        H, K, E = len(query), len(key), query.shape[-1]
        for block in ctx.blocks:
            probabilities = next(kept) if saved else _probabilities(block, query, key, ctx.scaling, ctx.window)
            mask = None
            if source is not None:
                mask = next(kept) if saved else source.draw(probabilities.shape)
            q, o = block.queries(query, K), block.queries(of_out, K)  # (K, G Q, E)
            of_scores = _masked(o @ block.keys(value).transpose(1, 2), mask)  # (K, G Q, L)
            of_scores = torch._softmax_backward_data(of_scores, probabilities, -1, probabilities.dtype)
            of_queries = (of_scores @ block.keys(key)).mul_(ctx.scaling)  # (K, G Q, E)
            _rows(gradients[0], block.begin, block.end).copy_(of_queries.view(H, -1, E))
            of_keys = (of_scores.transpose(1, 2) @ q).mul_(ctx.scaling)  # (K, L, E)
            of_values = _masked(probabilities, mask).transpose(1, 2) @ o  # (K, L, E)
            for gradient, part in ((gradients[1], of_keys), (gradients[2], of_values)):
                rows, own = _rows(gradient, block.start, block.end), part[:, block.prefix :]
                rows.copy_(own) if block.is_last else rows.add_(own)
                if block.prefix:
                    _rows(gradient, block.shared.start, block.shared.stop).add_(part[:, : block.prefix])
        return *(one.transpose(0, 1) for one in gradients), None, None, None, None


def _probabilities(block: _Block, query: Tensor, key: Tensor, scaling: float, window: int | None) -> Tensor:
    """What each query of a block takes from each key, (K, G Q, L)."""
    scores = (block.queries(query, len(key)) * scaling) @ block.keys(key).transpose(1, 2)  # (K, G Q, L)
    queries, keys = block.end - block.begin, block.seen
    of_heads = scores.view(-1, queries, keys)  # (H, Q, L)
    of_heads[:, :, keys - queries :].add_(_causal_bias(BLOCK_QUERIES, scores.dtype, scores.device)[:queries, :queries])
    if window is not None and window < keys:
        too_far_back = torch.full_like(of_heads[0], -torch.inf).tril_(keys - queries - window)  # (Q, L)
        of_heads.add_(too_far_back)
    return torch.softmax(scores, -1, out=scores)


@lru_cache(maxsize=8)
def _causal_bias(queries: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where a key comes after the query, for the queries of a block and their own keys."""
    return torch.full((queries, queries), -torch.inf, dtype=dtype, device=device).triu_(1)


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask


def _rows(one: Tensor, begin: int, end: int) -> Tensor:
    """Successive places of (N, H, E), head by head: (H, Q, E)."""
    return one[begin:end].transpose(0, 1)
