"""A model on this machine that is asked in one prompt format."""

import math
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

from transformers import PreTrainedModel

from finetune.conversations.messages import Conversation
from finetune.replies.asked_model import Costs, PartialReply, TextReply
from finetune.replies.generation import Asked, Reply, generate_ids, stream_reply, without_adapters
from finetune.replies.likelihood import reply_costs, reply_row, row_nats
from finetune.replies.prompts import ChatPromptFormat, KnownReply, PlainPromptFormat, PromptFormat, fits
from scratch_models.decoding.sampling_settings import Sampling

UNFINISHED = "\ufffd"  # what decoders write for bytes that are not yet a character


Steps = Generator[tuple[int, float], None, tuple[Reply, float]]
"""The ids of a reply as they come, each with the seconds that the model took so far; it returns both of the whole."""


@dataclass(frozen=True)
class LocalModel:
    """The model and the prompt format."""

    model: PreTrainedModel
    prompt_format: PromptFormat
    of_base: bool = False
    """Whether it is the base under the model's adapters that is asked."""

    def fits(self, conversation: Conversation) -> bool:
        """Whether the model has positions for the question, the known reply and one more token."""
        return fits(self.model, self.prompt_format, conversation)

    def answer(self, conversations: Sequence[Conversation], reply_tokens: int, sampling: Sampling) -> list[TextReply]:
        """The replies, many at a time."""
        with self.as_asked():
            replies = generate_ids(
                self.model,
                [self._prompt_ids(conversation) for conversation in conversations],
                max_new_tokens=reply_tokens,
                stop_ids=self.prompt_format.stop_ids,
                sampling=sampling,
                calculator=self.prompt_format.calculator,
            )
        return [self.read(reply) for reply in replies]

    def asked(self, conversations: Sequence[Conversation]) -> Asked:
        """The conversations as prompts, for a batch that other askings share."""
        return Asked(
            prompts=[self._prompt_ids(conversation) for conversation in conversations],
            stop_ids=self.prompt_format.stop_ids,
            calculator=self.prompt_format.calculator,
            of_base=self.of_base,
        )

    def read(self, reply: Reply) -> TextReply:
        """What generated ids say."""
        ids = reply.ids if reply.end_id is None else (*reply.ids, reply.end_id)
        is_whole = reply.stopped or self._next_turn_began(reply.ids)
        return TextReply(self.prompt_format.text(reply.ids), reply.stopped, is_whole, len(ids), ids)

    def costs(self, conversations: Sequence[Conversation]) -> Costs:
        """Nats and bytes of each known reply."""
        with self.as_asked():
            nats, text_bytes = reply_costs(self.model, self.prompt_format, conversations)
        return Costs(nats=nats, text_bytes=text_bytes)

    def nats_per_token(self, conversations: Sequence[Conversation], replies: Sequence[TextReply]) -> list[float]:
        """What each reply that it generated costs the model, on average over the ids that it chose itself."""
        calculator, rows = self.prompt_format.calculator, []
        own = [calculator.own(reply.ids) if calculator else [True] * len(reply.ids) for reply in replies]
        for conversation, reply, chosen in zip(conversations, replies, own, strict=True):
            known = KnownReply(list(reply.ids), chosen, text_bytes=0)
            rows.append(reply_row(self.prompt_format, conversation, known))
        with self.as_asked():
            nats = row_nats(self.model, rows)
        return [cost / sum(chosen) if any(chosen) else math.inf for cost, chosen in zip(nats, own, strict=True)]

    def as_asked(self) -> AbstractContextManager[None]:
        """Switches the adapters off meanwhile where the base is asked."""
        return without_adapters(self.model) if self.of_base else nullcontext()

    def stream(
        self, conversation: Conversation, reply_tokens: int, sampling: Sampling, stop: threading.Event
    ) -> Generator[PartialReply]:
        """The reply after every token; of a base that goes on with another turn, what comes before that."""
        stream = stream_reply(
            self.model,
            self._prompt_ids(conversation),
            max_new_tokens=reply_tokens,
            stop_ids=self.prompt_format.stop_ids,
            sampling=sampling,
            stop=stop,
            calculator=self.prompt_format.calculator,
            of_base=self.of_base,
        )
        yield from self.states(_timed(stream), reply_tokens, stop)

    def states(self, steps: Steps, reply_tokens: int, stop: threading.Event) -> Generator[PartialReply]:
        """The states of a reply whose ids come step by step."""
        ids: list[int] = []
        seconds = 0.0
        with closing(steps):
            while True:
                try:
                    id_, seconds = next(steps)
                except StopIteration as end:
                    reply, seconds = end.value
                    ended = self._why_ended(reply, reply_tokens, stop)
                    break
                ids.append(id_)
                if self._next_turn_began(ids):
                    ended = "next turn began"
                    break
                text = self.prompt_format.text(ids).rstrip(UNFINISHED)
                yield PartialReply(text=text, pieces=len(ids), seconds=seconds)
        yield PartialReply(text=self.prompt_format.text(ids), pieces=len(ids), seconds=seconds, ended=ended)

    def _prompt_ids(self, conversation: Conversation) -> list[int]:
        return self.prompt_format.prompt_ids(conversation.messages[:-1], conversation.tools)

    def _why_ended(self, reply: Reply, reply_tokens: int, stop: threading.Event) -> str:
        if reply.stopped:
            return "end of turn" if isinstance(self.prompt_format, ChatPromptFormat) else "end of text"
        if len(reply.ids) == reply_tokens:
            return f"length: limit of {reply_tokens} tokens"
        if stop.is_set():
            return "stopped"
        return "length: no position left in the model"

    def _next_turn_began(self, ids: Sequence[int]) -> bool:
        """Whether a base model went on to another turn: what follows belongs to no reply."""
        if not isinstance(self.prompt_format, PlainPromptFormat):
            return False
        return self.prompt_format.prompt.goes_on(self.prompt_format.tokenizer.decode(list(ids)))


def _timed(stream: Generator[int, None, Reply]) -> Steps:
    seconds = 0.0
    with closing(stream):
        while True:
            began = time.perf_counter()
            try:
                id_ = next(stream)
            except StopIteration as end:
                return end.value, seconds + time.perf_counter() - began
            seconds += time.perf_counter() - began
            yield id_, seconds
