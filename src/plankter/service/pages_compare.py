"""Two models on the same images beside each other, with the paired test."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from plankter._errors import NotFound
from plankter.service.comparison_figures import interval_bars, sentence, verdict
from plankter.service.evaluations import evaluations, find_evaluation
from plankter.service.jobs import DONE, Job
from plankter.service.pages import form_of, service_of
from plankter.service.state import Service
from plankter.service.submit import submit

router = APIRouter()


@router.get("/compare", response_class=HTMLResponse)
def compare(request: Request, first: Annotated[str, Query(max_length=60)] = "") -> HTMLResponse:
    """Where two evaluations, or two models and a test set, are chosen; comparisons that were made."""
    service = service_of(request)
    done = [
        job for job in service.jobs.all()
        if job.kind == "compare" or (job.kind == "evaluate" and job.arguments.get("against"))
    ][:50]  # fmt: skip
    names = {name: model["name"] for model in service.models() for name in (model["model_id"], model["name"])}
    choices = [{**one, "model": names.get(one["model"], one["model"])} for one in evaluations(service)]
    return service.page(request, "compare.html.j2", choices=choices, first=first, models=service.models(), done=done)


@router.post("/compare")
async def start(request: Request) -> Response:
    """A job that compares two evaluations."""
    service, form = service_of(request), await form_of(request)
    arguments = {name: form.get(name) for name in ("first", "second")}
    job = await asyncio.to_thread(_submit, service, arguments)
    return Response(headers={"HX-Redirect": f"/comparisons/{job.id}"})


def _submit(service: Service, arguments: dict[str, str | None]) -> Job:
    models = [find_evaluation(service, arguments[name] or "").images.model for name in ("first", "second")]
    return submit(service, "compare", " beside ".join(models), arguments)


@router.get("/comparisons/{job_id}", response_class=HTMLResponse)
def comparison(request: Request, job_id: str) -> HTMLResponse:
    """What came of it: difference with interval and p, who was right, classes won and lost."""
    service = service_of(request)
    folder = service.jobs.folder(job_id)
    job = folder.read()
    if job.kind not in ("compare", "evaluate") or (job.kind == "evaluate" and not job.arguments.get("against")):
        raise NotFound("this job compares nothing")
    if job.state != DONE:
        return service.page(
            request, "comparison.html.j2", job=job, found=None, progress=folder.progress(), classes=[], bars=None,
            words=None, taxa={},
        )  # fmt: skip
    found = _found(service, job_id)
    classes = [{**duel, "verdict": verdict(duel)} for duel in found["per_class"]]
    classes.sort(key=lambda duel: (-abs(duel["only_first"] - duel["only_second"]), -duel["images"]))
    return service.page(
        request, "comparison.html.j2", job=job, found=found, progress=None, classes=classes, bars=interval_bars(found),
        words=sentence(found), taxa=service.taxa(),
    )  # fmt: skip


def _found(service: Service, job_id: str) -> dict[str, Any]:
    """The object of the comparison, wherever the job keeps it."""
    folder = service.jobs.folder(job_id)
    result = folder.result() or {}
    if "per_class" in result and "against" in result:
        return result
    try:
        numbers: dict[str, Any] = json.loads((folder.folder / "report.json").read_text(encoding="utf-8"))
        model = {name: numbers["model"][name] for name in ("name", "model_id")}
        return {"model": model, "left_out": 0, "other_content": 0, **numbers["comparison"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound("the numbers of this comparison are gone", hint="compare again") from error
