"""How far one distribution over the vocabulary is from another, from hidden states, a few places at a time.

Both come from one head: the teacher's hidden state is kept, not its logits, so the logits of a batch never exist. The
student may have rows for new ids; what they take from the old ids counts, for the teacher gives them nothing.

Shapes: S places, C places of a chunk, D width, V old ids, N new ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from finetune.losses.head import Segment, as_factors

CHUNK_PLACES = 128


@dataclass(frozen=True)
class Compared:
    """What a student says at each place beside its teacher, all (S,)."""

    divergence: Tensor
    """KL(teacher || student) over the old ids, in nats."""
    cross_entropy: Tensor
    """What the teacher's choice costs the student on average, over the old ids, in nats."""
    new_share: Tensor
    """The probability that the student gives the new ids together."""
    same_choice: Tensor
    """Whether the likeliest old id is the same."""


def summed_divergence(
    hidden: Tensor, taught: Tensor, old: Segment, new: Segment | None = None, chunk_places: int = CHUNK_PLACES
) -> Tensor:
    """KL(teacher || student) in nats, summed over places, with gradients for `hidden` and the new rows: -> ().

    With `new`, the student's distribution is over old and new ids, the teacher's over the old ones: the divergence over
    the old ids, and what the student loses to the new ones. The old rows are frozen.

    Args:
        hidden: What the student's head reads, (S, D).
        taught: What the teacher's head reads, (S, D).
        old: Weight (V, D) and bias (V,) of the old ids.
        new: Weight (N, D) and bias (N,) of the new ones.
        chunk_places: C.

    >>> same = torch.tensor([[1.0, 2.0]])
    >>> summed_divergence(same, same, (torch.eye(2), None))
    tensor(0.)
    """
    nats: Tensor = _Divergence.apply(
        torch.is_grad_enabled(), chunk_places, hidden, taught, *old, *(new or (None, None))
    )
    return nats


@torch.no_grad()
def compare_places(
    hidden: Tensor, taught: Tensor, old: Segment, new: Segment, chunk_places: int = CHUNK_PLACES
) -> Compared:
    """What a student and its teacher say of the same places: two of (S, D)."""
    parts = []
    for own, of_teacher in zip(hidden.split(chunk_places), taught.split(chunk_places), strict=True):
        wanted = F.linear(of_teacher, *old).float().log_softmax(dim=-1)  # (C, V)
        scores = F.linear(own, *old).float()  # (C, V)
        found = scores.log_softmax(dim=-1)
        cross_entropy = -(wanted.exp() * found).sum(dim=-1)  # (C,)
        divergence = (wanted.exp() * (wanted - found)).sum(dim=-1)
        of_new = F.linear(own, *new).float().logsumexp(dim=-1)  # (C,)
        new_share = torch.sigmoid(of_new - scores.logsumexp(dim=-1))
        parts.append((divergence, cross_entropy, new_share, wanted.argmax(dim=-1) == found.argmax(dim=-1)))
    return Compared(*(torch.cat(of_kind) for of_kind in zip(*parts, strict=True)))


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, with_gradients: bool, chunk_places: int, hidden: Tensor, taught: Tensor, *flat: Tensor | None
    ) -> Tensor:
        factors, of_sums = as_factors(hidden)  # (S, D)
        total = hidden.new_zeros((), dtype=of_sums)
        of_hidden = torch.zeros_like(hidden, dtype=of_sums) if with_gradients else None  # (S, D)
        of_new = None if flat[2] is None or not with_gradients else torch.zeros_like(flat[2], dtype=of_sums)  # (N, D)
        with torch.autocast(hidden.device.type, enabled=False):
            pairs = zip(flat[::2], flat[1::2], strict=True)
            head = [(weight.to(factors.dtype), bias) for weight, bias in pairs if weight is not None]
            for start in range(0, len(hidden), chunk_places):
                chunk = slice(start, start + chunk_places)
                nats, of_logits = _divergence_of(factors[chunk], taught[chunk].to(factors.dtype), head, of_sums)
                total += nats
                if of_hidden is not None:
                    parts = of_logits.to(factors.dtype).split([len(weight) for weight, _ in head], dim=1)
                    for part, (weight, _) in zip(parts, head, strict=True):
                        of_hidden[chunk] += part @ weight
                    if of_new is not None:
                        of_new += parts[1].T @ factors[chunk]
        ctx.save_for_backward(of_hidden, of_new)
        ctx.types = hidden.dtype, None if flat[2] is None else flat[2].dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        of_hidden, of_new = (
            None if kept is None else (kept * upstream).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        )
        return None, None, of_hidden, None, None, None, of_new, None


def _divergence_of(
    own: Tensor, of_teacher: Tensor, head: Sequence[Segment], of_sums: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The summed nats of a chunk, (), and their gradient for the student's logits, (C, V + N)."""
    wanted, found = (_log_shares(of_teacher, head[:1], of_sums), _log_shares(own, head, of_sums))
    old_ids, shares = wanted.shape[1], wanted.exp()  # (C, V)
    nats = (shares * wanted.sub_(found[:, :old_ids])).sum()
    of_logits = found.exp_()
    of_logits[:, :old_ids] -= shares
    return nats, of_logits


def _log_shares(factors: Tensor, head: Sequence[Segment], of_sums: torch.dtype) -> Tensor:
    """The logarithms of a distribution over all rows of the segments: (C, D) -> (C, R)."""
    logits = [(factors @ weight.T).to(of_sums) + (0 if bias is None else bias) for weight, bias in head]
    return torch.cat(logits, dim=1).log_softmax(dim=-1)
