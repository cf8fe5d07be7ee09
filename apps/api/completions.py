"""`/v1/completions`: texts that go on from prompts, in no chat format at all."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import StreamingResponse

from apps.api.access import Reader
from apps.api.asking import Asked, ReplyLimits, ask, most_tokens, new_id, watched
from apps.api.chat import usage_of
from apps.api.parts import Parts, Shared
from apps.shapes.bodies import CompletionBody
from apps.shapes.objects import TextChoice, TextCompletion, TextLogprobs
from apps.shapes.server_sent import STREAMED, stream
from finetune.serving.reply_request import Ended, TokenScore

ROUTER = APIRouter(tags=["Completions"])


@ROUTER.post("/completions", response_model=TextCompletion, responses=STREAMED)
async def create_completion(
    request: Request, parts: Shared, _reader: Reader, body: Annotated[CompletionBody, Body()]
) -> TextCompletion | StreamingResponse:
    """Texts that go on from prompts."""
    asked = await _ask(parts, body)
    head = {
        "id": new_id("cmpl"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
        "system_fingerprint": asked.model.fingerprint,
    }
    if body.stream:
        return stream(_chunks(request, asked, body, head), asked.close)
    async with watched(request, asked):
        return await _whole(asked, body, head)


async def _ask(parts: Parts, body: CompletionBody) -> Asked:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    most = most_tokens(parts, body.max_tokens, "max_tokens")
    model = parts.names.find(body.model)
    limits = ReplyLimits(model=model, most_tokens=most, logprobs=body.logprobs)
    return await ask(parts, body, lambda: [parts.pool.encode_text(model.place, prompt) for prompt in prompts], limits)


async def _whole(asked: Asked, body: CompletionBody, head: dict[str, Any]) -> TextCompletion:
    replies = await asked.whole()
    choices = [
        TextChoice(
            index=number,
            text=reply.text,
            logprobs=None if body.logprobs is None else _logprobs(reply.tokens, 0),
            finish_reason=reply.ended.reason,
        )
        for number, reply in enumerate(replies)
    ]
    return TextCompletion(**head, choices=choices, usage=usage_of(asked, [reply.ended for reply in replies]))


async def _chunks(
    request: Request, asked: Asked, body: CompletionBody, head: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    said, ended = [0] * asked.choices, list[Ended]()
    async with watched(request, asked):
        async for number, event in asked.events():
            if isinstance(event, Ended):
                ended.append(event)
                yield {**head, "choices": [_choice(number, "", event.reason)]}
            else:
                told = None if body.logprobs is None else _logprobs(event.tokens, said[number]).model_dump()
                said[number] += len(event.text)
                yield {**head, "choices": [_choice(number, event.text, None, told)]}
        if body.with_usage:
            yield {**head, "choices": [], "usage": usage_of(asked, ended).model_dump()}


def _choice(number: int, text: str, reason: str | None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": number, "text": text, "finish_reason": reason, "logprobs": logprobs}


def _logprobs(tokens: Sequence[TokenScore], start: int) -> TextLogprobs:
    offsets = [start]
    for one in tokens:
        offsets.append(offsets[-1] + len(one.token))
    return TextLogprobs(
        tokens=[one.token for one in tokens],
        token_logprobs=[one.logprob for one in tokens],
        top_logprobs=[{other.token: other.logprob for other in one.top} for one in tokens],
        text_offset=offsets[:-1],
    )
