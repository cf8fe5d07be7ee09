"""A reply that comes from a server piece by piece, taken down in a thread of its own."""

import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

from configs import InputError
from finetune.replies.asked_model import PartialReply
from finetune.replies.prompts import PlainPrompt

Inbox = queue.SimpleQueue[PartialReply | InputError]
ENDED_BY = {"length": "length: limit of {} tokens", None: "the server closed the reply"}


@dataclass
class Incoming:
    """What has come so far of a reply to a chat or, with a plain prompt, to a text."""

    prompt: PlainPrompt | None
    reply_tokens: int
    began: float = field(default_factory=time.perf_counter)
    said: str = ""
    pieces: int = 0
    reason: str | None = None
    tokens: int | None = None
    """As the server counts them, at the end, where it does."""

    def take(self, chunk: Any) -> PartialReply:
        """The reply with what a chunk brings."""
        self.tokens = chunk.usage.completion_tokens if chunk.usage else self.tokens
        for choice in chunk.choices[:1]:
            piece = choice.text if self.prompt else choice.delta.content
            self.said += piece or ""
            self.pieces += bool(piece)
            self.reason = choice.finish_reason or self.reason
        return self._state("next turn began" if self.prompt and self.prompt.goes_on(self.said) else "")

    def close(self) -> PartialReply:
        """The whole reply, with why it ended."""
        itself = "end of text" if self.prompt else "end of turn"
        ended = itself if self.reason == "stop" else ENDED_BY.get(self.reason, str(self.reason))
        state = self._state(ended.format(self.reply_tokens))
        return state if self.tokens is None else replace(state, pieces=self.tokens, piece="token")

    def _state(self, ended: str) -> PartialReply:
        text = self.prompt.cut(self.said) if self.prompt else self.said.strip()
        seconds = time.perf_counter() - self.began
        return PartialReply(text=text, pieces=self.pieces, piece="piece", seconds=seconds, ended=ended)


def stream_states(ask: Callable[[], Any], incoming: Incoming, stop: threading.Event) -> Generator[PartialReply]:
    """The states of a reply, without ever waiting for the server: the same one again where nothing has come.

    `ask` sends the request and gives the stream of its chunks.

    Raises:
        InputError: what `ask` or the stream raised.

    """
    inbox: Inbox = queue.SimpleQueue()
    left = threading.Event()
    threading.Thread(target=_listen, args=(ask, incoming, inbox, left), daemon=True).start()
    last = PartialReply(piece="piece")
    try:
        while not last.ended:
            came = False
            while not inbox.empty() and not last.ended:
                last, came = _unless_refused(inbox.get()), True
            if stop.is_set() and not came:
                last = replace(last, ended="stopped")
            yield last
    finally:
        left.set()


def _listen(ask: Callable[[], Any], incoming: Incoming, inbox: Inbox, left: threading.Event) -> None:
    """Hands over what the server sends, until the reply ends or nobody waits for it any more."""
    try:
        with ask() as chunks:
            for chunk in chunks:
                state = incoming.take(chunk)
                inbox.put(state)
                if state.ended or left.is_set():
                    return
        inbox.put(incoming.close())
    except InputError as error:
        inbox.put(error)


def _unless_refused(state: PartialReply | InputError) -> PartialReply:
    if isinstance(state, InputError):
        raise state
    return state
