"""Drift: whether the runs still resemble what a model learnt from."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from plankter.service.drift_chart import difference, drift_chart, kind_of
from plankter.service.jobs import DONE, Job
from plankter.service.pages import form_of, service_of
from plankter.service.state import Service
from plankter.service.submit import submit

router = APIRouter()
LOOKED_AT = 200  # newest jobs among which those of a model are looked for


@router.get("/drift", response_class=HTMLResponse)
def drift(request: Request, model: Annotated[str, Query(max_length=200)] = "") -> HTMLResponse:
    """What was last found for a model: chart with alarm limits, verdicts in words; and the form that looks again."""
    service = service_of(request)
    key = service.model_key(model or str(service.workspace.settings["classify.model"]))
    facts = next(one for one in service.models() if key in (one["name"], one["model_id"]))
    found, written = kept(service, str(facts["model_id"]))
    jobs = [job for job in service.jobs.recent(LOOKED_AT) if job.kind == "drift" and job.arguments.get("model") == key]
    records = service.workspace.catalogue.runs()
    runs, chart, fresh = [], None, []
    if found is not None:
        here = {record.run.run_id for record in records}
        runs = [_shown(run, here) for run in found["runs"]]
        chart = drift_chart(found["runs"], found["chart"])
        compared = {run["run_id"] for run in runs}
        fresh = [record.run for record in records if record.run.run_id not in compared]
    return service.page(
        request, "drift.html.j2", models=service.models(), model=facts, found=found, written=written, runs=runs,
        chart=chart, fresh=fresh, total=len(records), running=next((job for job in jobs if not job.ended), None),
        report=next((job for job in jobs if job.state == DONE), None), failed=_failed(jobs),
        tally=_tally(runs),
    )  # fmt: skip


def kept(service: Service, model_id: str) -> tuple[dict[str, Any] | None, str | None]:
    """What `plankter drift` last found for a model and when; None where nothing is kept."""
    path = service.workspace.reports_folder / f"drift-{model_id}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
    except (OSError, ValueError):
        return None, None
    return (found, written) if isinstance(found, dict) and {"runs", "chart", "months"} <= set(found) else (None, None)


def _shown(run: dict[str, Any], here: set[str]) -> dict[str, Any]:
    kind, words = kind_of(str(run["verdict"]))
    return {**run, "kind": kind, "words": words, "difference": difference(run), "here": run["run_id"] in here}


def _tally(runs: list[dict[str, Any]]) -> dict[str, int]:
    """How many runs have each verdict, in short words, the most frequent first."""
    words = [run["words"] for run in runs]
    return {one: words.count(one) for one in sorted(set(words), key=lambda one: (-words.count(one), one))}


def _failed(jobs: list[Job]) -> str | None:
    """Why the newest try failed, None where it did not."""
    return jobs[0].reason if jobs and jobs[0].state == "failed" else None


@router.post("/drift")
async def start(request: Request) -> Response:
    """A job that compares the runs with what a model learnt from."""
    service, form = service_of(request), await form_of(request)
    key = service.model_key(form.get("model", ""))
    await asyncio.to_thread(submit, service, "drift", f"Drift against {form.get('name') or key}", {"model": key})
    return Response(headers={"HX-Redirect": f"/drift?model={key}"})
