"""What a model answers to one request, as it comes: read in a thread or an event loop, given by the batch."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator

from finetune.serving.reply_request import Ended, Piece


class ReplyStream:
    """Pieces of all choices in the order in which they came, `Ended` last for each.

    Only one reader at a time. Whoever reads no further closes it.
    """

    def __init__(self, prompt_tokens: int, choices: int) -> None:
        self.prompt_tokens, self.choices = prompt_tokens, choices
        self.first_at = self.last_at = 0.0
        """When the first and the last of it came, on the clock of `time.perf_counter`."""
        self._events: deque[Piece | Ended] = deque()
        self._changed = threading.Condition()
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._going_on = choices
        self._closed = False
        self._error: Exception | None = None

    @property
    def is_closed(self) -> bool:
        """Whether nobody reads any further."""
        return self._closed

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be put into it."""
        return self._closed or self._error is not None or self._going_on == 0

    def close(self) -> None:
        """From any thread: its rows leave the batch before the next token, and whoever reads finds the end."""
        with self._changed:
            self._closed = True
            self._events.clear()
            self._tell()

    def put(self, event: Piece | Ended) -> None:
        """Adds what came."""
        with self._changed:
            if self._closed:
                return
            self._events.append(event)
            self.last_at = time.perf_counter()
            self.first_at = self.first_at or self.last_at
            self._going_on -= isinstance(event, Ended)
            self._tell()

    def fail(self, error: Exception) -> None:
        """Ends it: the reader gets what came, then the error."""
        with self._changed:
            if not self.is_over:
                self._error = error
            self._tell()

    def poll(self) -> list[Piece | Ended]:
        """What has come since it was last read, without waiting.

        Raises:
            InputError: the model's logits are broken.

        """
        with self._changed:
            came = list(self._events)
            self._events.clear()
            if not came and self._error is not None and not self._closed:
                raise self._error
        return came

    def __iter__(self) -> Iterator[Piece | Ended]:
        """Itself."""
        return self

    def __next__(self) -> Piece | Ended:
        """What comes next.

        Raises:
            InputError: the model's logits are broken.

        """
        with self._changed:
            self._changed.wait_for(lambda: self._events or self.is_over)
            if self._events:
                return self._events.popleft()
            if self._error is not None and not self._closed:
                raise self._error
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[Piece | Ended]:
        """Itself."""
        return self

    async def __anext__(self) -> Piece | Ended:
        """What comes next; no thread waits meanwhile.

        Raises:
            InputError: the model's logits are broken.

        """
        while True:
            with self._changed:
                if self._events:
                    return self._events.popleft()
                if self._error is not None and not self._closed:
                    raise self._error
                if self.is_over:
                    raise StopAsyncIteration
                came = asyncio.Event()
                self._waiting = asyncio.get_running_loop(), came
            await came.wait()

    def _tell(self) -> None:
        """Wakes the reader; called with the lock held."""
        self._changed.notify_all()
        if self._waiting is not None:
            loop, came = self._waiting
            self._waiting = None
            try:
                loop.call_soon_threadsafe(came.set)
            except RuntimeError:  # the loop is gone, and its reader with it
                self._closed = True
