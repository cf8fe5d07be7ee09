"""What the routes share: the queue, the models, the files, the keys, and how much of each a request may take."""

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from apps.shapes.figures import Figures
from finetune.runs.job_store import JobStore
from finetune.service.file_store import FileStore
from finetune.service.keys import KeyBook
from finetune.service.model_names import ModelNames

if TYPE_CHECKING:
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
    requests_of_a_model: int
    """Requests of one model that may be under way or wait; more are refused before they cost anything."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What stands behind the API."""

    jobs: JobStore
    models: "Future[ModelPool]"
    """The models; the libraries that they need are read while the first requests are answered already."""
    files: FileStore
    keys: KeyBook
    names: ModelNames
    limits: Limits
    figures: Figures = field(default_factory=Figures)
    under_way: Counter[str] = field(default_factory=Counter)
    """Requests by the place of their model; only the event loop counts them."""

    @property
    def pool(self) -> "ModelPool":
        """The models, once they are there; waits for that, so not for an event loop.

        Raises:
            InputError: they cannot be.
        """
        return self.models.result()


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


Shared = Annotated[Parts, Depends(_parts)]
