"""What the workspace holds: runs, particles, counts, samples, models, classes."""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from plankter._errors import NotFound
from plankter.quantify.abundance import abundance
from plankter.service.api_predict import _ANY_BODY, PROBLEMS, read_body
from plankter.service.api_shapes import ClassCountAnswer, ParticleAnswer, ParticlePage, RunAnswer, RunPage
from plankter.service.problems import Problem
from plankter.service.state import Service
from plankter.store.base import ParticleFilter, RunRecord
from plankter.workflow.classify import status as workspace_status
from plankter.workflow.models import show_model
from plankter.workflow.samples import attach_samples

router = APIRouter(tags=["workspace"])
MAX_TABLE_BYTES = 20_000_000


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def cursor_of(key: tuple[Any, ...] | None) -> str | None:
    """A place in a list as a text that only the server reads."""
    return None if key is None else base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def place_of(cursor: str | None) -> tuple[Any, ...] | None:
    """The place that a cursor stands for.

    Raises:
        Problem: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise Problem(422, "the cursor is none that this server gave") from error
    if not isinstance(found, list) or not all(isinstance(part, str | int | float) or part is None for part in found):
        raise Problem(422, "the cursor is none that this server gave")
    return tuple(found)


def run_object(record: RunRecord) -> RunAnswer:
    """A run as the API tells it."""
    run = record.run
    return RunAnswer(
        run_id=run.run_id, name=run.name, sample_id=run.sample_id, instrument=run.instrument,
        started_at=run.started_at.isoformat().replace("+00:00", "Z") if run.started_at else None,
        um_per_px=run.um_per_px, volume_imaged_ml=run.volume_imaged_ml, particles=record.particles,
        vignettes=record.vignettes, failures=record.failures, predicted=record.predicted, validated=record.validated,
        model_id=record.model_id, flags=[flag.code for flag in run.flags],
    )  # fmt: skip


@router.get("/status")
def status(request: Request) -> dict[str, Any]:
    """Runs, particles, how many are predicted and validated, and counts by class."""
    return workspace_status(_service(request).workspace)


@router.get("/runs", responses=PROBLEMS)
def runs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=2_000)] = None,
) -> RunPage:
    """All runs, by sample, name and id."""
    place = place_of(cursor)
    records = _service(request).workspace.catalogue.runs()
    if place is not None:
        records = [r for r in records if (r.run.sample_id, r.run.name, r.run.run_id) > tuple(map(str, place))]
    page = records[:limit]
    last = page[-1].run if len(records) > limit else None
    following = cursor_of((last.sample_id, last.name, last.run_id)) if last else None
    return RunPage(runs=[run_object(record) for record in page], next=following)


@router.get("/runs/{run_id}", responses=PROBLEMS)
def run(request: Request, run_id: str) -> RunAnswer:
    """One run."""
    return run_object(_service(request).workspace.catalogue.run(run_id))


@router.get("/runs/{run_id}/counts", responses=PROBLEMS)
def counts(request: Request, run_id: str) -> list[ClassCountAnswer]:
    """Counts by class, with particles per mL of imaged water and the exact 95 % Poisson interval where the volume is
    known."""
    catalogue = _service(request).workspace.catalogue
    volume = catalogue.run(run_id).run.volume_imaged_ml
    taxa = {taxon.class_id: taxon for taxon in catalogue.taxa()}
    found = []
    for count in catalogue.class_counts(run_id):
        taxon, per = taxa.get(count.class_id), abundance(count.predicted, volume)
        found.append(
            ClassCountAnswer(
                class_id=count.class_id, name=taxon.name if taxon else count.class_id,
                aphia_id=taxon.aphia_id if taxon else None, predicted=count.predicted, validated=count.validated,
                per_ml=per.per_ml_imaged, per_ml_low=per.per_ml_low, per_ml_high=per.per_ml_high,
            )
        )  # fmt: skip
    return found


@router.get("/particles", responses=PROBLEMS)
def particles(
    request: Request,
    run_id: Annotated[str | None, Query(max_length=16)] = None,
    sample_id: Annotated[str | None, Query(max_length=200)] = None,
    predicted: Annotated[str | None, Query(max_length=200)] = None,
    label: Annotated[str | None, Query(max_length=200)] = None,
    status: Literal["unlabelled", "imported", "rule", "unsure", "validated"] | None = None,
    sort: Literal["index", "score", "esd_um", "area_um2"] = "index",
    descending: bool = False,
    limit: Annotated[int, Query(ge=1, le=2_000)] = 200,
    cursor: Annotated[str | None, Query(max_length=2_000)] = None,
) -> ParticlePage:
    """Particles with their best prediction and standing label, in pages."""
    place = place_of(cursor)
    if place is not None and not (
        len(place) == 3 and isinstance(place[0], int | float | None) and isinstance(place[1], str)
        and isinstance(place[2], int) and -(2**62) < place[2] < 2**62 and abs(place[0] or 0) < 2**62
    ):  # fmt: skip
        raise Problem(422, "the cursor is none that this server gave for this list")
    where = ParticleFilter(run_id, sample_id, predicted, label, status)
    rows, key = _service(request).workspace.catalogue.page(
        where, sort=sort, descending=descending, after=place, limit=limit
    )
    return ParticlePage(particles=[ParticleAnswer(**asdict(row)) for row in rows], next=cursor_of(key))


@router.get("/runs/{run_id}/particles/{index}/image", responses=PROBLEMS, response_class=Response)
def image(request: Request, run_id: str, index: int) -> Response:
    """The vignette of a particle, as PNG."""
    if not 0 <= index < 2**31:
        raise NotFound(f"no particle {index}")
    service = _service(request)
    service.workspace.catalogue.run(run_id)
    data = service.workspace.archive.open(run_id).vignette_png(index)
    if data is None:
        raise NotFound(f"particle {index} has no vignette")
    return Response(data, media_type="image/png")


@router.get("/samples")
def samples(request: Request) -> list[dict[str, Any]]:
    """All samples with what is known of them."""
    found = []
    for sample in _service(request).workspace.catalogue.samples():
        facts = {name: getattr(sample, name) for name in sample.__dataclass_fields__ if name != "environment"}
        found.append({**facts, "environment": dict(sample.environment)})
    return found


@router.put("/samples", responses=PROBLEMS, openapi_extra=_ANY_BODY)
async def put_samples(
    request: Request,
    name: Annotated[str, Query(max_length=200, description="file name; its ending tells the kind")] = "table.csv",
) -> dict[str, Any]:
    """Attaches samples to runs from a table (CSV, TSV or Excel with a `run` column), sent as the body."""
    import asyncio

    body = await read_body(request, MAX_TABLE_BYTES)
    return await asyncio.to_thread(attach_table, _service(request), name, body)


def attach_table(service: Service, name: str, body: bytes) -> dict[str, Any]:
    """Samples from a table that somebody sent."""
    ending = Path(name).suffix.lower()
    if ending not in (".csv", ".tsv", ".txt", ".xlsx"):
        raise Problem(422, f"expected a table that ends in .csv, .tsv, .txt or .xlsx, got {name[:100]!r}")
    with tempfile.TemporaryDirectory(prefix="plankter-") as folder:
        path = Path(folder) / f"table{ending}"
        path.write_bytes(body)
        return attach_samples(service.workspace, path)


@router.get("/models")
def models(request: Request) -> dict[str, Any]:
    """Models that ship with the package and those of the workspace."""
    return {"models": _service(request).models()}


@router.get("/models/{name}", responses=PROBLEMS)
def model(request: Request, name: str) -> dict[str, Any]:
    """One model with its card."""
    return show_model(_service(request).model_key(name), _service(request).workspace)


@router.get("/taxa")
def taxa(request: Request) -> dict[str, Any]:
    """The class list."""
    return {"taxa": [asdict(taxon) for taxon in _service(request).workspace.catalogue.taxa()]}
