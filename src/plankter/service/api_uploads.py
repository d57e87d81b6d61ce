"""Uploads: files in pieces, as raw bodies, gone on with where they were cut."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from plankter._errors import Conflict
from plankter.service.api_predict import PROBLEMS
from plankter.service.api_shapes import FileAnswer, NewUpload, UploadAnswer
from plankter.service.state import Service

router = APIRouter(prefix="/uploads", tags=["uploads"])


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


@router.post("", status_code=201, responses=PROBLEMS)
def create(request: Request, body: NewUpload | None = None) -> UploadAnswer:
    """A new upload, empty."""
    upload = _service(request).uploads.create((body or NewUpload()).purpose)
    return UploadAnswer(id=upload.id, files={}, missing=[])


@router.get("/{upload_id}", responses=PROBLEMS)
def show(request: Request, upload_id: str) -> UploadAnswer:
    """What of an upload is here: whoever was cut off goes on from there."""
    upload = _service(request).uploads.get(upload_id)
    return UploadAnswer(id=upload.id, files=upload.sizes(), missing=upload.missing())


_BODY: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.put("/{upload_id}/files/{name:path}", responses={409: PROBLEMS[404], **PROBLEMS}, openapi_extra=_BODY)
async def put(
    request: Request,
    upload_id: str,
    name: str,
    offset: Annotated[
        int, Query(ge=0, le=2**53, description="where the piece begins: bytes that are here already")
    ] = 0,
    size: Annotated[int | None, Query(ge=0, le=2**53, description="bytes of the whole file")] = None,
) -> FileAnswer:
    """Appends the body to a file. Where `offset` is not what is here, 409 tells `size`: go on from there."""
    here = await _service(request).uploads.put(upload_id, name, offset, size, request.stream())
    return FileAnswer(name=name, size=here)


@router.delete("/{upload_id}", status_code=204, responses=PROBLEMS)
def remove(request: Request, upload_id: str) -> None:
    """Removes an upload that no job needs any more."""
    service = _service(request)
    for job in service.jobs.all():
        if not job.ended and upload_id in (job.arguments.get("upload"), job.arguments.get("like_upload")):
            raise Conflict("a job needs the upload", hint=f"cancel job {job.id} first")
    service.uploads.remove(upload_id)
