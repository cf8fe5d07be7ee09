"""One tab of the studio on a page of its own, over tiny models, in a browser."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from apps.service_server import make_parts
from apps.service_settings import ServiceSettings
from apps.showing.look import CSS, theme
from apps.showing.studio_parts import StudioParts
from finetune.runs.worker import Worker, find_devices
from tests.apps.served import free_port


@dataclass
class Visit:
    """An open page, and what it reported."""

    page: Any
    studio: StudioParts
    errors: list[str] = field(default_factory=list)


@contextmanager
def opened(build: Callable[[StudioParts], None], folder: Path, models: list[str], browser: Any) -> Iterator[Visit]:
    """The tab in a browser; `models` are NAME=FOLDER, the base first and then the assistant. Jobs run."""
    settings = ServiceSettings(folder=str(folder / "service"), runs=str(folder / "runs"), models=models)
    parts = make_parts(settings)
    base, assistant = list(settings.named)[:2]
    studio = StudioParts(parts=parts, base=base, assistant=assistant, folder=folder / "service")
    worker = Worker(parts.jobs, devices=find_devices("local"), launcher="local")
    worker.start()
    with gr.Blocks(analytics_enabled=False) as page:
        build(studio)
    _, address, _ = page.launch(
        server_port=free_port(), css=CSS, theme=theme(), prevent_thread_lock=True, quiet=True, footer_links=[]
    )
    try:
        visit = Visit(browser.new_page(viewport={"width": 1280, "height": 900}), studio)
        visit.page.set_default_timeout(60_000)
        visit.page.on("console", lambda message: visit.errors.extend([message.text] * (message.type == "error")))
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.goto(address)
        yield visit
        visit.page.close()
    finally:
        page.close()
        worker.stop()
        parts.pool.close()
