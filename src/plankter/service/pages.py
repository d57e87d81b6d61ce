"""Home, the API's page, and what all pages share."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from plankter.service.api_predict import read_body
from plankter.service.job_kinds import KINDS
from plankter.service.problems import Problem
from plankter.service.state import Service
from plankter.workflow.classify import status

router = APIRouter()
MAX_FORM_BYTES = 100_000


def service_of(request: Request) -> Service:
    """The server's state."""
    found: Service = request.app.state.service
    return found


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that holds no files; the last one of a name counts.

    Raises:
        Problem: no such form.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Problem(415, "expected a form")
    text = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    return {name: values[-1].strip() for name, values in parse_qs(text, keep_blank_values=True).items()}


@router.get("/", response_class=HTMLResponse)
def home(request: Request) -> HTMLResponse:
    """What this is, what the workspace holds, what runs, three ways on."""
    service = service_of(request)
    held = status(service.workspace)
    jobs = service.jobs.recent(8)
    classes = sorted(held["by_class"].items(), key=lambda entry: -entry[1]["predicted"])[:10]
    taxa = service.taxa()
    return service.page(
        request, "home.html.j2", held=held, jobs=jobs, models=service.models(), classes=classes, taxa=taxa,
        folder=service.workspace.folder.name, kinds=KINDS,
    )  # fmt: skip


@router.get("/api", response_class=HTMLResponse)
def api(request: Request) -> HTMLResponse:
    """Every address of the API, from its own description."""
    described: dict[str, Any] = request.app.openapi()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in described["paths"].items():
        for method, facts in methods.items():
            entry = {
                "method": method.upper(), "path": path, "words": facts.get("description", ""),
                "parameters": [p for p in facts.get("parameters", []) if p["in"] == "query"],
            }  # fmt: skip
            groups.setdefault((facts.get("tags") or ["other"])[0], []).append(entry)
    return service_of(request).page(request, "api.html.j2", groups=groups)
