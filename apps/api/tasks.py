"""`/v1/vocabulary/extensions` and `/v1/comparisons`: what OpenAI does not have, in the manner of its jobs."""

import json
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from apps.api.access import Reader, Trainer
from apps.api.files import find_file
from apps.api.job_objects import as_task, further
from apps.api.jobs import find_job, page_of_jobs, queue
from apps.api.parts import Parts, Shared
from apps.shapes.bodies import ComparisonBody, ExtensionBody
from apps.shapes.errors import ApiError
from apps.shapes.objects import Page, TaskObject
from apps.shapes.pages import Cursor
from configs.disk_space import bytes_beneath, check_space
from finetune.runs.job import Job

ROUTER = APIRouter()
EXTENSION, COMPARISON = "vocabulary.extension", "comparison"
KIND_OF = {EXTENSION: "extend", COMPARISON: "compare"}
OF_EXTENSIONS = {
    "base": "model",
    "corpus": "training_file",
    "held_out": "held_out_file",
    "protect": "protect_file",
    "new_tokens": "new_tokens",
    "dry_run": "dry_run",
}
OF_COMPARISONS = {"base": "base", "tuned": "model", "data": "data_file"}
LINES = Query(ge=1, le=10_000)


@ROUTER.post("/vocabulary/extensions", response_model=TaskObject, tags=["Vocabulary"])
def create_extension(parts: Shared, trainer: Trainer, body: Annotated[ExtensionBody, Body()]) -> TaskObject:
    """Queues the extension of a model's vocabulary by tokens learned from an uploaded text."""
    files = {
        name: _path(parts, file_id, f"{param}", ("text",))
        for name, param, file_id in (
            ("corpus", "training_file", body.training_file),
            ("held_out", "held_out_file", body.held_out_file),
            ("protect", "protect_file", body.protect_file),
        )
        if file_id is not None
    }
    settings = {
        "base": parts.names.place_of(body.model),
        **files,
        "new_tokens": body.new_tokens,
        **({"dry_run": True} if body.dry_run else {}),
        **further(body.settings, OF_EXTENSIONS),
    }
    return _queue(parts, EXTENSION, settings, trainer, body.model_dump(exclude_none=True))


@ROUTER.get("/vocabulary/extensions", response_model=Page[TaskObject], tags=["Vocabulary"])
def list_extensions(parts: Shared, _reader: Reader, cursor: Cursor) -> Page[TaskObject]:
    """The extensions, the newest first."""
    return page_of_jobs(parts, ("extend",), cursor, lambda job: as_task(job, EXTENSION))


@ROUTER.get("/vocabulary/extensions/{task_id}", response_model=TaskObject, tags=["Vocabulary"])
def retrieve_extension(parts: Shared, _reader: Reader, task_id: str) -> TaskObject:
    """One extension."""
    return as_task(find_job(parts, task_id, ("extend",)), EXTENSION)


@ROUTER.post("/vocabulary/extensions/{task_id}/cancel", response_model=TaskObject, tags=["Vocabulary"])
def cancel_extension(parts: Shared, _trainer: Trainer, task_id: str) -> TaskObject:
    """Ends one."""
    find_job(parts, task_id, ("extend",))
    return as_task(parts.jobs.cancel(task_id), EXTENSION)


@ROUTER.get("/vocabulary/extensions/{task_id}/plan", tags=["Vocabulary"])
def retrieve_plan(
    parts: Shared, _reader: Reader, task_id: str, last_lines: Annotated[int, LINES] = 1_000
) -> dict[str, list[str]]:
    """What the extension printed: what it adds, what that is worth, and with `dry_run` nothing more than that."""
    find_job(parts, task_id, ("extend",))
    return {"lines": parts.jobs.log(task_id, last_lines)}


@ROUTER.get("/vocabulary/extensions/{task_id}/certificate", tags=["Vocabulary"])
def retrieve_certificate(parts: Shared, _reader: Reader, task_id: str) -> dict[str, Any]:
    """What did not move, proved on the saved folder."""
    job = _finished(parts, task_id, "extend")
    return _read(job.output_dir / "certificate.json")


@ROUTER.get("/vocabulary/extensions/{task_id}/download", response_class=FileResponse, tags=["Vocabulary"])
async def download_extension(parts: Shared, _trainer: Trainer, task_id: str) -> FileResponse:
    """The extended model as a tar archive of its folder."""
    job = await run_in_threadpool(_finished, parts, task_id, "extend")
    archive = await run_in_threadpool(_archive, job, parts.jobs.folder)
    remove = BackgroundTask(archive.unlink, missing_ok=True)
    return FileResponse(archive, media_type="application/x-tar", filename=f"{job.id}.tar", background=remove)


@ROUTER.post("/comparisons", response_model=TaskObject, tags=["Comparisons"])
def create_comparison(parts: Shared, trainer: Trainer, body: Annotated[ComparisonBody, Body()]) -> TaskObject:
    """Queues the measuring of two models over questions with known replies, or multiple choice."""
    settings = {
        "base": parts.names.place_of(body.base),
        "tuned": parts.names.place_of(body.model),
        "data": _path(parts, body.data_file, "data_file", ("conversations", "choices")),
        **further(body.settings, OF_COMPARISONS),
    }
    return _queue(parts, COMPARISON, settings, trainer, body.model_dump(exclude_none=True))


@ROUTER.get("/comparisons", response_model=Page[TaskObject], tags=["Comparisons"])
def list_comparisons(parts: Shared, _reader: Reader, cursor: Cursor) -> Page[TaskObject]:
    """The comparisons, the newest first."""
    return page_of_jobs(parts, ("compare",), cursor, lambda job: as_task(job, COMPARISON))


@ROUTER.get("/comparisons/{task_id}", response_model=TaskObject, tags=["Comparisons"])
def retrieve_comparison(parts: Shared, _reader: Reader, task_id: str) -> TaskObject:
    """One comparison."""
    return as_task(find_job(parts, task_id, ("compare",)), COMPARISON)


@ROUTER.post("/comparisons/{task_id}/cancel", response_model=TaskObject, tags=["Comparisons"])
def cancel_comparison(parts: Shared, _trainer: Trainer, task_id: str) -> TaskObject:
    """Ends one."""
    find_job(parts, task_id, ("compare",))
    return as_task(parts.jobs.cancel(task_id), COMPARISON)


@ROUTER.get("/comparisons/{task_id}/result", tags=["Comparisons"])
def retrieve_result(parts: Shared, _reader: Reader, task_id: str) -> dict[str, Any]:
    """The figures of both with their intervals, and every question with both replies."""
    return _read(_finished(parts, task_id, "compare").output_dir / "comparison.json")


def _queue(parts: Parts, what: str, settings: dict[str, Any], owner: str, details: dict[str, Any]) -> TaskObject:
    return as_task(queue(parts, KIND_OF[what], settings, owner, "", details), what)


def _path(parts: Parts, file_id: str, param: str, kinds: tuple[str, ...]) -> str:
    file = find_file(parts, file_id, param)
    if file.kind not in kinds:
        raise ApiError(400, f"{param}: {file.id} holds {file.kind}, expected {' or '.join(kinds)}", param=param)
    return str(parts.files.path_of(file).absolute())


def _finished(parts: Parts, task_id: str, kind: str) -> Job:
    job = find_job(parts, task_id, (kind,))
    if job.state != "succeeded" or job.settings.get("dry_run"):
        found = "was only planned" if job.settings.get("dry_run") else f"is {job.state}"
        raise ApiError(400, f"{job.id}: {found}, expected one that succeeded")
    return job


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _archive(job: Job, folder: Path) -> Path:
    """The folder that a job left, in one file."""
    check_space(folder, bytes_beneath(job.output_dir))
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".download-", suffix=".tar", delete=False) as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(job.output_dir, arcname=job.id)
        return Path(file.name)
