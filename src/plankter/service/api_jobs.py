"""Jobs: begin, watch, cancel, begin again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from plankter.service.api_predict import PROBLEMS
from plankter.service.api_shapes import JobAnswer, JobPage, NewJob, ProgressShape
from plankter.service.jobs import DONE, JobFolder
from plankter.service.state import Service
from plankter.service.submit import submit

router = APIRouter(prefix="/jobs", tags=["jobs"])
LOOK_EVERY_S = 0.4
ALIVE_EVERY = 40  # looks between two signs of life, so that no proxy takes the line for dead


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def job_object(folder: JobFolder, *, result: bool) -> JobAnswer:
    """A job with its progress, and its result where asked."""
    job, progress = folder.read(), folder.progress()
    shown = ProgressShape(**asdict(progress)) if progress and not job.ended else None
    return JobAnswer(**asdict(job), progress=shown, result=folder.result() if result and job.state == DONE else None)


@router.post("", status_code=202, responses={409: PROBLEMS[404], **PROBLEMS})
def create(request: Request, body: NewJob) -> JobAnswer:
    """Puts a job into the queue; it is on the disk when this answers. Its arguments by kind:
    `analyse` and `try` (upload, model, sample), `ingest` (upload), `classify` (runs, model), `inspect` (upload or imported),
    `train` (upload or imported, config, table, estimate_only), `evaluate` (upload, model, against, keep), `register` (model),
    `compare` (first, second: ids of evaluations, `.against` behind one for its other model), `drift` (model),
    `transform` (upload, like, like_upload, copies, balance, um_per_px, like_um_per_px, keep_jpeg, seed), `export` (format). Where the server
    allows it, `folder` (a path on it) or `remote` (address, endpoint, region, user, password) stands for an upload. What
    `try` finds, and `evaluate` with `keep` false, is removed an hour after it has ended, with its upload."""
    service = _service(request)
    job = submit(service, body.kind, body.title, body.arguments)
    return job_object(service.jobs.folder(job.id), result=False)


@router.get("", responses=PROBLEMS)
def listed(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=40, description="`next` of the page before")] = None,
) -> JobPage:
    """Jobs, the newest first."""
    service = _service(request)
    jobs = [job for job in service.jobs.all() if cursor is None or job.id < cursor]
    page = jobs[:limit]
    following = page[-1].id if len(jobs) > limit else None
    return JobPage(jobs=[job_object(service.jobs.folder(job.id), result=False) for job in page], next=following)


@router.get("/{job_id}", responses=PROBLEMS)
def show(request: Request, job_id: str) -> JobAnswer:
    """One job, with its result where it has ended well."""
    return job_object(_service(request).jobs.folder(job_id), result=True)


@router.get("/{job_id}/log", responses=PROBLEMS, response_class=PlainTextResponse)
def log(request: Request, job_id: str) -> PlainTextResponse:
    """The end of its log."""
    return PlainTextResponse(_service(request).jobs.folder(job_id).log_tail())


@router.post("/{job_id}/cancel", status_code=202, responses=PROBLEMS)
def cancel(request: Request, job_id: str) -> JobAnswer:
    """Asks a job to stop."""
    service = _service(request)
    service.runner.cancel(job_id)
    return job_object(service.jobs.folder(job_id), result=False)


@router.post("/{job_id}/retry", status_code=202, responses={409: PROBLEMS[404], **PROBLEMS})
def retry(request: Request, job_id: str) -> JobAnswer:
    """Begins a job again that failed or was cancelled; what it had finished is kept."""
    service = _service(request)
    service.runner.retry(job_id)
    return job_object(service.jobs.folder(job_id), result=False)


@router.delete("/{job_id}", status_code=204, responses={409: PROBLEMS[404], **PROBLEMS})
def remove(request: Request, job_id: str) -> None:
    """Removes a job that has ended, with the files that it made."""
    _service(request).try_runs.remove(job_id)


@router.get("/{job_id}/events", responses=PROBLEMS, response_class=StreamingResponse)
async def events(request: Request, job_id: str) -> StreamingResponse:
    """Server-sent events: an event `job` with the job as JSON each time that something changes, until it has ended."""
    folder = _service(request).jobs.folder(job_id)

    async def told() -> AsyncIterator[str]:
        last: dict[str, Any] | None = None
        quiet = 0
        while not await request.is_disconnected():
            found = await asyncio.to_thread(job_object, folder, result=False)
            facts = found.model_dump()
            quiet += 1
            if facts != last:
                last, quiet = facts, 0
                yield f"event: job\ndata: {json.dumps(facts)}\n\n"
            elif quiet % ALIVE_EVERY == 0:
                yield ": alive\n\n"
            if found.state in ("done", "failed", "cancelled"):
                return
            await asyncio.sleep(LOOK_EVERY_S)

    return StreamingResponse(told(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})
