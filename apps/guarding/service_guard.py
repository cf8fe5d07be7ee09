"""What a request must be before the service sees it: for this server, of its own page, not too long.

Bodies are counted as they arrive, and never held here: an upload goes to the disk while it comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.guarding.guard import Refusal, check_sender
from apps.shapes.errors import ApiError, respond

TAKE_NOTHING = ("GET", "HEAD", "OPTIONS", "DELETE")


@dataclass(frozen=True, kw_only=True)
class ServiceRules:
    """What a service lets through."""

    hosts: frozenset[str]
    """Names that it is asked under, in small letters, without a port."""
    body_bytes: int
    """Longest body of a request."""
    longer: Mapping[str, int]
    """Paths whose bodies may be longer."""


class ServiceGuard:
    """An ASGI application behind the rules."""

    def __init__(self, app: ASGIApp, rules: ServiceRules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or answers it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counted = _Counted(self._longest(scope), receive, send)
        try:
            check_sender(scope, self.rules.hosts)
            counted.check_stated(Headers(scope=scope).get("content-length", "0"))
            await self.app(scope, counted.receive, counted.send)
        except Refusal as refusal:
            counted.refusal = refusal
        if counted.refusal is not None and not counted.began:  # else whoever asked has the answer's head already
            response = respond(ApiError(counted.refusal.status, str(counted.refusal)))
            response.headers["Connection"] = "close"
            await response(scope, receive, send)

    def _longest(self, scope: Scope) -> int:
        return 0 if scope["method"] in TAKE_NOTHING else self.rules.longer.get(scope["path"], self.rules.body_bytes)


class _Counted:
    """One request, whose body ends where it is too long, whatever the application makes of that."""

    def __init__(self, longest: int, receive: Receive, send: Send) -> None:
        self.longest, self._receive, self._send = longest, receive, send
        self.length, self.began = 0, False
        self.refusal: Refusal | None = None

    def check_stated(self, stated: str) -> None:
        """Refuses a body that is too long by its own account.

        Raises:
            Refusal: it is.
        """
        if stated.isdecimal() and int(stated[:20]) > self.longest:
            raise Refusal(413, f"body: has {int(stated[:20]):,} bytes, expected at most {self.longest:,}")

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Refusal: the body is too long.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self.length += len(message.get("body", b""))
        if self.length > self.longest:
            self.refusal = Refusal(413, f"body: is longer than the {self.longest:,} bytes that it may have here")
            raise self.refusal
        return message

    async def send(self, message: Message) -> None:
        """Hands an answer on, unless the request is refused."""
        if self.refusal is None:
            self.began = True
            await self._send(message)
