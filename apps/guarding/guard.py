"""What a request must be before an application sees it: for this server, from its own page, small, of a known shape.

It wraps any ASGI application. What it refuses it answers with a status and a JSON object whose `detail` says why.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs import InputError

READING_METHODS = ("GET", "HEAD", "OPTIONS")
DEFAULT_PORTS = {"http": 80, "https": 443}
LINGERING_SECONDS = 2.0
SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a server lets through."""

    hosts: frozenset[str]
    """Names that the server is asked under, in small letters, without a port; any other may be a rebound DNS name. The
    address that a connection arrived at always counts as one."""
    takes: Mapping[str, Callable[[object], object]]
    """The paths that a request with another method than GET may name, each with the check of its JSON; a path that is
    only read is checked for its query, if it stands here. A check raises `InputError`."""
    closed: tuple[str, ...] = ()
    """Starts of paths that nothing here needs, not even to read."""
    entrances: Mapping[str, Callable[[], AbstractContextManager[None]]] = field(default_factory=dict)
    """The paths of which only so many requests are let in at once; entering raises `Refusal`."""
    body_bytes: int
    """Longest body of a request."""
    body_seconds: float = 30.0
    """How long a body may take to arrive."""
    retry_seconds: int = 10
    """When a request that found the server full should come again."""


class Refusal(Exception):
    """A request that the application does not get to see: the status, and in words why."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Incoming:
    """What arrives of a request, and whether that was all."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.has_ended = False

    async def __call__(self) -> Message:
        """The next message."""
        message = await self._receive()
        self.has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class Guard:
    """An ASGI application behind the rules."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or answers it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        incoming = Incoming(receive)
        with ExitStack() as inside:
            try:
                check_sender(scope, self.rules.hosts)
                if scope["type"] == "http":
                    receive = await self._read(scope, incoming)
                inside.enter_context(self.rules.entrances.get(scope["path"], nullcontext)())
            except Refusal as refusal:
                await _refuse(refusal, scope, incoming, self._with_retry(send))
                return
            await self.app(scope, receive, self._with_retry(send))

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """Reads the whole body and checks it; what hands it to the application.

        Raises:
            Refusal: the path takes nothing, or the body is too long, too slow or of another shape.

        """
        reads = scope["method"] in READING_METHODS
        check = self.rules.takes.get(scope["path"])
        if (not reads and check is None) or scope["path"].startswith(self.rules.closed):
            raise Refusal(404, f"{scope['method']} {_shown(scope['path'])}: is off here, nothing is taken or given")
        try:
            async with asyncio.timeout(self.rules.body_seconds):
                body, left = await read_body(scope, receive, self.rules.body_bytes)
        except TimeoutError:
            raise Refusal(408, f"body: was not whole after {self.rules.body_seconds:g} seconds") from None
        if check is not None and not left:
            content = dict(QueryParams(scope["query_string"])) if reads else read_json(scope, body)
            try:
                check(content)
            except InputError as error:
                raise Refusal(422, str(error)) from None
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        if left:
            messages = [{"type": "http.disconnect"}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay

    def _with_retry(self, send: Send) -> Send:
        async def send_with_retry(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                MutableHeaders(scope=message).setdefault("Retry-After", str(self.rules.retry_seconds))
            await send(message)

        return send_with_retry


def check_sender(scope: Scope, hosts: frozenset[str]) -> None:
    """Refuses a request under a foreign name, and one that another site's page sends.

    A page of another site cannot read what comes back, but could make the models work. One whose name was turned to
    this machine's address (DNS rebinding) could read it too: the browser takes both for one site.

    Raises:
        Refusal: Host or Origin is foreign.
    """
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    name = _place(f"//{host}")[0]
    arrived = (scope.get("server") or ("",))[0]
    if not name or (name not in hosts and name != arrived):
        expected = ", ".join(sorted(hosts))
        raise Refusal(
            403, f"Host: found {_shown(host)}, expected one of {expected}; the server's settings can name others"
        )
    scheme = (origin or "").partition(":")[0]
    if origin is not None and (scheme not in DEFAULT_PORTS or _place(origin) != _place(f"{scheme}://{host}")):
        raise Refusal(403, f"Origin: found {_shown(origin)}, expected this server's own page, at {_shown(host)}")
    reads = scope["type"] == "http" and scope["method"] in READING_METHODS  # a link from elsewhere is one
    if not reads and headers.get("sec-fetch-site") == "cross-site":
        raise Refusal(403, "Sec-Fetch-Site: found cross-site, expected a request of this server's own page")


async def read_body(scope: Scope, receive: Receive, longest: int) -> tuple[bytes, bool]:
    """The body, never more than `longest` bytes of it, and whether the sender left before its end.

    Raises:
        Refusal: it is longer, by its own account or as it arrives.
    """
    stated = Headers(scope=scope).get("content-length", "0")
    if stated.isdecimal() and int(stated[:20]) > longest:
        raise Refusal(413, f"body: has {_shown(stated)} bytes, expected at most {longest:,}")
    parts, length, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"", True
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > longest:
            raise Refusal(413, f"body: is longer than the {longest:,} bytes that a request may have")
        more = message.get("more_body", False)
    return b"".join(parts), False


def read_json(scope: Scope, body: bytes) -> object:
    """What the JSON of a body says.

    Raises:
        Refusal: it is no JSON.
    """
    content_type = Headers(scope=scope).get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, f"Content-Type: found {_shown(content_type) or 'none'}, expected application/json")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"body: is no JSON ({_shown(str(error) or type(error).__name__)})") from None


def _place(url: str) -> tuple[str, int | None]:
    """The name and the port in an address; no name where it cannot be read.

    >>> _place("https://Demo.example"), _place("//[::1]:7860"), _place("//a:b"), _place("//a/b@c")
    (('demo.example', 443), ('::1', 7860), ('', None), ('', None))
    """
    try:
        parts = urlsplit(url)
        if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
            return "", None
        return parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", None


def _shown(text: str) -> str:
    r"""A part of a foreign text for a message.

    >>> _shown("a\n" + 100 * "b")[:4], len(_shown("a\n" + 100 * "b"))
    ('a\\nb', 80)
    """
    return ascii(text)[1:-1][:SHOWN_CHARACTERS]


async def _refuse(refusal: Refusal, scope: Scope, incoming: Incoming, send: Send) -> None:
    """Answers with the words, and ends the connection.

    Most clients read no answer before they have sent all. What still arrives is dropped for a while, so that they
    see the words rather than a connection that broke.
    """
    response = JSONResponse({"detail": str(refusal)}, refusal.status, headers={"Connection": "close"})
    if scope["type"] == "websocket":
        if "websocket.http.response" in (scope.get("extensions") or {}):
            await response(scope, incoming, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)})
        return
    await send({"type": "http.response.start", "status": refusal.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    try:
        async with asyncio.timeout(LINGERING_SECONDS):
            while not incoming.has_ended:
                await incoming()
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})
