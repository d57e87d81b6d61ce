"""Models, and how good they are on a test set of one's own."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from plankter._errors import NotFound
from plankter.service.analysis import WORMS
from plankter.service.pages import form_of, service_of
from plankter.service.pages_runs import REPORT_CSP
from plankter.service.submit import submit
from plankter.workflow.evaluation_images import IMAGES
from plankter.workflow.models import show_model

router = APIRouter()


@router.get("/models", response_class=HTMLResponse)
def models(request: Request) -> HTMLResponse:
    """All models as cards, and the evaluations that were made."""
    service = service_of(request)
    done = [job for job in service.jobs.all() if job.kind == "evaluate"][:20]
    folders = {job.id: service.jobs.folder(job.id) for job in done if job.state == "done"}
    results = {job_id: folder.result() for job_id, folder in folders.items()}
    kept = {job_id for job_id, folder in folders.items() if (folder.folder / IMAGES).is_file()}
    return service.page(
        request, "models.html.j2", models=service.models(), evaluations=done, results=results, kept=kept
    )


@router.get("/models/{name}", response_class=HTMLResponse)
def model(request: Request, name: str) -> HTMLResponse:
    """One model: figures, classes, card; and the form that evaluates it."""
    service = service_of(request)
    facts = show_model(service.model_key(name), service.workspace)
    taxa = service.taxa()
    return service.page(request, "model.html.j2", model=facts, models=service.models(), taxa=taxa, worms=WORMS)


@router.get("/models/{name}/file")
def file(request: Request, name: str) -> Response:
    """The model as one file, which `plankter models import` and other workspaces take."""
    import tempfile
    from pathlib import Path

    from plankter.workflow.models import export_model

    service = service_of(request)
    with tempfile.TemporaryDirectory(prefix="plankter-") as folder:
        found = export_model(service.model_key(name), service.workspace, Path(folder))
        path = Path(found["path"])
        plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in path.name)
        headers = {"content-disposition": f'attachment; filename="{plain}"'}
        return Response(path.read_bytes(), media_type="application/octet-stream", headers=headers)


@router.post("/evaluate")
async def evaluate(request: Request) -> JSONResponse:
    """A job that evaluates a model on an uploaded test set."""
    service, form = service_of(request), await form_of(request)
    arguments: dict[str, object] = {name: form.get(name) for name in ("upload", "model", "against")}
    arguments["keep"] = False if form.get("keep") == "no" else None
    title = form.get("title", "") or f"Evaluation of {form.get('model')}"
    job = await asyncio.to_thread(submit, service, "evaluate", title, arguments)
    page = "comparisons" if form.get("to") == "comparison" and "against" in job.arguments else "jobs"
    return JSONResponse({"location": f"/{page}/{job.id}"})


@router.get("/jobs/{job_id}/report")
def report(request: Request, job_id: str, save: bool = False) -> Response:
    """The report of an evaluation or of drift: one file that stands alone."""
    folder = service_of(request).jobs.folder(job_id)
    path = folder.folder / "report.html"
    if not path.is_file():
        raise NotFound("this job has no report")
    headers = {"content-security-policy": REPORT_CSP}
    if save:
        headers["content-disposition"] = f'attachment; filename="{folder.read().kind}-{job_id}.html"'
    return FileResponse(path, media_type="text/html", headers=headers)
