"""`/v1/fine_tuning/jobs`: jobs are queued, watched, paused, gone on with, and cancelled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from apps.api.access import Reader, Trainer
from apps.api.files import find_file
from apps.api.job_objects import METHODS, as_checkpoint, as_event, as_job, hyperparameters_of, settings_of
from apps.api.parts import Parts, Shared
from apps.shapes.bodies import JobBody
from apps.shapes.errors import ApiError
from apps.shapes.objects import CheckpointObject, EventObject, JobObject, Page
from apps.shapes.pages import Cursor, Place, cut, page_of
from apps.shapes.server_sent import STREAMED, stream
from configs import InputError
from finetune.runs.job import ENDED, Job

ROUTER = APIRouter(prefix="/fine_tuning/jobs", tags=["Fine-tuning"])
Item = TypeVar("Item", bound=Any)
KINDS = tuple(METHODS.values())
SECONDS_BETWEEN_LOOKS = 0.5
NEEDED = {"sft": "conversations", "dpo": "pairs"}


@ROUTER.post("", response_model=JobObject)
async def create_job(parts: Shared, trainer: Trainer, body: Annotated[JobBody, Body()]) -> JobObject:
    """Queues a job."""
    return await run_in_threadpool(create, parts, trainer, body)


@ROUTER.get("", response_model=Page[JobObject])
def list_jobs(parts: Shared, _reader: Reader, cursor: Cursor) -> Page[JobObject]:
    """The jobs, the newest first."""
    return page_of_jobs(parts, KINDS, cursor, lambda job: as_job(job, parts.jobs))


@ROUTER.get("/{job_id}", response_model=JobObject)
def retrieve_job(parts: Shared, _reader: Reader, job_id: str) -> JobObject:
    """One job."""
    return as_job(find_job(parts, job_id, KINDS), parts.jobs)


@ROUTER.post("/{job_id}/cancel", response_model=JobObject)
def cancel_job(parts: Shared, _trainer: Trainer, job_id: str) -> JobObject:
    """Ends a job for good."""
    find_job(parts, job_id, KINDS)
    return as_job(parts.jobs.cancel(job_id), parts.jobs)


@ROUTER.post("/{job_id}/pause", response_model=JobObject)
def pause_job(parts: Shared, _trainer: Trainer, job_id: str) -> JobObject:
    """Has a job save what it did and give its device back."""
    find_job(parts, job_id, KINDS)
    return as_job(parts.jobs.pause(job_id), parts.jobs)


@ROUTER.post("/{job_id}/resume", response_model=JobObject)
def resume_job(parts: Shared, _trainer: Trainer, job_id: str) -> JobObject:
    """Has a paused, failed or cancelled job go on from its last checkpoint."""
    find_job(parts, job_id, KINDS)
    return as_job(parts.jobs.resume(job_id), parts.jobs)


@ROUTER.get("/{job_id}/events", response_model=Page[EventObject], responses=STREAMED)
async def list_events(
    request: Request,
    parts: Shared,
    _reader: Reader,
    cursor: Cursor,
    job_id: str,
    stream_events: Annotated[bool, Query(alias="stream")] = False,
) -> Page[EventObject] | StreamingResponse:
    """What happened to a job, the newest first; as a stream from the first on, until the job ends."""
    find_job(parts, job_id, KINDS)
    if stream_events:
        return stream(_as_they_happen(request, parts, job_id, cursor.after))
    found = await run_in_threadpool(parts.jobs.events, job_id, cursor.after, cursor.limit + 1, newest_first=True)
    return page_of([as_event(event) for event in found[: cursor.limit]], has_more=len(found) > cursor.limit)


@ROUTER.get("/{job_id}/checkpoints", response_model=Page[CheckpointObject])
def list_checkpoints(parts: Shared, _reader: Reader, cursor: Cursor, job_id: str) -> Page[CheckpointObject]:
    """The checkpoints of a job that are on the disk now, the newest first."""
    job = find_job(parts, job_id, KINDS)
    found = sorted(parts.jobs.checkpoints(job_id), key=lambda one: -one.step)
    return cut([as_checkpoint(job, one) for one in found], cursor)


def page_of_jobs(parts: Parts, kinds: tuple[str, ...], place: Place, show: Callable[[Job], Item]) -> Page[Item]:
    """A part of the list of jobs of some kinds, the newest first, each as `show` has it.

    Raises:
        ApiError: nothing in it has the id that it is to begin after.
    """
    if place.after is not None:
        find_job(parts, place.after, kinds)
    found = [job for job in parts.jobs.list(after=place.after) if job.kind in kinds]
    return page_of([show(job) for job in found[: place.limit]], has_more=len(found) > place.limit)


def find_job(parts: Parts, job_id: str, kinds: tuple[str, ...]) -> Job:
    """The job of this id, where it is of one of the kinds.

    Raises:
        ApiError: there is none.
    """
    try:
        job = parts.jobs.get(job_id)
    except InputError as error:
        raise ApiError(404, str(error), code="job_not_found") from None
    if job.kind not in kinds:
        raise ApiError(
            404, f"{job.id}: is a job of kind {job.kind}, which has a place of its own", code="job_not_found"
        )
    return job


def queue(parts: Parts, kind: str, settings: dict[str, Any], owner: str, name: str, details: dict[str, Any]) -> Job:
    """Puts a job into the queue.

    Raises:
        ApiError: too many wait already.
        InputError: a setting cannot be.
    """
    most = parts.limits.queued_jobs
    waiting = len(parts.jobs.list(states=["queued"], limit=most))
    if waiting >= most:
        raise ApiError(429, f"{waiting} jobs wait already, which is all that may: come again later", retry=60)
    return parts.jobs.add(kind, settings, name=name, owner=owner, details=details)


def create(parts: Parts, trainer: str, body: JobBody, **own: Any) -> JobObject:
    """Queues a job as a request describes it, with settings of the service's `own`.

    Raises:
        ApiError: a file or a setting is not what the method needs.
        InputError: what the entry would refuse of the settings.
    """
    training = find_file(parts, body.training_file, "training_file")
    validation = find_file(parts, body.validation_file, "validation_file") if body.validation_file else None
    base = parts.names.place_of(body.model)
    paths = [None if file is None else str(parts.files.path_of(file).absolute()) for file in (training, validation)]
    kind, settings = settings_of(body, base, str(paths[0]), paths[1])
    for param, file in (("training_file", training), ("validation_file", validation)):
        if file is not None and file.kind != NEEDED[kind]:
            raise ApiError(400, f"{param}: {file.id} holds {file.kind}, expected {NEEDED[kind]}", param=param)
    details = body.model_dump(exclude={"seed", "suffix"}, exclude_none=True)
    details["hyperparameters"] = hyperparameters_of(body).model_dump(exclude={"beta"})
    job = queue(parts, kind, {**settings, **own}, trainer, body.suffix or "", details)
    return as_job(job, parts.jobs)


async def _as_they_happen(
    request: Request, parts: Parts, job_id: str, after: str | None
) -> AsyncIterator[dict[str, Any]]:
    while not await request.is_disconnected():
        ended = (
            await run_in_threadpool(parts.jobs.get, job_id)
        ).state in ENDED  # before: nothing follows its last event
        for event in await run_in_threadpool(parts.jobs.events, job_id, after):
            after = event.id
            yield as_event(event).model_dump()
        if ended:
            return
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
