"""The one decode loop: rows of ids that go on, one id a row at a time, whatever model reads them.

Shapes: B rows that still speak, T ids of the longest prompt, S ids of a row so far, V vocabulary.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from scratch_models.decoding.sampling import next_ids, row_generator
from scratch_models.decoding.sampling_settings import Sampling


class Decoder(Protocol):
    """A model that remembers what it has read."""

    def read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits after the last id of each row: (B, T) new ids and their positions -> (B, V).

        `mask` tells ids from padding over all that was read, (B, S); None where there is no padding.
        """

    def keep_rows(self, kept: Tensor) -> None:
        """Forgets every row but these."""


@dataclass(frozen=True)
class Ends:
    """Where rows end: the most ids of each row, and the ids that end it."""

    limits: Mapping[int, int]
    stop_ids: Mapping[int, Collection[int]] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)
    """Rows that nobody waits for any more: they go no further than the id that comes next."""

    def reached(self, row: int, token: int, step: int) -> bool:
        """Whether the row ends with this id, its `step`-th."""
        return row in self.left or token in self.stop_ids.get(row, ()) or step >= self.limits[row]


@torch.inference_mode()
def decode(
    make_decoder: Callable[[Sequence[int], int], Decoder],
    prompts: Mapping[int, Sequence[int]],
    *,
    ends: Ends,
    sampling: Sampling,
    device: torch.device,
    pad_id: int = 0,
    heard: Callable[[int, int], int] | None = None,
    noise_row: Callable[[int], int] = int,
) -> Generator[dict[int, int]]:
    """Step by step, the ids of the rows that still speak, by row number; a row that is done leaves the batch.

    `make_decoder` is called with the numbers of the rows and the ids of the longest prompt, to which shorter ones are
    filled up on the left; `noise_row` of its number decides the noise of a row. `heard` is called with row and id of
    everything that is chosen, and returns the id that takes its place.
    """
    rows = [row for row in prompts if ends.limits[row] > 0]
    if not rows:
        return
    generators = {row: row_generator(sampling, noise_row(row)) for row in rows}
    input_ids, mask = _pad_left([prompts[row] for row in rows], pad_id, device)  # (B, T) twice
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)  # (B, T)
    is_padded = not bool(mask.all())
    decoder, step = make_decoder(rows, input_ids.shape[1]), 0
    while rows:
        logits = decoder.read(input_ids, positions, mask if is_padded else None)  # (B, V)
        tokens = next_ids(logits, sampling, [generators[row] for row in rows]).tolist()
        if heard is not None:
            tokens = [heard(row, token) for row, token in zip(rows, tokens, strict=True)]
        yield dict(zip(rows, tokens, strict=True))
        step += 1
        speaking = [i for i, row in enumerate(rows) if not ends.reached(row, tokens[i], step)]
        if len(speaking) < len(rows):
            kept = torch.tensor(speaking, dtype=torch.long, device=device)
            decoder.keep_rows(kept)
            rows, tokens = [rows[i] for i in speaking], [tokens[i] for i in speaking]
            mask, positions = mask[kept], positions[kept]
        input_ids, positions = torch.tensor(tokens, device=device)[:, None], positions[:, -1:] + 1  # (B, 1) twice
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)  # (B, S)


def _pad_left(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts that all end in the last column, and the mask that tells their ids from padding: (B, T) twice."""
    T = max(len(prompt) for prompt in prompts)
    input_ids = [[pad_id] * (T - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (T - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(input_ids, device=device), torch.tensor(mask, device=device)
