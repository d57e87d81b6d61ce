"""Jobs as pages: all of them, and one while it runs and after."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, Response, StreamingResponse

from plankter._errors import NotFound
from plankter.service.job_kinds import KINDS
from plankter.service.jobs import DONE, JobFolder
from plankter.service.pages import service_of
from plankter.service.submit import submit
from plankter.service.words import lasted
from plankter.workflow.evaluation_images import IMAGES

router = APIRouter()
SHOWN = 100


@router.get("/jobs", response_class=HTMLResponse)
def jobs(request: Request) -> HTMLResponse:
    """All jobs; the table alone where htmx asks for it."""
    service = service_of(request)
    template = "_jobs.html.j2" if request.headers.get("HX-Target") == "jobs" else "jobs.html.j2"
    return service.page(request, template, jobs=service.jobs.recent(SHOWN), kinds=KINDS, lasted=lasted)


@router.get("/jobs/{job_id}", response_class=HTMLResponse)
def job(request: Request, job_id: str) -> HTMLResponse:
    """One job: progress, curves, log; what came of it."""
    service = service_of(request)
    folder = service.jobs.folder(job_id)
    found = folder.read()
    template = "_job.html.j2" if request.headers.get("HX-Target") == "job" else "job.html.j2"
    return service.page(
        request, template, job=found, progress=folder.progress(), log=folder.log_tail(), kinds=KINDS, lasted=lasted,
        result=folder.result() if found.state == DONE else None, curves=curves_of(folder) if found.kind == "train" else None,
        evaluated=(folder.folder / IMAGES).is_file(),
    )  # fmt: skip


def curves_of(folder: JobFolder) -> dict[str, Any] | None:
    """Loss and accuracy by epoch as points of two small pictures; None while there are fewer than two epochs."""
    paths = sorted(folder.folder.glob("training/*/curves.csv"))
    if not paths:
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(paths[-1].read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, ValueError, csv.Error):
        return None
    found = {}
    for column in ("loss", "top1"):
        points = [(n, float(row[column])) for n, row in enumerate(rows, 1) if row.get(column)]
        if len(points) > 1:
            found[column] = _line(points)
    return {"epochs": len(rows), "lines": found} if found else None


def _line(points: list[tuple[int, float]]) -> dict[str, Any]:
    """Points in a field of 300 x 100, and what the field stands for."""
    values = [value for _, value in points]
    low, high = min(values), max(values)
    span, last = (high - low) or 1.0, points[-1][0] - points[0][0]
    path = " ".join(
        f"{300 * (n - points[0][0]) / last:.1f},{100 - 100 * (value - low) / span:.1f}" for n, value in points
    )
    return {"points": path, "low": low, "high": high, "last": values[-1]}


def _file(request: Request, job_id: str, name: str) -> Path:
    path = service_of(request).jobs.folder(job_id).folder / name
    if not path.is_file():
        raise NotFound("this job has no such file")
    return path


@router.get("/jobs/{job_id}/preview")
def preview(request: Request, job_id: str) -> FileResponse:
    """The picture before and after of a transformation."""
    return FileResponse(_file(request, job_id, "set/preview.png"), media_type="image/png")


@router.get("/jobs/{job_id}/files.zip")
def files(request: Request, job_id: str) -> Response:
    """The files of a transformation or an export as one zip, made while it is sent."""
    import zipfile
    from collections.abc import Iterator

    from plankter.service.pages_analyse import _Pieces

    folder = service_of(request).jobs.folder(job_id).folder
    root = next((folder / name for name in ("set", "export") if (folder / name).is_dir()), None)
    if root is None:
        raise NotFound("this job has no files to take away")

    def parts() -> Iterator[bytes]:
        pieces = _Pieces()
        with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as out:
            for path in sorted(p for p in root.rglob("*") if p.is_file()):
                out.write(path, path.relative_to(root).as_posix())
                if part := pieces.taken():
                    yield part
        yield pieces.taken()

    headers = {"content-disposition": f'attachment; filename="{job_id}.zip"'}
    return StreamingResponse(parts(), media_type="application/zip", headers=headers)


@router.post("/models/{name}/register")
async def register(request: Request, name: str) -> Response:
    """A job that puts a model into the MLflow registry."""
    service = service_of(request)
    known = await asyncio.to_thread(service.models)
    shown = next((model["name"] for model in known if name in (model["model_id"], model["name"])), name)
    found = await asyncio.to_thread(submit, service, "register", f"{shown} into MLflow", {"model": name})
    return Response(headers={"HX-Redirect": f"/jobs/{found.id}"})


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, job_id: str) -> Response:
    """Asks the job to stop."""
    service_of(request).runner.cancel(job_id)
    return Response(headers={"HX-Refresh": "true"})


@router.post("/jobs/{job_id}/retry")
def retry(request: Request, job_id: str) -> Response:
    """Begins the job again."""
    service_of(request).runner.retry(job_id)
    return Response(headers={"HX-Refresh": "true"})


@router.post("/jobs/{job_id}/remove")
def remove(request: Request, job_id: str) -> Response:
    """Removes the job and what it made."""
    service_of(request).try_runs.remove(job_id)
    return Response(headers={"HX-Redirect": "/jobs"})
