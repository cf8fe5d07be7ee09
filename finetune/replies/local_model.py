"""A model on this machine that is asked in one prompt format."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from transformers import PreTrainedModel

from finetune.conversations.messages import Conversation
from finetune.replies.asked_model import Costs, PartialReply, TextReply
from finetune.replies.generation import Reply, generate_ids, stream_reply
from finetune.replies.likelihood import reply_costs
from finetune.replies.prompts import ChatPromptFormat, PlainPromptFormat, PromptFormat, fits
from scratch_models.decoding.sampling_settings import Sampling

UNFINISHED = "\ufffd"  # what decoders write for bytes that are not yet a character


@dataclass(frozen=True)
class LocalModel:
    """The model and the prompt format."""

    model: PreTrainedModel
    prompt_format: PromptFormat

    def fits(self, conversation: Conversation) -> bool:
        """Whether the model has positions for the question, the known reply and one more token."""
        return fits(self.model, self.prompt_format, conversation)

    def answer(self, conversations: Sequence[Conversation], reply_tokens: int, sampling: Sampling) -> list[TextReply]:
        """The replies, many at a time."""
        replies = generate_ids(
            self.model,
            [self._prompt_ids(conversation) for conversation in conversations],
            max_new_tokens=reply_tokens,
            stop_ids=self.prompt_format.stop_ids,
            sampling=sampling,
            calculator=self.prompt_format.calculator,
        )
        return [TextReply(self.prompt_format.text(reply.ids), reply.stopped) for reply in replies]

    def costs(self, conversations: Sequence[Conversation]) -> Costs:
        """Nats and bytes of each known reply."""
        nats, text_bytes = reply_costs(self.model, self.prompt_format, conversations)
        return Costs(nats=nats, text_bytes=text_bytes)

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
        )
        ids: list[int] = []
        seconds = 0.0
        with closing(stream):
            while True:
                began = time.perf_counter()
                try:
                    ids.append(next(stream))
                except StopIteration as end:
                    ended = self._why_ended(end.value, reply_tokens, stop)
                    break
                finally:
                    seconds += time.perf_counter() - began
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
