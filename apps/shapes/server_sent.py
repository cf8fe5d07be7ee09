"""Server-sent events: one JSON object after `data: `, a blank line, and `[DONE]` at the end, as OpenAI streams.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

from apps.shapes.errors import LOG, ApiError, error_body, of_input
from configs import InputError

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "As a whole, or with `stream` as it comes."}
}
"""What a route that can stream answers with, for the OpenAPI document."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def stream(objects: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """The objects as they come; an error on the way is the last of them, as the official client expects it."""
    return StreamingResponse(_lines(objects), media_type="text/event-stream", headers=HEADERS)


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
