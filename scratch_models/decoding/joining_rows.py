"""Rows of one batch that come and go between two ids, each as long as it is: keys and values begin at a row's first id.

A prompt is read for itself, a stretch at a time, and then laid beside the rows that go on.

Shapes: B rows, T new ids of a row, S ids of the longest row so far, D width, G heads of keys and values, K width of a
head, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from scratch_models.decoding.block_decoder import BlockDecoder, DecoderParts

FIRST_ROOM = 256
"""Ids that a row has room for at first."""
FIRST_ROWS = 8
"""Rows that there is room for at first."""


class PromptReader(BlockDecoder):
    """Prompts that are read together, a stretch at a time; shorter ones are filled up behind their last id."""

    def __init__(self, parts: DecoderParts, prompts: Sequence[Sequence[int]]) -> None:
        """Takes prompts of at least one id."""
        self.prompt_ids = [len(prompt) for prompt in prompts]
        longest = max(self.prompt_ids)
        super().__init__(parts, len(prompts), longest)
        # No id reads what stands behind it, so what fills a row up needs no mask.
        filled = [[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts]
        self.input_ids = torch.tensor(filled, device=parts.device)  # (B, all)
        self.last: list[Tensor | None] = [None] * len(prompts)  # (D) each

    def go_on(self, most_ids: int) -> Tensor | None:
        """Reads at most so many ids of each prompt; the logits after the last ids, (B, V), once they are all read."""
        start = self.length
        stream = self.read_stretch(most_ids)  # (B, T, D)
        for row, end in enumerate(self.prompt_ids):
            if start < end <= self.length:
                self.last[row] = stream[row, end - 1 - start]
        if self.length < self.input_ids.shape[1]:
            return None
        last = torch.stack([stream for stream in self.last if stream is not None])  # (B, D)
        return self.parts.head(self.parts.final_norm(last))

    def read_stretch(self, most_ids: int) -> Tensor:
        """Reads at most so many ids of each prompt; what the last block makes of each, (B, T, D)."""
        start = self.length
        ids = self.input_ids[:, start : start + most_ids]  # (B, T)
        positions = torch.arange(start, start + ids.shape[1], device=ids.device).expand_as(ids)  # (B, T)
        return self._read(ids, positions, None)


class JoiningRows(BlockDecoder):
    """The rows that go on, one id a row at a time."""

    def __init__(self, parts: DecoderParts) -> None:
        super().__init__(parts, FIRST_ROWS, FIRST_ROOM)
        self.lengths: list[int] = []
        self._ends: Tensor | None = None  # (B), on the device; None until it is needed anew

    def join(self, reader: PromptReader, row: int) -> None:
        """Adds a row of a reader as the last."""
        length, place = reader.prompt_ids[row], len(self.lengths)
        self._fit(place + 1, length + 1)
        self.cache[:, :, place, :, :length] = reader.cache[:, :, row, :, :length]
        self.lengths.append(length)
        self._ends = None

    def leave(self, row: int) -> None:
        """Forgets a row; the last takes its place."""
        last, length = len(self.lengths) - 1, self.lengths[-1]
        if row < last:
            self.cache[:, :, row, :, :length] = self.cache[:, :, last, :, :length]
        self.lengths[row] = length
        self.lengths.pop()
        self._ends = None
        longest = max(self.lengths, default=0)
        rows, room = self.cache.shape[2], self.cache.shape[4]
        if rows * room >= 2 * max(len(self.lengths), FIRST_ROWS) * (longest + FIRST_ROOM):
            self._resize(max(len(self.lengths), FIRST_ROWS), longest + FIRST_ROOM)

    def step(self, ids: Sequence[int]) -> Tensor:
        """Logits after the next id of each row: (B, V)."""
        self._fit(len(self.lengths), max(self.lengths) + 1)
        if self._ends is None:
            self._ends = torch.tensor(self.lengths, device=self.parts.device)  # (B)
        self.length = longest = max(self.lengths)
        mask = None
        if min(self.lengths) < longest:
            mask = torch.arange(longest + 1, device=self._ends.device) <= self._ends[:, None]  # (B, S)
        input_ids = torch.tensor(ids, device=self.parts.device)[:, None]  # (B, 1)
        logits = self.read(input_ids, self._ends[:, None], mask)
        self.lengths = [length + 1 for length in self.lengths]
        self._ends = self._ends + 1
        return logits

    def _remember(self, cache: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Those of all ids so far, given those of one new id a row: (B, G, 1, K) twice -> (B, G, S, K) twice."""
        assert self._ends is not None, "rows have taken a step"
        B, end = len(self.lengths), self.length + 1
        rows = torch.arange(B, device=keys.device)  # (B)
        cache[0, rows, :, self._ends], cache[1, rows, :, self._ends] = keys[:, :, 0], values[:, :, 0]
        return cache[0, :B, :, :end], cache[1, :B, :, :end]

    def _fit(self, rows: int, room: int) -> None:
        """Makes room for so many rows and ids; what is too small doubles."""
        held_rows, held_room = self.cache.shape[2], self.cache.shape[4]
        if rows > held_rows or room > held_room:
            fitting_rows = held_rows if rows <= held_rows else max(rows, 2 * held_rows)
            self._resize(fitting_rows, held_room if room <= held_room else max(room, 2 * held_room))

    def _resize(self, rows: int, room: int) -> None:
        held = self.cache
        self._make_room(rows, room)
        for row, length in enumerate(self.lengths):
            self.cache[:, :, row, :, :length] = held[:, :, row, :, :length]
