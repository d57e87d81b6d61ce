"""The runs of the workspace, and the samples that they belong to."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from plankter.service.analysis import WORMS
from plankter.service.api_data import MAX_TABLE_BYTES, attach_table, counts
from plankter.service.api_predict import read_body
from plankter.service.pages import form_of, service_of
from plankter.service.run_places import placed, run_map, timeline
from plankter.service.submit import submit

router = APIRouter()
PAGE = 100
MOST_SAMPLES = 200  # in the table of samples; the API has all
# a report stands alone and brings its own styles and scripts; it may reach nothing of the server
REPORT_CSP = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; sandbox allow-scripts allow-popups"


@router.get("/runs", response_class=HTMLResponse)
def runs(
    request: Request,
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
    sample: Annotated[str, Query(max_length=200)] = "",
    period: Annotated[str, Query(max_length=10, pattern=r"^(\d{4}(-\d\d(-\d\d)?)?)?$")] = "",
    place: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """All runs, or those of a sample, a year, month or day, or a position: a map, counts over time, a table."""
    service = service_of(request)
    samples = {found.sample_id: found for found in service.workspace.catalogue.samples()}
    everything = placed(service.workspace.catalogue.runs(), samples)
    chosen = [one for one in everything if one.fits(sample, period, place)]
    of_sample = Counter(one.record.run.sample_id for one in everything)
    names = {model["model_id"]: model["name"] for model in service.models()}
    asked = {name: value for name, value in (("sample", sample), ("period", period), ("place", place)) if value}
    return service.page(
        request, "runs.html.j2", runs=chosen[start : start + PAGE], total=len(chosen), all=len(everything), start=start,
        step=PAGE, samples=list(samples.values())[:MOST_SAMPLES], samples_total=len(samples), of_sample=of_sample, asked=asked,
        query=urlencode(asked), model_names=names, map=run_map(everything), time=timeline(everything),
    )  # fmt: skip


@router.get("/runs/{run_id}", response_class=HTMLResponse)
def run(request: Request, run_id: str) -> HTMLResponse:
    """One run: facts, flags, counts by class."""
    service = service_of(request)
    record = service.workspace.catalogue.run(run_id)
    rows = sorted(counts(request, run_id), key=lambda row: -row.predicted)
    samples = {sample.sample_id: sample for sample in service.workspace.catalogue.samples()}
    names = {model["model_id"]: model["name"] for model in service.models()}
    return service.page(
        request, "run.html.j2", record=record, rows=rows, sample=samples.get(record.run.sample_id), models=service.models(),
        model_name=names.get(record.model_id or "", record.model_id), worms=WORMS,
    )  # fmt: skip


@router.get("/runs/{run_id}/report", response_class=HTMLResponse)
def report(request: Request, run_id: str, save: bool = False) -> Response:
    """The run's report: one file that stands alone."""
    from plankter.workflow.report import write_report

    service = service_of(request)
    path = write_report(service.workspace, service.workspace.catalogue.run(run_id).run.run_id)
    headers = {"content-security-policy": REPORT_CSP}
    if save:
        headers["content-disposition"] = f'attachment; filename="run-{run_id}.html"'
    return HTMLResponse(path.read_text(encoding="utf-8"), headers=headers)


@router.post("/runs/{run_id}/classify")
async def classify(request: Request, run_id: str) -> Response:
    """A job that predicts the run anew."""
    service, form = service_of(request), await form_of(request)
    record = await asyncio.to_thread(service.workspace.catalogue.run, run_id)
    arguments = {"runs": [run_id], "model": form.get("model")}
    job = await asyncio.to_thread(submit, service, "classify", f"Classify {record.run.name}", arguments)
    return Response(headers={"HX-Redirect": f"/jobs/{job.id}"})


@router.put("/samples")
async def samples(request: Request, name: Annotated[str, Query(max_length=200)]) -> JSONResponse:
    """A table of sample metadata."""
    body = await read_body(request, MAX_TABLE_BYTES)
    found = await asyncio.to_thread(attach_table, service_of(request), name, body)
    unknown = ", ".join(found["unknown_runs"][:5])
    words = f"{len(found['attached'])} run{'' if len(found['attached']) == 1 else 's'} got a sample." + (
        f" No run is called: {unknown}." if unknown else ""
    )
    return JSONResponse({"message": words, "attached": len(found["attached"])})
