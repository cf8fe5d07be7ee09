"""The studio's page as a part of the service's process: behind a guard of its own, and made while the API listens.

Until it is made, which takes as long as its library is read, whoever opens it finds a page that says so and looks
again.
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from apps.guarding.guard import Guard, Rules
from apps.guarding.hosts import hosts_of
from apps.service_settings import ServiceSettings
from apps.shapes.errors import LOG

if TYPE_CHECKING:
    from apps.api.parts import Parts
    from apps.showing.studio_parts import StudioParts

LONGEST_BODY = 4_000_000
OF_THE_SERVICE = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")
HEARTBEAT = "/gradio_api/heartbeat/"
"""A stream that each open page would hold for as long as it is open, of the six connections that a browser has for one
server: the seventh tab would never open. 204 has the browser ask no more (https://html.spec.whatwg.org/multipage/
server-sent-events.html#processing-model); a page that is closed ends its replies by the stream that carries them."""
STARTING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<meta name="viewport" content="width=device-width"><title>Graft studio</title>
<style>body{font:1rem system-ui;margin:20vh auto;max-width:30rem;padding:1rem;color-scheme:light dark}</style></head>
<body><h1>Graft studio</h1><p role="status">The page is being made; it opens by itself in a few seconds.</p></body>
</html>"""


class StudioPage:
    """The page behind its guard, once it is made; the service beside it answers from the first moment."""

    def __init__(
        self, service: ASGIApp, studio: "StudioParts", settings: ServiceSettings, is_made: threading.Event
    ) -> None:
        """Takes the service beside it, and what is set once the page is made: until then the models wait."""
        self.service, self.studio, self.settings, self.is_made = service, studio, settings, is_made
        self.page: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands what is the service's to the service, and all else to the page."""
        if scope["type"] == "lifespan" or scope["path"].startswith(OF_THE_SERVICE):
            await self.service(scope, receive, send)
        elif scope["path"].startswith(HEARTBEAT):
            await Response(status_code=204)(scope, receive, send)
        elif self.page is not None:
            await self.page(scope, receive, send)
        else:
            await HTMLResponse(STARTING, 503, {"Retry-After": "1"})(scope, receive, send)

    @asynccontextmanager
    async def made(self) -> AsyncIterator[None]:
        """The page is made meanwhile, and ended at the end."""
        async with AsyncExitStack() as stack:
            making = asyncio.create_task(self._make(stack))
            try:
                yield
            finally:
                making.cancel()
                await asyncio.wait([making])

    async def _make(self, stack: AsyncExitStack) -> None:
        try:
            app, rules = await run_in_threadpool(mounted, self.studio, self.settings)
            await stack.enter_async_context(app.router.lifespan_context(app))
            self.page = Guard(app, rules)
        except Exception:
            LOG.exception("the studio's page could not be made")
            raise
        finally:
            self.is_made.set()


def mounted(studio: "StudioParts", settings: ServiceSettings) -> tuple[FastAPI, Rules]:
    """The page as an application, and what its guard lets through."""
    with _no_stubs():
        import gradio as gr
    from apps.guarding.queue_requests import CLOSED, checks_of, entrances_of
    from apps.showing.light_blocks import lighten
    from apps.showing.look import CSS, theme
    from apps.tabs.page import WAITING_REQUESTS, build_page

    page = build_page(studio)
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,
        auth=_login(studio.parts),
        auth_message="Any name, and a key of this service as the password.",
        theme=theme(),
        css=CSS,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
    )
    lighten(app, page)
    hosts = hosts_of(settings.host, settings.other_names)
    rules = Rules(
        hosts=hosts,
        takes=checks_of(page),
        closed=CLOSED,
        entrances=entrances_of(page, WAITING_REQUESTS),
        body_bytes=LONGEST_BODY,
    )
    return app, rules


@contextmanager
def _no_stubs() -> Iterator[None]:
    """Gradio writes a stub beside each of its components while it is imported; it does not for what has no file.

    Parsing them takes 2.7 of the 6.3 seconds of its import, and a read-only installation has no place for them.
    https://github.com/gradio-app/gradio/blob/main/gradio/component_meta.py, create_or_modify_pyi
    """
    found = inspect.getfile

    def getfile(what: object) -> str:
        if isinstance(what, type) and what.__module__.startswith("gradio."):
            raise OSError("no stubs")
        return found(what)  # type: ignore[arg-type]

    inspect.getfile = getfile  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = found


def _login(parts: "Parts"):  # type: ignore[no-untyped-def]
    """Who may open the page: everybody of this machine where there are no keys, else whoever has one that may train."""
    if not parts.keys.all():
        return None
    return lambda _name, secret: (key := parts.keys.find(secret)) is not None and key.may == "train"
