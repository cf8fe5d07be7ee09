"""What the routes share: the queue, the models, the files, the keys, and how much of each a request may take."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from apps.shapes.figures import Figures
from finetune.runs.job_store import JobStore
from finetune.service.file_store import FileStore
from finetune.service.keys import KeyBook
from finetune.service.model_names import ModelNames
from finetune.serving.model_pool import ModelPool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a client may ask for."""

    reply_tokens: int
    """The most tokens of one reply, and how many it has where the request says nothing."""
    reply_seconds: float
    """How long a reply may take, the wait for its turn included."""
    queued_jobs: int
    """Jobs that may wait."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What stands behind the API."""

    jobs: JobStore
    pool: ModelPool
    files: FileStore
    keys: KeyBook
    names: ModelNames
    limits: Limits
    figures: Figures = field(default_factory=Figures)


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


Shared = Annotated[Parts, Depends(_parts)]
