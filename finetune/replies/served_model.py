"""A model on a server that is asked in one prompt format: in a chat, or to go on with a text."""

import json
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from configs import InputError
from finetune.conversations.messages import Conversation, Message
from finetune.replies.asked_model import PartialReply, TextReply, has_question
from finetune.replies.prompts import PlainPrompt
from finetune.replies.served_stream import Incoming, stream_states
from finetune.replies.server import Server
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.pages.progress import tracked

OWN_ENDS = ("stop", "tool_calls", "function_call")
"""The reasons to finish that are the model's own."""


@dataclass(frozen=True)
class ServedModel:
    """The server, and the plain prompt in which its model is asked; without one in a chat, which the server renders."""

    server: Server
    prompt: PlainPrompt | None = None

    def fits(self, conversation: Conversation) -> bool:
        """Whether there is a question; how long one may be, only the server knows."""
        return has_question(conversation)

    def costs(self, conversations: Sequence[Conversation]) -> None:
        """Nothing: a server gives no likelihood of a text."""

    def answer(self, conversations: Sequence[Conversation], reply_tokens: int, sampling: Sampling) -> list[TextReply]:
        """The replies, several requests at a time.

        Raises:
            InputError: the server did not answer one of them.

        """
        with ThreadPoolExecutor(self.server.requests_at_once) as threads:
            under_way = [threads.submit(self._reply, one, reply_tokens, sampling) for one in conversations]
            try:
                return [reply.result() for reply in tracked(under_way, f"replies of {self.server.model}", "questions")]
            finally:
                threads.shutdown(cancel_futures=True)  # after the first that fails, no other is sent

    def stream(
        self, conversation: Conversation, reply_tokens: int, sampling: Sampling, stop: threading.Event
    ) -> Generator[PartialReply]:
        """The reply as it comes.

        Raises:
            InputError: the server did not answer.

        """
        request = self._request(conversation, reply_tokens, sampling)
        return stream_states(lambda: self._chunks(request), Incoming(self.prompt, reply_tokens), stop)

    def _reply(self, conversation: Conversation, reply_tokens: int, sampling: Sampling) -> TextReply:
        request = self._request(conversation, reply_tokens, sampling)
        with self.server.asked(conversation.source):
            answered = self._send(request)
            choice = answered.choices[0]
            said = (choice.text if self.prompt else choice.message.content) or ""
        text, stopped = self.prompt.cut(said) if self.prompt else said.strip(), choice.finish_reason in OWN_ENDS
        is_whole = stopped or (self.prompt is not None and self.prompt.goes_on(said))
        return TextReply(text, stopped, is_whole, answered.usage.completion_tokens if answered.usage else None)

    @contextmanager
    def _chunks(self, request: dict[str, Any]) -> Iterator[Any]:
        with self.server.asked("the prompt"), self._send(request, stream=True) as chunks:
            yield chunks

    def _send(self, request: dict[str, Any], **settings: Any) -> Any:
        client = self.server.client
        create = client.completions.create if self.prompt else client.chat.completions.create
        return create(**request, **settings)

    def _request(self, conversation: Conversation, reply_tokens: int, sampling: Sampling) -> dict[str, Any]:
        if sampling.top_k:
            raise InputError(f"top-k: found {sampling.top_k}, and {self.server.url} has no such setting: leave it at 0")
        request = {
            "model": self.server.model,
            "max_tokens": reply_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        if sampling.top_p < 1:
            request["top_p"] = sampling.top_p
        asked = conversation.messages[:-1]
        if self.prompt:
            return {**request, "prompt": self.prompt.text(asked)}
        if conversation.tools is not None:
            request["tools"] = json.loads(conversation.tools)
        return {**request, "messages": [_for_server(message) for message in asked]}


def _for_server(message: Message) -> dict[str, Any]:
    """A message as the interface has it."""
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    named = {
        "reasoning_content": message.reasoning,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
    }
    return said | {key: value for key, value in named.items() if value is not None}
