"""The application: every route, under `/v1` what OpenAI has there, and its document at `/openapi.json`."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from apps.api import chat, completions, files, health, jobs, models, tasks
from apps.api.parts import Parts
from apps.shapes import errors
from apps.shapes.objects import ErrorObject

TITLE = "Graft"
SUMMARY = "Fine-tuning jobs, extensions of vocabularies and replies, in the shapes of OpenAI's API."
REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorObject, "description": "Refused, and why."},
    "5XX": {"model": ErrorObject, "description": "Not answered, and why."},
}
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build(parts: Parts, lifespan: Lifespan | None = None) -> FastAPI:
    """The application over these parts."""
    app = FastAPI(
        title=TITLE, summary=SUMMARY, version="1", lifespan=lifespan, docs_url=None, redoc_url=None, responses=REFUSED
    )
    app.state.parts = parts
    errors.install(app)
    for module in (chat, completions, files, jobs, models, tasks):
        app.include_router(module.ROUTER, prefix="/v1")
    app.include_router(health.ROUTER)
    return app
