"""`/v1/chat/completions`: replies to a conversation, in the model's own chat template."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import StreamingResponse

from apps.api.access import Reader
from apps.api.asking import Asked, ReplyLimits, ask, most_tokens, new_id, watched
from apps.api.parts import Parts, Shared
from apps.shapes.bodies import ChatBody
from apps.shapes.errors import ApiError
from apps.shapes.objects import (
    ChatChoice,
    ChatCompletion,
    ChatMessage,
    ChoiceLogprobs,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from apps.shapes.server_sent import STREAMED, stream
from finetune.conversations.message_reader import read_messages
from finetune.serving.reply_request import Ended, TokenScore

ROUTER = APIRouter(tags=["Chat"])


@ROUTER.post("/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def create_chat_completion(
    request: Request, parts: Shared, _reader: Reader, body: Annotated[ChatBody, Body()]
) -> ChatCompletion | StreamingResponse:
    """Replies to a conversation."""
    asked = await _ask(parts, body)
    reply_id, created = new_id("chatcmpl"), int(time.time())
    if body.stream:
        return stream(_chunks(request, asked, body, reply_id, created), asked.close)
    async with watched(request, asked):
        return await _whole(asked, body, reply_id, created)


async def _ask(parts: Parts, body: ChatBody) -> Asked:
    field = "max_completion_tokens" if body.max_completion_tokens else "max_tokens"
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs: found without logprobs, expected logprobs: true", param="top_logprobs")
    most = most_tokens(parts, body.limit, field)
    messages = read_messages(body.messages, "body", "messages")
    model = parts.names.find(body.model)
    limits = ReplyLimits(model=model, most_tokens=most, logprobs=body.alternatives)
    return await ask(parts, body, lambda: [parts.pool.encode_chat(model.place, messages)], limits)


async def _whole(asked: Asked, body: ChatBody, reply_id: str, created: int) -> ChatCompletion:
    replies = await asked.whole()
    choices = [
        ChatChoice(
            index=number,
            message=ChatMessage(content=reply.text),
            logprobs=_logprobs(reply.tokens) if body.logprobs else None,
            finish_reason=reply.ended.reason,
        )
        for number, reply in enumerate(replies)
    ]
    return ChatCompletion(
        id=reply_id,
        created=created,
        model=body.model,
        choices=choices,
        usage=usage_of(asked, [reply.ended for reply in replies]),
        system_fingerprint=asked.model.fingerprint,
    )


async def _chunks(
    request: Request, asked: Asked, body: ChatBody, reply_id: str, created: int
) -> AsyncIterator[dict[str, Any]]:
    """Chunks as the official client reads them: the role, the text, why it ended, and the usage where it is asked."""
    head = {
        "id": reply_id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": body.model,
        "system_fingerprint": asked.model.fingerprint,
    }

    def chunk(number: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": number, "finish_reason": reason, **delta}]}

    ended: list[Ended] = []
    async with watched(request, asked):
        for number in range(body.n or 1):
            yield chunk(number, {"delta": {"role": "assistant", "content": ""}})
        async for number, event in asked.events():
            if isinstance(event, Ended):
                ended.append(event)
                yield chunk(number, {"delta": {}}, event.reason)
            else:
                told = {"logprobs": _logprobs(event.tokens).model_dump()} if body.logprobs else {}
                yield chunk(number, {"delta": {"content": event.text}, **told})
        if body.with_usage:
            yield {**head, "choices": [], "usage": usage_of(asked, ended).model_dump()}


def usage_of(asked: Asked, ended: Sequence[Ended]) -> Usage:
    """Tokens that were read and generated."""
    generated = sum(one.completion_tokens for one in ended)
    return Usage(
        prompt_tokens=asked.prompt_tokens,
        completion_tokens=generated,
        total_tokens=asked.prompt_tokens + generated,
    )


def _logprobs(tokens: Sequence[TokenScore]) -> ChoiceLogprobs:
    return ChoiceLogprobs(
        content=[
            TokenLogprob(
                token=one.token,
                bytes=list(one.bytes),
                logprob=one.logprob,
                top_logprobs=[
                    TopLogprob(token=other.token, bytes=list(other.bytes), logprob=other.logprob) for other in one.top
                ],
            )
            for one in tokens
        ]
    )
