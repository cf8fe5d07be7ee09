"""Server-sent events: one JSON object after `data: `, a blank line, and `[DONE]` at the end, as OpenAI streams.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from apps.shapes.errors import LOG, ApiError, error_body, of_input
from configs import InputError

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "As a whole, or with `stream` as it comes."}
}
"""What a route that can stream answers with, for the OpenAPI document."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class _Stream(StreamingResponse):
    """Events that end what they come from, also where the client left before the first: no line is asked for then."""

    def __init__(self, objects: AsyncIterator[dict[str, Any]], close: Callable[[], object]) -> None:
        super().__init__(_lines(objects), media_type="text/event-stream", headers=HEADERS)
        self.close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.close()


def stream(objects: AsyncIterator[dict[str, Any]], close: Callable[[], object] = lambda: None) -> StreamingResponse:
    """The objects as they come; an error on the way is the last of them, as the official client expects it.

    `close` is called at the end, whatever ended it.
    """
    return _Stream(objects, close)


async def _lines(objects: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    try:
        async for one in objects:
            yield _line(one)
    except ApiError as error:
        yield _line(error_body(error.status, error.message, error.code, error.param))
    except InputError as error:
        yield _line(error_body(400, of_input(error).message))
    except Exception as error:
        LOG.exception("a fault of the program in a stream")
        yield _line(error_body(500, f"a fault of the program, not of the request ({type(error).__name__})"))
    yield "data: [DONE]\n\n"


def _line(one: dict[str, Any]) -> str:
    return f"data: {json.dumps(one, separators=(',', ':'))}\n\n"
