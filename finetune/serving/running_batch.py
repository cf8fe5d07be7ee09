"""Many requests in one batch: a thread in which rows join between two steps, go on together, and leave when done.

Each step gives every row its next id. Between two steps at most so many prompt ids are read that those who wait for
their next id hardly notice. Greedy ids equal those of `finetune/replies/generation.py`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from configs import InputError
from finetune.decoding.growing_batches import GrowingBatch, PromptReading
from finetune.decoding.linear_layers import Adapter
from finetune.replies.generation import reply_room
from finetune.serving.reply_request import ReplyRequest
from finetune.serving.reply_row import ReplyRow, choose
from finetune.serving.reply_stream import ReplyStream
from finetune.serving.reply_text import TokenTexts
from finetune.serving.request_queue import BatchLimits, RequestQueue, Waiting


@dataclass
class BatchCounts:
    """What a batch did since it began."""

    replies: int = 0
    """Replies that came to their end."""
    tokens: int = 0
    prompt_tokens: int = 0
    left: int = 0
    """Replies that were under way when their readers had gone."""
    failed: int = 0
    """Replies that an error ended."""


@dataclass(eq=False)
class _Reading:
    """Prompts that are being read together."""

    asked: list[Waiting]
    prompts: PromptReading


class RunningBatch:
    """The batch of one model, adapters on it included, and its thread."""

    def __init__(
        self, name: str, model: PreTrainedModel, make_rows: Callable[[], GrowingBatch], limits: BatchLimits
    ) -> None:
        self.name, self.model, self.make_rows, self.limits = name, model, make_rows, limits
        self.queue, self.counts = RequestQueue(name, limits), BatchCounts()
        self._known_ids = model.get_input_embeddings().num_embeddings
        self._readings: list[_Reading] = []
        self._rows: list[ReplyRow] = []
        self._decoder = make_rows()
        self._thread = threading.Thread(target=self._run, name=f"batch of {name}", daemon=True)
        self._thread.start()

    @property
    def rows(self) -> int:
        """Replies under way."""
        return len(self._rows) + sum(len(asked.rows) for reading in self._readings for asked in reading.asked)

    def ask(self, request: ReplyRequest, texts: TokenTexts, adapter: Adapter | None = None) -> ReplyStream:
        """Puts a request into the queue; what comes back grows from now on.

        Raises:
            Full: so many wait already.
            InputError: the model cannot be asked this.

        """
        limit = reply_room(self.model, request.prompt_ids, request.most_tokens)
        self._check(request, limit)
        stream = ReplyStream(len(request.prompt_ids), request.choices)
        rows = [ReplyRow(stream, request, choice, limit, texts) for choice in range(request.choices)]
        self.queue.put(Waiting(stream, rows, adapter))
        return stream

    def close(self) -> None:
        """Ends the thread after the step under way; whoever still waits gets an error."""
        gone = InputError(f"{self.name}: is not served any more")
        for waiting in self.queue.close():
            waiting.stream.fail(gone)
        self._thread.join()

    def _check(self, request: ReplyRequest, limit: int) -> None:
        if request.choices > self.limits.rows:
            raise InputError(f"choices is {request.choices}, expected at most {self.limits.rows}")
        wrong = next((id_ for id_ in request.prompt_ids if not 0 <= id_ < self._known_ids), None)
        if wrong is not None:
            raise InputError(f"prompt: found the id {wrong}, expected ids from 0 to {self._known_ids - 1}")
        ids = (len(request.prompt_ids) + limit) * request.choices
        if ids > self.limits.cached_ids:
            raise InputError(
                f"prompt: found {len(request.prompt_ids):,} tokens, with replies of {limit:,} that is {ids:,} in all, "
                f"and there is memory for {self.limits.cached_ids:,}: shorten it, or ask for fewer or shorter replies"
            )

    def _run(self) -> None:
        with torch.inference_mode():
            while self.queue.wait(is_busy=bool(self._readings or self._rows)):
                try:
                    self._forget_closed()
                    self._read_prompts()
                    self._step()
                except Exception as error:  # such as memory that ran out: these replies end, and the next begin anew
                    self._fail_all(error)
        self._fail_all(InputError(f"{self.name}: is not served any more"))

    def _forget_closed(self) -> None:
        """Drops whatever nobody reads any further."""
        self.queue.forget_closed()
        gone = [place for place, row in enumerate(self._rows) if row.stream.is_closed]
        self.counts.left += len(gone)
        self._drop(gone)
        for reading in list(self._readings):
            if all(asked.stream.is_closed for asked in reading.asked):
                self.counts.left += sum(len(asked.rows) for asked in reading.asked)
                self._readings.remove(reading)

    def _read_prompts(self) -> None:
        """Reads a stretch of the prompts that have waited longest; those that are whole join the rows."""
        if self._decoder.takes_rows and (taken := self._take()):
            prompts = self._decoder.begin([one.prompt_ids for one in taken], [one.adapter for one in taken])
            self._readings.append(_Reading(taken, prompts))
        if not self._readings:
            return
        reading = self._readings.pop(0)
        try:
            logits = reading.prompts.go_on(self.limits.prompt_ids_at_once)  # (prompts, V)
        except Exception:
            self._readings.append(reading)  # fails with the others
            raise
        if logits is None:  # a long prompt lets others go first in between
            self._readings.append(reading)
        else:
            self._join(reading, logits)

    def _take(self) -> list[Waiting]:
        under_way = [*self._rows, *(row for one in self._readings for asked in one.asked for row in asked.rows)]
        cached_ids = sum(row.most_ids for row in under_way)
        return self.queue.take(self.limits.rows - len(under_way), self.limits.cached_ids - cached_ids)

    def _join(self, reading: _Reading, logits: Tensor) -> None:
        places = [place for place, asked in enumerate(reading.asked) for _ in asked.rows]
        rows = [row for asked in reading.asked for row in asked.rows]
        self.counts.prompt_tokens += sum(len(asked.prompt_ids) for asked in reading.asked)
        self._decoder.join(reading.prompts, places)
        self._rows += rows
        began = time.monotonic()
        for row in rows:
            row.began = began
        self._give(len(self._rows) - len(rows), logits[torch.tensor(places, device=logits.device)])

    def _step(self) -> None:
        if self._rows:
            self._give(0, self._decoder.step([row.last_id for row in self._rows]))

    def _give(self, first: int, logits: Tensor) -> None:
        """Gives the rows from `first` on their next ids; those that are done leave."""
        rows = self._rows[first:]
        chosen, done = choose(rows, logits), list[int]()
        for place, (row, id_) in enumerate(zip(rows, chosen.ids, strict=True)):
            if place in chosen.broken:
                row.stream.fail(chosen.broken[place])
                self.counts.failed += 1
                done.append(first + place)
                continue
            self.counts.tokens += 1
            if not row.take(id_, chosen.scores.get(place)):
                self.counts.replies += 1
                self.queue.note_seconds(time.monotonic() - row.began)
                done.append(first + place)
        self._drop(done)

    def _drop(self, places: Sequence[int]) -> None:
        for place in sorted(places, reverse=True):  # the last row takes the place of the one that leaves
            self._decoder.leave(place)
            self._rows[place] = self._rows[-1]
            self._rows.pop()

    def _fail_all(self, error: Exception) -> None:
        streams = [row.stream for row in self._rows]
        streams += [asked.stream for reading in self._readings for asked in reading.asked]
        self.counts.failed += self.rows
        self._rows, self._readings, self._decoder = [], [], self.make_rows()
        for stream in streams:
            stream.fail(error)
