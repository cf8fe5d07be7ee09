"""The nats of each target alone, from hidden states, a few tokens at a time: the logits of a batch never exist.

`chunked_cross_entropy` knows the weight of every token before it starts, since all weigh the same. A preference loss
weighs the tokens of a reply by how the whole reply compares with another, which is known only when all have been read.
So the gradient of each token's nats for its own hidden state is kept unweighted, as (S, D), and scaled when the weights
come back; only segments of the head that train are multiplied once more. Half-precision weights and autocast multiply
in their own type, as `nn.Linear` would; sums are kept in float32.

Shapes: S tokens, C tokens of a chunk, D width, R rows of all segments together, K rows of a segment.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from finetune.losses.head import Segment, as_factors, head_segments
from finetune.losses.vocabulary_parallel_loss import vocabulary_parallel_losses
from scratch_models.sharded.vocabulary_parallel import VocabularyParallelHead

CHUNK_TOKENS = 128


def token_losses(head: nn.Module, hidden: Tensor, targets: Tensor, chunk_tokens: int = CHUNK_TOKENS) -> Tensor:
    """Nats of each target under a model's head, (S,), with gradients for all that requires one.

    Args:
        head: The model's output embeddings.
        hidden: What it reads, (S, D).
        targets: Ids, (S,); none may be -100.
        chunk_tokens: C.

    """
    if isinstance(head, VocabularyParallelHead):
        return vocabulary_parallel_losses(head, hidden, targets)
    segments = head_segments(head)
    if segments is not None:
        return segment_losses(hidden, targets, segments, chunk_tokens)
    chunks = zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
    return torch.cat([F.cross_entropy(head(some).float(), wanted, reduction="none") for some, wanted in chunks])


def segment_losses(
    hidden: Tensor, targets: Tensor, segments: Sequence[Segment], chunk_tokens: int = CHUNK_TOKENS
) -> Tensor:
    """Nats of each target, (S,), with gradients for the hidden states and for the segments that require one.

    Args:
        hidden: What the head reads, (S, D).
        targets: Ids, (S,); none may be -100.
        segments: Weight and bias of successive ids, in the order of the ids, as `head_segments` gives them.
        chunk_tokens: C.

    >>> weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> nats = segment_losses(torch.zeros(2, 2), torch.tensor([0, 2]), [(weight[:2], None), (weight[2:], None)])
    >>> torch.allclose(nats, torch.tensor(3.0).log())
    True
    """
    flat = [part for segment in segments for part in segment]
    nats: Tensor = _TokenLosses.apply(torch.is_grad_enabled(), chunk_tokens, hidden, targets, *flat)
    return nats


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, with_gradients: bool, chunk_tokens: int, hidden: Tensor, targets: Tensor, *flat: Tensor | None
    ) -> Tensor:
        factors, of_sums = as_factors(hidden)  # (S, D)
        nats, totals = hidden.new_empty((2, len(hidden)), dtype=of_sums)  # (S,) twice
        keep = with_gradients and ctx.needs_input_grad[2]
        of_hidden = torch.empty_like(hidden, dtype=of_sums) if keep else None  # (S, D)
        with torch.autocast(hidden.device.type, enabled=False):
            head = [(weight.to(factors.dtype), bias) for weight, bias in _pairs(flat)]  # cast once, not at every chunk
            for start in range(0, len(hidden), chunk_tokens):
                chunk = slice(start, start + chunk_tokens)
                logits = _logits(factors[chunk], head, of_sums)  # (C, R)
                totals[chunk] = logits.logsumexp(dim=1)
                nats[chunk] = totals[chunk] - logits.gather(1, targets[chunk, None]).squeeze(1)
                if of_hidden is not None:
                    of_logits = _replace_by_gradient(logits, totals[chunk], targets[chunk])
                    of_hidden[chunk] = _times_head(of_logits.to(factors.dtype), head)
        ctx.save_for_backward(factors, targets, totals, of_hidden, *flat)
        ctx.chunk_tokens, ctx.type = chunk_tokens, hidden.dtype
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        factors, targets, totals, of_hidden, *flat = ctx.saved_tensors
        first_id, of_flat = 0, list[Tensor | None]()
        for number, (weight, bias) in enumerate(_pairs(flat)):
            needed = ctx.needs_input_grad[4 + 2 * number : 6 + 2 * number]
            if any(needed):
                of_flat += _of_segment(ctx, targets - first_id, totals, factors, upstream, (weight, bias), needed)
            else:
                of_flat += [None, None]
            first_id += len(weight)
        scaled = None if of_hidden is None else (of_hidden * upstream[:, None]).to(ctx.type)
        return None, None, scaled, None, *of_flat


def _pairs(flat: Sequence[Tensor | None]) -> list[tuple[Tensor, Tensor | None]]:
    return [(weight, bias) for weight, bias in zip(flat[::2], flat[1::2], strict=True) if weight is not None]


def _logits(factors: Tensor, head: Sequence[Segment], of_sums: torch.dtype) -> Tensor:
    """The logits of a chunk, (C, R)."""
    logits = factors.new_empty((len(factors), sum(len(weight) for weight, _ in head)), dtype=of_sums)
    first_id = 0
    for weight, bias in head:
        out = logits[:, first_id : first_id + len(weight)]
        if out.dtype == factors.dtype:
            torch.mm(factors, weight.T, out=out)  # (C, K)
        else:
            out.copy_(factors @ weight.T)
        if bias is not None:
            out += bias
        first_id += len(weight)
    return logits


def _replace_by_gradient(logits: Tensor, totals: Tensor, targets: Tensor) -> Tensor:
    """Softmax minus one-hot, where the logits stood; a target outside of these columns takes nothing away."""
    of_logits = logits.sub_(totals[:, None]).exp_()
    inside = (targets >= 0) & (targets < logits.shape[1])
    taken = inside.to(logits.dtype).neg()[:, None]
    return of_logits.scatter_add_(1, targets.clamp(0, logits.shape[1] - 1)[:, None], taken)


def _times_head(of_logits: Tensor, head: Sequence[Segment]) -> Tensor:
    """The gradient of the hidden states: (C, R) -> (C, D)."""
    parts = of_logits.split([len(weight) for weight, _ in head], dim=1)
    total = parts[0] @ head[0][0]  # (C, D)
    for part, (weight, _) in zip(parts[1:], head[1:], strict=True):
        total = total + part @ weight
    return total


def _of_segment(
    ctx: Any,
    targets: Tensor,
    totals: Tensor,
    factors: Tensor,
    upstream: Tensor,
    segment: Segment,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of a segment's weight, (K, D), and bias, (K,): its logits are made once more, and weighted."""
    weight, bias = segment
    of_weight = torch.zeros_like(weight, dtype=totals.dtype) if needed[0] else None
    of_bias = torch.zeros_like(bias, dtype=totals.dtype) if bias is not None and needed[1] else None
    cast = weight.to(factors.dtype)
    for start in range(0, len(factors), ctx.chunk_tokens):
        chunk = slice(start, start + ctx.chunk_tokens)
        logits = _logits(factors[chunk], [(cast, bias)], totals.dtype)  # (C, K)
        of_logits = _replace_by_gradient(logits, totals[chunk], targets[chunk]).mul_(upstream[chunk, None])
        if of_weight is not None:
            of_weight += of_logits.to(factors.dtype).T @ factors[chunk]
        if of_bias is not None:
            of_bias += of_logits.sum(dim=0)
    return [
        None if gradient is None or like is None else gradient.to(like.dtype)
        for gradient, like in ((of_weight, weight), (of_bias, bias))
    ]
