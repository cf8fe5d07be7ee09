"""The nats of targets under a head whose rows are spread over processes; no process sees all logits of a token.

Each process multiplies the hidden states of all with its own rows, some tokens at a time, and turns the logits into the
softmax over its rows at once. What is missing for the softmax over all rows is one number a token, which the processes
then tell each other: the same for nats and gradients. Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053, section 3.
Rows that train are multiplied once more when the weights of all targets are known; each process then has the gradient
of its own rows for the tokens of all.

Shapes: S tokens of this process, A tokens of all processes, C tokens of a chunk, R rows of this process, D width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from finetune.losses.head import as_factors
from scratch_models.sharded.vocabulary_parallel import RowsHere, VocabularyParallelHead, gather_into, local_rows

CHUNK_TOKENS = 256


def vocabulary_parallel_losses(head: VocabularyParallelHead, hidden: Tensor, targets: Tensor) -> Tensor:
    """Nats of each target of this process, (S,), with gradients for all that requires one; all processes must call it.

    Args:
        head: Frozen or not; the gradient of its rows is the mean over all processes, as FSDP2 gives it.
        hidden: What it reads, (S, D).
        targets: Ids, (S,); none may be -100.

    """
    bias = None if head.bias is None else local_rows(head.bias)
    nats: Tensor = _Losses.apply(hidden, targets, head, torch.is_grad_enabled(), local_rows(head.weight), bias)
    return nats


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        head: VocabularyParallelHead,
        with_gradients: bool,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        here, (factors, of_sums) = head.here, as_factors(hidden)
        everyones = here.everyones(factors)
        factors, targets = torch.cat(everyones), torch.cat(here.everyones(targets))  # (A, D), (A,)
        wants = with_gradients and ctx.needs_input_grad[0]
        with torch.autocast(hidden.device.type, enabled=False):
            here_total, of_targets, of_hidden = _of_rows_here(head, factors, targets, of_sums, wants)
        total = _total_over_rows(here, here_total)  # (A,)
        distributed.all_reduce(of_targets, group=here.group)
        start = sum(len(one) for one in everyones[: here.rank])
        mine = slice(start, start + len(hidden))
        gradients = None
        if of_hidden is not None:
            # The softmax over the rows here becomes their part of the softmax over all.
            of_hidden.mul_((here_total - total).exp_()[:, None])
            _take_targets_away(head, of_hidden, targets)
            distributed.all_reduce(of_hidden, group=here.group)
            gradients = of_hidden[mine].clone()
        ctx.save_for_backward(gradients, *((factors, targets, total) if any(ctx.needs_input_grad[4:]) else ()))
        ctx.type, ctx.head = hidden.dtype, head
        return (total - of_targets)[mine]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        of_hidden, *of_all = ctx.saved_tensors
        of_head = _of_head(ctx.head, of_all, upstream) if of_all else (None, None)
        scaled = None if of_hidden is None else (of_hidden * upstream[:, None]).to(ctx.type)
        return scaled, None, None, None, *of_head


def _of_head(
    head: VocabularyParallelHead, of_all: Sequence[Tensor], upstream: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the rows here, (R, D) and (R,): their logits are made once more, and weighted.

    What is known of the tokens of all are their hidden states, (A, D), targets and totals, (A,) each.
    """
    (factors, targets, total), here = of_all, head.here
    weight, bias = local_rows(head.weight), head.bias
    upstream = torch.cat(here.everyones(upstream)).to(total.dtype)  # (A,)
    of_weight = torch.zeros_like(weight, dtype=total.dtype)
    of_bias = torch.zeros_like(of_weight[:, 0])
    for start in range(0, len(factors), CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        inside = here.held(targets[chunk])
        for rows, part, of_part in head.parts(factors.dtype):
            logits = (factors[chunk] @ part.T).to(total.dtype)
            if of_part is not None:
                logits += of_part
            softmax = logits.sub_(total[chunk, None]).exp_().mul_(upstream[chunk, None])
            of_weight[rows] += softmax.to(factors.dtype).T @ factors[chunk]
            of_bias[rows] += softmax.sum(dim=0)
        local, weights = targets[chunk][inside] - here.first, upstream[chunk][inside]
        of_weight.index_add_(0, local, factors[chunk][inside].to(total.dtype) * weights[:, None], alpha=-1)
        of_bias.index_add_(0, local, weights, alpha=-1)
    of_weight = here.mean_gradient(of_weight).to(weight.dtype)
    return of_weight, None if bias is None else here.mean_gradient(of_bias).to(bias.dtype)


def _of_rows_here(
    head: VocabularyParallelHead, factors: Tensor, targets: Tensor, of_sums: torch.dtype, wants: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the rows of this process say of all tokens.

    Log of the summed exponentials of their logits, (A,); the logit of the target, (A,), 0 where its row is elsewhere;
    and the rows averaged by the softmax over them, (A, D).
    """
    here, inside = head.here, head.here.held(targets)
    total, of_targets = factors.new_zeros((2, len(factors)), dtype=of_sums)
    averaged = torch.zeros_like(factors, dtype=of_sums) if wants else None
    buffer = factors.new_empty(min(CHUNK_TOKENS, len(factors)), here.number, dtype=of_sums)  # (C, R)
    for start in range(0, len(factors), CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        logits = buffer[: len(factors[chunk])]
        for rows, weight, bias in head.parts(factors.dtype):
            logits[:, rows] = factors[chunk] @ weight.T
            if bias is not None:
                logits[:, rows] += bias
        total[chunk] = logits.logsumexp(dim=1) if here.number else -torch.inf
        places = (targets[chunk] - here.first).clamp(0, max(here.number - 1, 0))[:, None]
        if here.number:
            of_targets[chunk] = torch.where(inside[chunk], logits.gather(1, places).squeeze(1), 0.0)
        if averaged is not None:
            softmax = logits.sub_(total[chunk, None]).exp_().to(factors.dtype)
            for rows, weight, _ in head.parts(factors.dtype):
                averaged[chunk] += softmax[:, rows] @ weight
    return total, of_targets, averaged


def _total_over_rows(here: RowsHere, mine: Tensor) -> Tensor:
    """Log of the exponentials summed over all rows, (A,), from those summed over each process's."""
    everyones = mine.new_empty(here.sharers * len(mine))
    gather_into(everyones, mine, here.group)
    return everyones.view(here.sharers, -1).logsumexp(dim=0)


def _take_targets_away(head: VocabularyParallelHead, of_hidden: Tensor, targets: Tensor) -> None:
    """Takes the target's row off each token's gradient, where the row is here."""
    inside = head.here.held(targets)
    local = targets[inside] - head.here.first
    of_hidden[inside] -= local_rows(head.weight)[local].to(of_hidden.dtype)
