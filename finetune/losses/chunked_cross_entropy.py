"""Cross-entropy from hidden states, a few tokens at a time: the logits of a whole batch never exist.

The logits of one chunk of tokens are made in a buffer, turned into softmax minus one-hot where they stand, multiplied
into the gradients, and overwritten by the next chunk: loss and gradients come from one pass, as in Liger
(https://arxiv.org/abs/2410.10989) and Cut Cross-Entropy (https://arxiv.org/abs/2411.09009). A table may lie in
segments, of which only some train: the others are read where they lie, and get no gradient. Sums are kept in float32;
half-precision weights and autocast multiply in their own type, as `nn.Linear` would.

Shapes: S tokens, C tokens of a chunk, F tokens of those, D width, R rows of all segments together, K rows of a block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from finetune.losses.head import Segment, as_factors

# More tokens share the reading of a row. On a CPU 64 cost 1.2 times as much as 128, and 32 twice; from 128 to 256
# float32 gains a tenth and bfloat16 a quarter, and from 213 to 640 float32 another tenth.
LEAST_CHUNK_TOKENS, MOST_CHUNK_TOKENS = 64, 640
MOST_CHUNK_LOGITS = 2**25  # which is 128 MB, and lets a large vocabulary have fewer tokens a chunk
CACHED_LOGITS = 2**19  # of some tokens, which lie in the cache while they become a gradient
CHUNK_MULTIPLE_IN_HALF = 64  # tokens
BLOCK_ROWS = 8192  # whose product stays in the cache
CAST_NUMBERS = 2**20  # of rows that are cast, which then lie in the cache, too, and take no memory to speak of


def summed_cross_entropy(
    hidden: Tensor,
    targets: Tensor,
    segments: Sequence[Segment],
    chunk_tokens: int | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Summed nats of the targets, with gradients for the hidden states and for the segments that require one.

    Args:
        hidden: What the head reads, (S, D).
        targets: Ids, (S,); none may be -100.
        segments: The head in the order of the ids; as `head_segments` gives them.
        chunk_tokens: C; by default at most half of the tokens, unless they are few.
        weights: What the nats of each target are multiplied with, (S,); None where all count 1.

    >>> weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> nats = summed_cross_entropy(torch.zeros(2, 2), torch.tensor([0, 2]), [(weight[:2], None), (weight[2:], None)])
    >>> torch.allclose(nats, 2 * torch.tensor(3.0).log())
    True
    """
    if chunk_tokens is None:
        most = min(MOST_CHUNK_TOKENS, max(1, MOST_CHUNK_LOGITS // sum(len(weight) for weight, _ in segments)))
        chunks = max(2, math.ceil(len(hidden) / most))
        chunk_tokens = max(LEAST_CHUNK_TOKENS, math.ceil(len(hidden) / chunks))
    flat = [part for segment in segments for part in segment]
    nats: Tensor = _ChunkedCrossEntropy.apply(torch.is_grad_enabled(), chunk_tokens, hidden, targets, weights, *flat)
    return nats


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        with_gradients: bool,
        chunk_tokens: int,
        hidden: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        *flat: Tensor | None,
    ) -> Tensor:
        device = hidden.device.type
        factors, of_sums = as_factors(hidden)  # (S, D)
        if device == "cpu" and factors.dtype != of_sums:
            # For every number of tokens that it has not met a CPU compiles the products of half precision anew.
            factors = F.pad(factors, (0, 0, 0, -len(factors) % CHUNK_MULTIPLE_IN_HALF))
            chunk_tokens += -chunk_tokens % CHUNK_MULTIPLE_IN_HALF
        gradients = [
            torch.zeros_like(tensor, dtype=of_sums) if tensor is not None and with_gradients and needed else None
            for tensor, needed in zip(
                (factors, *flat), (ctx.needs_input_grad[2], *ctx.needs_input_grad[5:]), strict=True
            )
        ]
        with torch.autocast(device, enabled=False):
            blocks = _blocks(flat, gradients[1:], factors.dtype)
            weights = None if weights is None else weights.to(of_sums)
            nats = _sum_chunks(factors, targets, weights, blocks, gradients[0], of_sums, chunk_tokens)
        if gradients[0] is not None:
            gradients[0] = gradients[0][: len(hidden)]
        ctx.save_for_backward(*gradients)
        ctx.types = [None if tensor is None else tensor.dtype for tensor in (hidden, *flat)]
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        # Scaled where they stand: a copy of a table's gradient may not fit. A second pass through the same graph would
        # scale them twice; autograd sees that a saved tensor has changed, and refuses.
        scaled = [
            None if gradient is None else gradient.mul_(upstream).to(type_)
            for gradient, type_ in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return None, None, scaled[0], None, None, *scaled[1:]


@dataclass(frozen=True)
class _Block:
    """K successive rows of a segment."""

    place: slice
    """Their ids."""
    weight: Tensor
    bias: Tensor | None
    weight_gradient: Tensor | None
    """Where their gradient adds up; None where they are frozen."""
    bias_gradient: Tensor | None


def _blocks(
    flat: Sequence[Tensor | None], gradients: Sequence[Tensor | None], multiplied_in: torch.dtype
) -> list[_Block]:
    blocks, first_id = [], 0
    for number in range(0, len(flat), 2):
        weight = flat[number]
        assert weight is not None
        is_cast = weight.dtype != multiplied_in and weight.device.type == "cpu"
        at_once = max(1, CAST_NUMBERS // weight.shape[1]) if is_cast else BLOCK_ROWS
        for start in range(0, len(weight), at_once):
            rows = slice(start, min(start + at_once, len(weight)))
            place = slice(first_id + rows.start, first_id + rows.stop)
            others = (flat[number + 1], gradients[number], gradients[number + 1])
            blocks.append(_Block(place, weight[rows], *(None if one is None else one[rows] for one in others)))
        first_id += len(weight)
    return blocks


def _sum_chunks(
    hidden: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    blocks: Sequence[_Block],
    hidden_gradient: Tensor | None,
    of_sums: torch.dtype,
    chunk_tokens: int,
) -> Tensor:
    nats = hidden.new_zeros((), dtype=of_sums)
    buffer = hidden.new_empty(min(chunk_tokens, len(hidden)), blocks[-1].place.stop)  # (C, R)
    gradient_wanted = hidden_gradient is not None or any(
        gradient is not None for block in blocks for gradient in (block.weight_gradient, block.bias_gradient)
    )
    for start in range(0, len(hidden), chunk_tokens):
        chunk = slice(start, start + chunk_tokens)
        logits = _fill_logits(buffer[: len(hidden[chunk])], hidden[chunk], blocks)  # (C, R)
        real = len(targets[chunk])  # the rest, at the very end, is filling
        of_chunk = None if weights is None else weights[chunk]
        nats += _replace_by_gradient(logits[:real], targets[chunk], of_chunk, of_sums)
        logits[real:].zero_()
        if gradient_wanted:
            of_hidden = None if hidden_gradient is None else hidden_gradient[chunk]
            _add_gradients(logits, hidden[chunk], blocks, of_hidden)
    return nats


def _fill_logits(logits: Tensor, hidden: Tensor, blocks: Sequence[_Block]) -> Tensor:
    for block in blocks:
        out = logits[:, block.place]  # (C, K)
        torch.mm(hidden, block.weight.to(hidden.dtype).T, out=out)
        if block.bias is not None:
            out += block.bias
    return logits


def _replace_by_gradient(logits: Tensor, targets: Tensor, weights: Tensor | None, of_sums: torch.dtype) -> Tensor:
    """The summed nats; the logits become softmax minus one-hot, in place; both times the weights."""
    on_cpu = logits.device.type == "cpu"
    rows = max(1, CACHED_LOGITS // logits.shape[1]) if on_cpu else len(logits)
    scratch = (
        None if logits.dtype == of_sums else logits.new_empty(min(rows, len(logits)), logits.shape[1], dtype=of_sums)
    )
    nats = logits.new_zeros((), dtype=of_sums)
    for start in range(0, len(logits), rows):
        few, their_targets = logits[start : start + rows], targets[start : start + rows, None]  # (F, R), (F, 1)
        exact = few if scratch is None else scratch[: len(few)].copy_(few)
        of_targets, largest = exact.gather(1, their_targets), exact.amax(dim=1, keepdim=True)  # (F, 1)
        softmax, log_total = _softmax(exact, largest, in_place=on_cpu)  # (F, R), (F, 1)
        softmax.scatter_add_(1, their_targets, torch.full_like(of_targets, -1.0))
        of_tokens = largest + log_total - of_targets  # (F, 1)
        if weights is not None:
            theirs = weights[start : start + rows, None]  # (F, 1)
            of_tokens, softmax = of_tokens * theirs, softmax.mul_(theirs)
        nats += of_tokens.sum()
        if softmax is not few:
            few.copy_(softmax)
    return nats


def _softmax(logits: Tensor, largest: Tensor, *, in_place: bool) -> tuple[Tensor, Tensor]:
    """Softmax of each row, and the log of its exponentials' sum, those being at most 1: (F, R) -> (F, R), (F, 1).

    Where it is not done in place, one kernel of torch reads and writes the logits once. On a CPU that kernel adds up a
    row one number after the other, in single precision: of a vocabulary of 150,000 it loses 1e-5 of a nat, always the
    same way. `sum` adds in pairs, and the parts are as fast while the rows lie in the cache.
    """
    if not in_place:
        softmax = torch.softmax(logits, 1)
        return softmax, -softmax.amax(dim=1, keepdim=True).log()  # the largest is exp(0) / total
    total = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
    return logits.div_(total), total.log()


def _add_gradients(of_logits: Tensor, hidden: Tensor, blocks: Sequence[_Block], hidden_gradient: Tensor | None) -> None:
    for block in blocks:
        of_block = of_logits[:, block.place]  # (C, K)
        if block.bias_gradient is not None:
            block.bias_gradient.add_(of_block.sum(dim=0))
        if hidden_gradient is not None:
            _add_product(hidden_gradient, of_block, block.weight.to(hidden.dtype))  # (C, D)
        if block.weight_gradient is not None:
            _add_product(block.weight_gradient, of_block.T, hidden)  # (K, D)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
