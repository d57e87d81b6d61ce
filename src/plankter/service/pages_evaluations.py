"""An evaluation as a page: confusion matrix with images, thresholds, classes by difficulty."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse

from plankter.service.evaluations import SECOND, find_evaluation
from plankter.service.pages import service_of

router = APIRouter()
PAGE = 48
MOST_SCORES = 50_000  # in one answer
ClassName = Annotated[str | None, Query(max_length=200)]


@router.get("/evaluations/{key}", response_class=HTMLResponse)
def evaluation(
    request: Request,
    key: str,
    true: ClassName = None,
    given: ClassName = None,
    errors: bool = False,
    everything: Annotated[bool, Query(alias="all")] = False,
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> HTMLResponse:
    """The evaluation, with the images of the cell that was chosen; these alone where htmx asks for them."""
    service = service_of(request)
    found = find_evaluation(service, key)
    asked = true or given or errors
    chosen = found.select(true or None, given or None, errors) if asked else None
    cell: dict[str, Any] = {
        "found": found, "true": true or "", "given": given or "", "errors": errors, "start": start, "step": PAGE,
        "true_name": found.name_of(found.position(true)) if true else None,
        "given_name": found.name_of(found.position(given)) if given else None,
        "chosen": None if chosen is None else chosen[start : start + PAGE].tolist(),
        "total": 0 if chosen is None else len(chosen),
    }  # fmt: skip
    if request.headers.get("HX-Target") == "cell":
        return service.page(request, "_cell.html.j2", **cell)
    other = None
    if found.job.arguments.get("against"):
        other = found.job.id + ("" if key.endswith(SECOND) else SECOND)
    return service.page(
        request, "evaluation.html.j2", matrix=found.matrix(everything), everything=everything, other=other, **cell
    )


@router.get("/evaluations/{key}/scores.json")
def scores(
    request: Request,
    key: str,
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_SCORES)] = MOST_SCORES,
) -> JSONResponse:
    """What the thresholds of the page are worked out from, in pages."""
    found = find_evaluation(service_of(request), key)
    return JSONResponse(found.scores(start, limit), headers={"cache-control": "private, max-age=3600"})
