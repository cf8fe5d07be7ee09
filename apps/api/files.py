"""`/v1/files`: uploads, read through by the reader of every run before they count, and given back."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from apps.api.access import Reader, Trainer
from apps.api.parts import Shared
from apps.shapes.errors import ApiError
from apps.shapes.objects import Deleted, FileObject, Page
from apps.shapes.pages import Cursor, cut
from configs import InputError
from finetune.service.file_store import StoredFile

ROUTER = APIRouter(prefix="/files", tags=["Files"])
PART = 1 << 20
Purpose = Literal["fine-tune", "user_data", "evals"]


@ROUTER.post("", response_model=FileObject)
async def create_file(
    parts: Shared, _trainer: Trainer, file: Annotated[UploadFile, File()], purpose: Annotated[Purpose, Form()]
) -> FileObject:
    """Takes a file of conversations, pairs, multiple choice (.jsonl, .json, .csv, .tsv) or text (.txt)."""
    received = await parts.files.receive(file.filename or "", _parts_of(file))
    return as_object(await run_in_threadpool(received.keep, purpose))


@ROUTER.get("", response_model=Page[FileObject])
async def list_files(
    parts: Shared,
    _reader: Reader,
    cursor: Cursor,
    purpose: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> Page[FileObject]:
    """The files, the newest first."""
    found = [file for file in await run_in_threadpool(parts.files.all) if purpose in (None, file.purpose)]
    return cut([as_object(file) for file in (found if order == "desc" else reversed(found))], cursor)


@ROUTER.get("/{file_id}", response_model=FileObject)
async def retrieve_file(parts: Shared, _reader: Reader, file_id: str) -> FileObject:
    """One file."""
    return as_object(find_file(parts, file_id))


@ROUTER.get("/{file_id}/content", response_class=FileResponse)
async def retrieve_file_content(parts: Shared, _trainer: Trainer, file_id: str) -> FileResponse:
    """What a file holds, as it came."""
    file = find_file(parts, file_id)
    # A type that no browser shows or runs, whatever the file says.
    return FileResponse(parts.files.path_of(file), media_type="application/octet-stream", filename=file.id)


@ROUTER.delete("/{file_id}", response_model=Deleted)
async def delete_file(parts: Shared, _trainer: Trainer, file_id: str) -> Deleted:
    """Removes a file; a job that has not begun to read it fails."""
    find_file(parts, file_id)
    await run_in_threadpool(parts.files.delete, file_id)
    return Deleted(id=file_id, object="file")


def find_file(parts: Shared, file_id: str, param: str | None = None) -> StoredFile:
    """The file of this id.

    Raises:
        ApiError: there is none.
    """
    try:
        return parts.files.get(file_id)
    except InputError as error:
        # In a path it is a place that is not there, in a body a value that cannot be used.
        raise ApiError(400 if param else 404, str(error), code="file_not_found", param=param) from None


def as_object(file: StoredFile) -> FileObject:
    """A file as the API shows it."""
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=file.created_at,
        filename=file.name,
        purpose=file.purpose,
        kind=file.kind,
        records=file.records,
        sha256=file.sha256,
    )


async def _parts_of(file: UploadFile) -> AsyncIterator[bytes]:
    while part := await file.read(PART):
        yield part
