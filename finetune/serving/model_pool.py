"""The models of a service by name: each is read once, in the background, and leaves memory when nobody asks for it.

Adapters whose bases are bit for bit the same share one in memory, and one batch.
"""

import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from configs.errors import first_line
from finetune.chat.chat_format import ChatFormat
from finetune.conversations.messages import Message
from finetune.serving.reply_request import ReplyRequest
from finetune.serving.reply_stream import ReplyStream
from finetune.serving.request_queue import BatchLimits
from finetune.serving.running_batch import BatchCounts, RunningBatch
from finetune.serving.served_model import EncodedPrompt, ServedModel, open_served


@dataclass(frozen=True)
class ModelState:
    """How far a model is."""

    name: str
    state: Literal["loading", "ready", "failed"]
    error: str = ""
    """Why it could not be opened, on one line."""
    batch: str = ""
    """The batch that it answers in, by the name that opened it first."""
    is_adapter: bool = False
    """Whether it goes over a base that others share."""
    note: str = ""
    """Why it decodes through its own forward; empty where it does not."""


@dataclass(frozen=True)
class BatchState:
    """What a batch does now, and did."""

    name: str
    waiting: int
    """Requests in the queue."""
    rows: int
    """Replies under way."""
    most_waiting: int
    most_rows: int
    refused: int
    """Requests that found the queue full."""
    counts: BatchCounts


@dataclass(frozen=True)
class PoolState:
    """Models and batches."""

    models: tuple[ModelState, ...]
    batches: tuple[BatchState, ...]


@dataclass
class _Named:
    opening: Future[ServedModel]
    last_asked: float


class ModelPool:
    """Models by the names that `open_local` takes: `embedded`, a Hub name, a folder, a run, an adapter."""

    def __init__(
        self, *, limits: BatchLimits | None = None, idle_seconds: float = 600.0, kept: Collection[str] = ()
    ) -> None:
        """Takes after how long a model that nobody asks leaves memory, and the names of those that never do."""
        self.limits, self.idle_seconds, self.kept = limits or BatchLimits(), idle_seconds, frozenset(kept)
        self._named: dict[str, _Named] = {}
        self._batches: list[RunningBatch] = []
        self._lock = threading.RLock()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._closed = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="idle models", daemon=True)
        self._sweeper.start()

    def open(self, name: str) -> Future[ServedModel]:
        """The model, once it is in memory; in an event loop `asyncio.wrap_future` waits for it.

        A model that could not be opened is tried anew with the next call; the future of this one has the `InputError`.
        """
        with self._lock:
            named = self._named.get(name)
            if named is None or (named.opening.done() and named.opening.exception() is not None):
                named = self._named[name] = _Named(self._loader.submit(self._open, name), time.monotonic())
            named.last_asked = time.monotonic()
            return named.opening

    def chat_format(self, name: str) -> ChatFormat:
        """The chat format of a model.

        Raises:
            InputError: there is no such model, or it has no chat format.

        """
        return self.open(name).result().chat_format

    def encode_chat(self, name: str, messages: Sequence[Message], tools: str | None = None) -> EncodedPrompt:
        """Messages in the chat format of a model, up to where the assistant speaks, and the ids that end its reply.

        Raises:
            InputError: there is no such model, it has no chat format, or its template refuses the messages.

        """
        return self.open(name).result().encode_chat(messages, tools)

    def encode_text(self, name: str, text: str) -> EncodedPrompt:
        """Text for a model to go on with, and the ids that end its reply.

        Raises:
            InputError: there is no such model.

        """
        return self.open(name).result().encode_text(text)

    def ask(self, name: str, request: ReplyRequest) -> ReplyStream:
        """What a model replies, from when it is in memory; waits for that only.

        Raises:
            Full: the queue of its batch has no room.
            InputError: there is no such model, or it cannot be asked this.

        """
        while True:
            model = self.open(name).result()
            with self._lock:
                named = self._named.get(name)
                if named is None or named.opening.result() is not model:
                    continue  # it left memory in between
                model.streams = [stream for stream in model.streams if not stream.is_over]
                stream = model.batch.ask(request, model.texts, model.adapter)
                model.streams.append(stream)
                return stream

    def state(self) -> PoolState:
        """What is in memory, and what it does."""
        with self._lock:
            models = tuple(_state_of(name, named.opening) for name, named in self._named.items())
            batches = tuple(
                BatchState(
                    name=batch.name,
                    waiting=len(batch.queue),
                    rows=batch.rows,
                    most_waiting=batch.limits.waiting,
                    most_rows=batch.limits.rows,
                    refused=batch.queue.refused,
                    counts=batch.counts,
                )
                for batch in self._batches
            )
        return PoolState(models, batches)

    def close(self) -> None:
        """Ends all batches; replies under way get an error."""
        self._closed.set()
        self._loader.shutdown(wait=True, cancel_futures=True)
        self._sweeper.join()
        with self._lock:
            batches, self._batches, self._named = self._batches, [], {}
        for batch in batches:
            batch.close()

    def forget_idle(self) -> list[str]:
        """Lets models go that nobody has asked for so long; their names."""
        now = time.monotonic()
        with self._lock:
            idle = [
                name
                for name, named in self._named.items()
                if name not in self.kept and now - named.last_asked >= self.idle_seconds and _is_idle(named.opening)
            ]
            for name in idle:
                del self._named[name]
            used = {named.opening.result().batch for named in self._named.values() if _is_ready(named.opening)}
            is_loading = any(not named.opening.done() for named in self._named.values())
            left = [] if is_loading else [batch for batch in self._batches if batch not in used]
            self._batches = [batch for batch in self._batches if batch not in left]
        for batch in left:
            batch.close()
        return idle

    def _open(self, name: str) -> ServedModel:
        model = open_served(name, tuple(self._batches), self.limits)
        with self._lock:
            if model.batch not in self._batches:
                self._batches.append(model.batch)
        return model

    def _sweep(self) -> None:
        while not self._closed.wait(max(0.05, min(30.0, self.idle_seconds / 4))):
            self.forget_idle()


def _is_ready(opening: Future[ServedModel]) -> bool:
    return opening.done() and not opening.cancelled() and opening.exception() is None


def _is_idle(opening: Future[ServedModel]) -> bool:
    """Whether it is loading no more and nothing of it is under way."""
    return opening.done() and (not _is_ready(opening) or all(one.is_over for one in opening.result().streams))


def _state_of(name: str, opening: Future[ServedModel]) -> ModelState:
    if not opening.done() or opening.cancelled():
        return ModelState(name, "loading")
    error = opening.exception()
    if error is not None:
        return ModelState(name, "failed", first_line(error))
    model = opening.result()
    return ModelState(name, "ready", "", model.batch.name, model.adapter is not None, model.note)
