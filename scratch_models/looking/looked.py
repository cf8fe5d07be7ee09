"""What was found in a model while it read a prompt, for a page that shows a part of it at a time.

Shapes: T tokens of the prompt, V rows of the head, H heads of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scratch_models.looking.figures import NEXT_SHOWN, likeliest, read_lens
from scratch_models.looking.reading import Reading


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A prompt and what was found of it."""

    ids: Sequence[int]
    texts: Sequence[str]
    """The text of each token of the prompt."""
    following: Sequence[Sequence[Mapping[str, Any]]]
    """The likeliest tokens after each, the likeliest first."""
    attention: Tensor | None
    """How much each token reads from each: (layers, H, T, T)."""
    left_out: Mapping[str, str]
    """Why there is no attention or no lens."""
    lens: Sequence[Sequence[Mapping[str, Any]]] = ()
    """What the head says before the first layer and after each, of each token; empty where it was not asked yet."""

    @property
    def layers(self) -> int:
        """Layers that attend."""
        return 0 if self.attention is None else len(self.attention)

    @property
    def heads(self) -> int:
        """Heads of each."""
        return 0 if self.attention is None else self.attention.shape[1]

    def reads_most(self, token: int) -> list[list[tuple[int, float]]]:
        """For each layer and head the token from which this one reads most, and how much; by place from 0."""
        if self.attention is None:
            return []
        best = self.attention[:, :, token, : token + 1].max(dim=-1)  # (layers, H)
        return [
            list(zip(places, weights, strict=True))
            for places, weights in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def look_at(reading: Reading, texts: Mapping[int, str]) -> Looked:
    """What a page shows of a reading but for the lens, which takes longest; `texts` are those of the vocabulary."""
    probabilities = reading.logits.double().softmax(dim=-1)  # (T, V)
    return Looked(
        ids=reading.ids,
        texts=[texts.get(id_, f"(row {id_})") for id_ in reading.ids],
        following=[likeliest(row, texts, NEXT_SHOWN) for row in probabilities],
        attention=torch.stack([layer.float().cpu() for layer in reading.attention]) if reading.attention else None,
        left_out=reading.left_out,
    )


def add_lens(looked: Looked, reading: Reading, texts: Mapping[int, str]) -> Looked:
    """The same with the lens: the head is asked once for each layer."""
    return replace(looked, lens=read_lens(reading, texts))
