"""Batches that rows join and leave between two ids: by parts, each row under its own adapter, or one after another.

Shapes: B rows, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune.decoding.decoders import OwnForward, ReadModel
from finetune.decoding.linear_layers import Adapter, Chosen, TogetherAdapters
from scratch_models.decoding.joining_rows import JoiningRows, PromptReader

Prompts = Sequence[Sequence[int]]


class PromptReading(Protocol):
    """Prompts that are being read."""

    def go_on(self, most_ids: int) -> Tensor | None:
        """Reads at most so many ids of each; the logits after the last ids, (B, V), once they are all read."""


class GrowingBatch(Protocol):
    """Rows that go on, one id a row at a time."""

    @property
    def takes_rows(self) -> bool:
        """Whether rows can join now."""

    def begin(self, prompts: Prompts, adapters: Sequence[Adapter | None]) -> PromptReading:
        """Prompts to be read, each under its adapter, or the base where that is None."""

    def join(self, reading: PromptReading, rows: Sequence[int]) -> None:
        """Adds these rows of prompts that were read, in this order, as the last; a row may come several times."""

    def step(self, ids: Sequence[int]) -> Tensor:
        """Logits after the next id of each row: (B, V)."""

    def leave(self, row: int) -> None:
        """Forgets a row; the last takes its place."""


class BatchByParts:
    """Rows under several adapters of one base share every product of its weights."""

    takes_rows = True

    def __init__(self, read: ReadModel) -> None:
        """Takes a model that has parts."""
        assert read.parts is not None, read.why_not
        self.parts, self.adapter_rows = read.parts, read.adapter_rows
        self.rows = JoiningRows(read.parts)
        self.adapters: list[Adapter | None] = []
        self.chosen: Chosen | None = None  # until rows come or go
        self.together: TogetherAdapters | None = None

    def begin(self, prompts: Prompts, adapters: Sequence[Adapter | None]) -> PromptReading:
        """Prompts to be read."""
        return _AdaptedReading(self, prompts, adapters)

    def join(self, reading: PromptReading, rows: Sequence[int]) -> None:
        """Adds rows of prompts that were read."""
        assert isinstance(reading, _AdaptedReading)
        for row in rows:
            self.rows.join(reading.reader, row)
            self.adapters.append(reading.adapters[row])
        self.chosen = None

    def step(self, ids: Sequence[int]) -> Tensor:
        """Logits after the next id of each row: (B, V)."""
        if self.chosen is None:
            self.chosen = self.grouped(self.adapters)
        with self.under(self.chosen):
            return self.rows.step(ids)

    def leave(self, row: int) -> None:
        """Forgets a row; the last takes its place."""
        self.rows.leave(row)
        self.adapters[row] = self.adapters[-1]
        self.adapters.pop()
        self.chosen = None

    def grouped(self, adapters: Sequence[Adapter | None]) -> Chosen:
        """Which rows go through which adapters; several go together."""
        found, device = list(dict.fromkeys(one for one in adapters if one is not None)), self.parts.device
        if not found:
            self.together = None  # holds no adapter that nobody asks any more
        if len(found) < 2:
            rows = [row for row, adapter in enumerate(adapters) if adapter is not None]
            return [(adapter, torch.tensor(rows, device=device)) for adapter in found]
        if self.together is None or not set(found) <= set(self.together.adapters):
            self.together = TogetherAdapters(found)
        return self.together.for_rows(adapters, device)

    @contextmanager
    def under(self, chosen: Chosen) -> Iterator[None]:
        """Rows go through these adapters meanwhile."""
        self.adapter_rows.chosen = chosen
        try:
            yield
        finally:
            self.adapter_rows.chosen = None


class _AdaptedReading:
    """Prompts that are read under their adapters."""

    def __init__(self, batch: BatchByParts, prompts: Prompts, adapters: Sequence[Adapter | None]) -> None:
        self.batch, self.adapters = batch, adapters
        self.reader = PromptReader(batch.parts, prompts)
        self.chosen = batch.grouped(adapters)

    def go_on(self, most_ids: int) -> Tensor | None:
        with self.batch.under(self.chosen):
            return self.reader.go_on(most_ids)


class BatchByOwnForward:
    """Rows of a model that has no parts: whoever comes while some go on waits until they have ended."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.decoder: OwnForward | None = None
        self.mask = self.positions = torch.empty(0)

    @property
    def takes_rows(self) -> bool:
        """Whether no row goes on."""
        return self.decoder is None

    def begin(self, prompts: Prompts, adapters: Sequence[Adapter | None]) -> PromptReading:
        """Prompts to be read."""
        assert not any(adapters), "a model's own forward has its own adapter"
        return _OwnReading(self.model, prompts)

    def join(self, reading: PromptReading, rows: Sequence[int]) -> None:
        """Takes rows of prompts that were read as the batch."""
        assert isinstance(reading, _OwnReading) and self.decoder is None
        kept = torch.tensor(rows, device=reading.mask.device)
        self.decoder = reading.decoder
        self.decoder.keep_rows(kept)
        self.mask, self.positions = reading.mask[kept], reading.mask[kept].sum(dim=-1, keepdim=True)  # (B, S), (B, 1)

    def step(self, ids: Sequence[int]) -> Tensor:
        """Logits after the next id of each row: (B, V)."""
        assert self.decoder is not None, "rows have joined"
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=-1)  # (B, S)
        logits = self.decoder.read(torch.tensor(ids, device=self.mask.device)[:, None], self.positions, self.mask)
        self.positions = self.positions + 1
        return logits

    def leave(self, row: int) -> None:
        """Forgets a row; the last takes its place."""
        assert self.decoder is not None, "rows have joined"
        places = list(range(len(self.mask)))
        places[row] = places[-1]
        places.pop()
        if not places:
            self.decoder = None
            return
        kept = torch.tensor(places, device=self.mask.device)
        self.decoder.keep_rows(kept)
        self.mask, self.positions = self.mask[kept], self.positions[kept]


class _OwnReading:
    """Prompts that are read in one go, filled up before their first id."""

    def __init__(self, model: PreTrainedModel, prompts: Prompts) -> None:
        self.decoder, longest = OwnForward(model), max(map(len, prompts))
        filled = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self.input_ids = torch.tensor(filled, device=model.device)  # (B, T)
        self.mask = torch.tensor(mask, device=model.device)  # (B, T)

    def go_on(self, most_ids: int) -> Tensor | None:
        positions = (self.mask.cumsum(dim=-1) - 1).clamp(min=0)  # (B, T)
        return self.decoder.read(self.input_ids, positions, self.mask)
