"""What a model computes while it reads a prompt, whatever model it is.

Shapes: T tokens of the prompt, V rows of the head, D width, H heads of a layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from configs import InputError

ATTENTION, LENS = "attention", "lens"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One prompt, read by one model."""

    ids: Sequence[int]
    """The ids of the prompt."""
    logits: Tensor
    """Of the token that follows each: (T, V)."""
    attention: Sequence[Tensor] = ()
    """How much each token reads from each, a layer after the other: (H, T, T)."""
    normed: Sequence[Tensor] = ()
    """The residual stream before the first layer and after each, through the final norm: (T, D)."""
    head: Callable[[Tensor], Tensor] | None = None
    """From a normed stream to logits: (T, D) -> (T, V)."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why the model has no attention or no lens, by `ATTENTION` and `LENS`."""


def refuse_too_long(ids: Sequence[int], positions: int | None, where: str) -> None:
    """Refuses a prompt without a token, or with more than the model has positions."""
    if not ids:
        raise InputError("prompt: becomes no token, expected text of at least one")
    if positions is not None and len(ids) > positions:
        raise InputError(
            f"prompt: {len(ids)} tokens, expected at most the {positions} positions of {where}: shorten the text"
        )


def reads_out(normed: Sequence[Tensor], head: Callable[[Tensor], Tensor], logits: Tensor) -> bool:
    """Whether the head makes the model's own logits of the last stream: only then is what it says of others a lens."""
    return bool(normed) and torch.allclose(head(normed[-1]), logits, rtol=1e-5, atol=1e-5)
