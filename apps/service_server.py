"""The service's process: its parts put together, listened to, and ended in order.

It listens before the libraries of the models are read, which take longest.
"""

import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from apps.api.application import build
from apps.api.parts import Limits, Parts
from apps.guarding import service_log
from apps.guarding.hosts import hosts_of
from apps.guarding.service_guard import ServiceGuard, ServiceRules
from apps.service_settings import ServiceSettings
from apps.showing.studio_parts import StudioParts
from apps.studio_page import StudioPage
from finetune.runs.job_store import JobStore
from finetune.runs.worker import Worker, find_devices
from finetune.service.file_store import FileStore
from finetune.service.keys import KeyBook
from finetune.service.model_names import ModelNames

if TYPE_CHECKING:
    from apps.studio_models import Chosen
    from finetune.serving.model_pool import ModelPool

BODY_BYTES = 4_000_000
FORM_BYTES = 10_000
"""What the form around an upload may take."""
SECONDS_TO_END = 20


def run_server(settings: ServiceSettings, chosen: "Chosen | None" = None) -> None:
    """Serves until SIGTERM or Ctrl-C; requests under way get their end, jobs go on by themselves.

    With models `chosen` for it, the studio's page is served too.
    """
    page_is_made = threading.Event() if chosen else None
    parts = make_parts(settings, page_is_made)
    for number in (signal.SIGTERM, signal.SIGINT):  # the server hears them, and raises them once more when it has ended
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(
        uvicorn.Config(
            guarded(parts, settings, (chosen, page_is_made) if chosen and page_is_made else None),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SECONDS_TO_END,
            h11_max_incomplete_event_size=64_000,
        )
    )
    address = f"http://{settings.host}:{settings.port}"
    if chosen is not None:
        print(f"Studio: {address}/", flush=True)
    print(f"Service: {address}/v1  (Ctrl+C ends it; jobs go on)", flush=True)
    server.run()
    print("Ended in order; what trains goes on by itself, and is found again at the next start.", flush=True)


def make_parts(settings: ServiceSettings, after: threading.Event | None = None) -> Parts:
    """The parts of a service as its settings ask for them; the models are read meanwhile, or once `after` is set."""
    folder = Path(settings.folder)
    jobs = JobStore(folder)
    return Parts(
        jobs=jobs,
        models=ThreadPoolExecutor(1, thread_name_prefix="libraries").submit(open_models, settings, after),
        files=FileStore(folder / "files", settings.upload_bytes),
        keys=KeyBook(folder),
        names=ModelNames(settings.named, Path(settings.runs), jobs),
        limits=Limits(
            reply_tokens=settings.reply_tokens,
            reply_seconds=settings.reply_seconds,
            queued_jobs=settings.queued_jobs,
            requests_of_a_model=settings.rows + settings.waiting,
        ),
    )


def open_models(settings: ServiceSettings, after: threading.Event | None = None) -> "ModelPool":
    """The models, those that are named on their way into memory; reads the libraries that take seconds."""
    if after is not None:
        after.wait()
    from finetune.serving.model_pool import ModelPool
    from finetune.serving.request_queue import BatchLimits
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    limits = BatchLimits(rows=settings.rows, waiting=settings.waiting)
    named = list(settings.named.values())
    pool = ModelPool(limits=limits, idle_seconds=60 * settings.idle_minutes, kept=named)
    for place in named:
        pool.open(place)
    return pool


def guarded(parts: Parts, settings: ServiceSettings, shown: "tuple[Chosen, threading.Event] | None" = None) -> ASGIApp:
    """The whole application: logged, guarded, with a worker that lives as long as it does, and the page if any."""
    devices, url = find_devices(settings.launcher), settings.callback_url
    worker = Worker(parts.jobs, devices=devices, launcher=settings.launcher, callback_url=url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service_log.install()
        worker.start()
        try:
            async with page.made() if page else nullcontext():
                yield
        finally:
            worker.stop()
            (await run_in_threadpool(lambda: parts.pool)).close()

    rules = ServiceRules(
        hosts=hosts_of(settings.host, settings.other_names),
        body_bytes=BODY_BYTES,
        longer={"/v1/files": settings.upload_bytes + FORM_BYTES},
    )
    service = service_log.Logged(ServiceGuard(build(parts, lifespan), rules), parts.figures)
    page = studio_page(service, parts, settings, *shown) if shown else None
    return page or service


def studio_page(
    service: ASGIApp, parts: Parts, settings: ServiceSettings, chosen: "Chosen", is_made: threading.Event
) -> StudioPage:
    """The studio over the same parts, beside the service."""
    studio = StudioParts(
        parts=parts,
        base=chosen.base,
        assistant=chosen.assistant,
        folder=Path(settings.folder),
        servers=chosen.servers,
        examples=chosen.examples,
        calculator=chosen.calculator,
    )
    return StudioPage(service, studio, settings, is_made)
