"""A model of a pool as whoever compares models asks it: its rows go on in the batch of its base, beside all others."""

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from finetune.conversations.messages import Conversation
from finetune.replies.asked_model import PartialReply, TextReply
from finetune.replies.prompts import PlainPrompt, PlainPromptFormat, PromptFormat, fits
from finetune.serving.model_pool import ModelPool
from finetune.serving.reply_request import Ended, Full, Piece, ReplyRequest, TokenScore
from finetune.serving.reply_stream import ReplyStream
from finetune.serving.reply_text import UNFINISHED
from finetune.serving.served_model import ServedModel
from scratch_models.decoding.sampling_settings import Sampling

SECONDS_OF_REST = 0.01


@dataclass(frozen=True, kw_only=True)
class PooledModel:
    """A model by the place where it lies, in one prompt format; it may not be in memory yet."""

    pool: ModelPool
    place: str
    prompt: PlainPrompt | None = None
    """Plain text to ask it in; without one it is asked in its chat format."""
    without_chat: PlainPrompt | None = None
    """The same for a model that has no chat format; without one that is refused."""
    calculator: bool = False
    """Whether a calculator completes its arithmetic although it was not trained with one, as a base's beside it."""

    def open(self) -> Future[ServedModel]:
        """The model once it is in memory."""
        return self.pool.open(self.place)

    def prompt_format(self, model: ServedModel) -> PromptFormat:
        """How it is asked.

        Raises:
            InputError: it has no chat format, and is to be asked in one.

        """
        calculator = self.calculator or model.calculator
        prompt = self.prompt if model.side.knows_chat else self.prompt or self.without_chat
        if prompt is not None:
            return model.side.in_plain_text(prompt, calculator=calculator).prompt_format
        return model.in_chat if calculator == model.calculator else model.side.in_chat(calculator=True).prompt_format

    def fits(self, conversation: Conversation) -> bool:
        """Whether the model, once it is in memory, has positions for the question, the known reply and one more."""
        model = self.open().result()
        return fits(model.side.model, self.prompt_format(model), conversation)

    def answer(self, conversations: Sequence[Conversation], reply_tokens: int, sampling: Sampling) -> list[TextReply]:
        """The replies, one after another; the pool's other rows go on beside them.

        Raises:
            InputError: there is no such model, or it cannot be asked one of these.

        """
        found = []
        for conversation in conversations:
            states = []
            for state in self.stream(conversation, reply_tokens, sampling, threading.Event()):
                states = [state]
                time.sleep(SECONDS_OF_REST)
            last = states[0]
            is_whole = not last.ended.startswith("length")
            found.append(TextReply(last.text, last.ended.startswith("end"), is_whole, last.pieces))
        return found

    def costs(self, conversations: Sequence[Conversation]) -> None:
        """Nothing: a batch of replies reads no known texts."""

    def stream(
        self, conversation: Conversation, reply_tokens: int, sampling: Sampling, stop: threading.Event
    ) -> Generator[PartialReply]:
        """The reply as it grows, never waited for: the same state again where nothing has come.

        Raises:
            InputError: there is no such model, or it cannot be asked this.

        """
        opening, began = self.open(), time.monotonic()
        while not opening.done():
            if stop.is_set():
                yield PartialReply(ended="stopped")
                return
            yield PartialReply(waits_for=f"reading the model into memory, {time.monotonic() - began:.0f} s")
        model = opening.result()
        prompt_format = self.prompt_format(model)
        request = ReplyRequest(
            prompt_ids=prompt_format.prompt_ids(conversation.messages[:-1], conversation.tools),
            most_tokens=reply_tokens,
            sampling=sampling,
            stop_ids=prompt_format.stop_ids,
            logprobs=0,
            calculator=prompt_format.calculator,
        )
        try:
            stream = self.pool.ask(self.place, request)
        except Full as full:
            yield PartialReply(ended=str(full))
            return
        yield from _Reply(model, prompt_format, stream, reply_tokens).states(stop)


@dataclass
class _Reply:
    """One reply on its way out of a batch."""

    model: ServedModel
    prompt_format: PromptFormat
    stream: ReplyStream
    reply_tokens: int
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    first: float | None = None
    scores: list[TokenScore] = field(default_factory=list)
    last: Ended | None = None

    def states(self, stop: threading.Event) -> Generator[PartialReply]:
        """What there is of it, until its end."""
        state = self._state("")
        try:
            while not state.ended:
                came = self.stream.poll()
                self._take(came)
                if came or not self.scores or stop.is_set():
                    state = self._state(self._why_ended(stop))
                yield state
        finally:
            self.stream.close()

    def _take(self, came: Sequence[Piece | Ended]) -> None:
        if came:
            self.seconds = self.stream.last_at - self.began
        for event in came:
            if isinstance(event, Ended):
                self.last = event
            else:
                self.first = self.first or self.stream.first_at - self.began
                self.scores += event.tokens

    def _why_ended(self, stop: threading.Event) -> str:
        if self._next_turn_began():
            return "next turn began"
        if self.last is not None and self.last.reason == "stop":
            return "end of text" if isinstance(self.prompt_format, PlainPromptFormat) else "end of turn"
        if self.last is not None and self.last.completion_tokens >= self.reply_tokens:
            return f"length: limit of {self.reply_tokens} tokens"
        if self.last is not None:
            return "length: no position left in the model"
        return "stopped" if stop.is_set() else ""

    def _next_turn_began(self) -> bool:
        if not isinstance(self.prompt_format, PlainPromptFormat):
            return False
        return self.prompt_format.prompt.goes_on(self.prompt_format.tokenizer.decode(self._ids))

    @property
    def _ids(self) -> list[int]:
        return [score.id for score in self.scores]

    def _state(self, ended: str) -> PartialReply:
        own = [score for score in self.scores if score.is_own]
        text = self.prompt_format.text(self._ids)
        return PartialReply(
            text=text if ended else text.rstrip(UNFINISHED),
            pieces=len(self.scores),
            seconds=self.seconds,
            ended=ended,
            waits_for="" if self.scores or ended else self._waits_for(),
            first_seconds=self.first,
            nats=-sum(score.logprob for score in own),
            own_tokens=len(own),
            own_bytes=sum(len(score.bytes) for score in own),
        )

    def _waits_for(self) -> str:
        ahead = self.model.batch.queue.ahead_of(self.stream)
        waited = f"{time.perf_counter() - self.began:.0f} s"
        if ahead is None:
            return f"reading the prompt of {self.stream.prompt_tokens:,} tokens, {waited}"
        return f"waiting for a place, {ahead} before it, {waited}"
