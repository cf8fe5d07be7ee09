"""A line of JSON on stderr for every request: what was asked, how it ended, how long it took, no content.

What a client chooses (its path, its key) is never written as it came: the route stands for the path, the key's id for
the key, so nothing in a request can forge a line.
"""

import json
import logging
import secrets
import sys
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.shapes.errors import LOG, ApiError, respond
from apps.shapes.figures import Figures

UNKNOWN, OTHER = "(no route)", "(other)"
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = {"time": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        said |= getattr(record, "fields", {})
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)


def install() -> None:
    """Has the service's log written to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


class Logged:
    """An ASGI application whose requests are logged and counted, each with an id that its answer carries too."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self.app, self.figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on and notes how it ended."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, request_id, status = time.monotonic(), f"req-{secrets.token_hex(8)}", 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            LOG.exception("a fault of the program", exc_info=error)
            if not status:
                said = f"a fault of the program, not of the request ({type(error).__name__})"
                await respond(ApiError(500, said))(scope, receive, sending)
        finally:
            self._note(scope, request_id, status or 499, time.monotonic() - began)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN)
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self.figures.requests.labels(route, method, status).inc()
        self.figures.seconds.labels(route).observe(seconds)
        fields = {
            "request": request_id,
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "key": scope.get("state", {}).get("key", ""),
        }
        LOG.info("request", extra={"fields": fields})
