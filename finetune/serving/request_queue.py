"""Requests that wait for a row of a batch, in the order in which they came."""

import math
import threading
from collections import deque
from dataclasses import dataclass

from configs import InputError
from finetune.decoding.linear_layers import Adapter
from finetune.serving.reply_request import Full
from finetune.serving.reply_row import ReplyRow
from finetune.serving.reply_stream import ReplyStream

SECONDS_TO_GATHER = 0.02


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """How much one batch takes on."""

    rows: int = 32
    """Replies under way at once, those whose prompts are being read among them."""
    waiting: int = 64
    """Requests that wait for a row; who comes then is refused."""
    prompt_ids_at_once: int = 256
    """Prompt ids that are read between two steps."""
    cached_ids: int = 1 << 17
    """Ids, of prompts and the longest replies, that the keys and values of all rows may take memory for."""


@dataclass(eq=False)
class Waiting:
    """A request until its prompt is read: the rows of its choices, and the adapter that they go through."""

    stream: ReplyStream
    rows: list[ReplyRow]
    adapter: Adapter | None

    @property
    def prompt_ids(self) -> list[int]:
        """The prompt."""
        return list(self.rows[0].request.prompt_ids)

    @property
    def cached_ids(self) -> int:
        """Ids of prompt and reply, of all choices, where each reply is as long as it may be."""
        return sum(row.most_ids for row in self.rows)


class RequestQueue:
    """The queue of one batch."""

    def __init__(self, name: str, limits: BatchLimits) -> None:
        self.name, self.limits = name, limits
        self.refused = 0
        """Requests that found it full."""
        self._changed = threading.Condition()
        self._waiting: deque[Waiting] = deque()
        self._closed = False
        self._seconds_of_a_reply = 1.0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def ahead_of(self, stream: ReplyStream) -> int | None:
        """How many requests are taken before that of a stream; None once it is taken itself."""
        with self._changed:
            return next((place for place, one in enumerate(self._waiting) if one.stream is stream), None)

    def put(self, waiting: Waiting) -> None:
        """Adds a request as the last.

        Raises:
            Full: so many wait already.
            InputError: it is closed.

        """
        with self._changed:
            if self._closed:
                raise InputError(f"{self.name}: is not served any more")
            if len(self._waiting) >= self.limits.waiting:
                self.refused += 1
                ahead = sum(len(one.rows) for one in self._waiting) / self.limits.rows
                seconds = max(1, math.ceil(self._seconds_of_a_reply * ahead))
                found = f"{len(self._waiting)} requests wait, and no more may"
                raise Full(f"{self.name}: {found}: come again in {seconds} s", seconds)
            self._waiting.append(waiting)
            self._changed.notify()

    def wait(self, *, is_busy: bool) -> bool:
        """Waits for a request unless there is other work; whether it is still open.

        Those that come within a moment of the first, such as the sides of a comparison, are read with it.
        """
        with self._changed:
            if not is_busy and not self._waiting:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                self._changed.wait_for(lambda: self._closed, SECONDS_TO_GATHER)
            return not self._closed

    def take(self, free_rows: int, free_ids: int) -> list[Waiting]:
        """The next requests whose prompts are read together: those that fit, none past one that does not."""
        taken: list[Waiting] = []
        with self._changed:
            while self._waiting:
                first = self._waiting[0]
                if not first.stream.is_closed:
                    longest = max(len(one.prompt_ids) for one in [*taken, first])
                    fits = len(first.rows) <= free_rows and first.cached_ids <= free_ids
                    if not fits or (taken and longest * (len(taken) + 1) > self.limits.prompt_ids_at_once):
                        break
                    taken.append(first)
                    free_rows, free_ids = free_rows - len(first.rows), free_ids - first.cached_ids
                self._waiting.popleft()
        return taken

    def forget_closed(self) -> None:
        """Drops requests whose readers have gone."""
        with self._changed:
            self._waiting = deque(one for one in self._waiting if not one.stream.is_closed)

    def note_seconds(self, seconds: float) -> None:
        """Says how long a reply took, from its first id: by that it is guessed when there is room."""
        self._seconds_of_a_reply += 0.2 * (seconds - self._seconds_of_a_reply)

    def close(self) -> list[Waiting]:
        """Takes no more; those who waited."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            self._changed.notify()
        return waiting
