"""Whether the service lives, whether it takes requests, and its figures."""

from dataclasses import asdict

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from apps.api.access import Reader
from apps.api.parts import Shared

ROUTER = APIRouter(tags=["Health"])


@ROUTER.get("/healthz")
async def is_alive() -> dict[str, str]:
    """Answers as long as the process does."""
    return {"status": "ok"}


@ROUTER.get("/readyz")
def is_ready(parts: Shared) -> JSONResponse:
    """Whether requests are taken; models that are still being read are named and hold nobody up but who asks them."""
    pool = asdict(parts.pool.state()) if parts.models.done() else {"models": "being read", "batches": []}
    return JSONResponse({"status": "ok", **pool, "queued_jobs": len(parts.jobs.list(states=["queued"]))})


@ROUTER.get("/metrics", response_class=Response)
def figures(parts: Shared, _reader: Reader) -> Response:
    """Prometheus' text format."""
    return Response(parts.figures.as_text(), media_type=CONTENT_TYPE_LATEST)
