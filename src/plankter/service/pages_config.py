"""Two parts of the wizard's second step: how images are varied, seen at once, and a table of what is known of them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from plankter._errors import ImageError, ReadError, SettingsError
from plankter.service.api_predict import read_body
from plankter.service.jobs import JobFolder
from plankter.service.pages import service_of
from plankter.service.pages_train import looked_at, sample_image
from plankter.service.state import Service
from plankter.types import ImageArray
from plankter.vignettes.augment import LIMITS, PRESETS, Augmentation, augment, augmentation_of, augmentation_text
from plankter.vignettes.codec import decode_image, encode_vignette
from plankter.vignettes.letterbox import letterbox
from plankter.workflow.context import known_columns
from plankter.workflow.training_table import GROUPS, describe_table, read_training_table

router = APIRouter()
TABLE = "table.csv"
MAX_TABLE_BYTES = 50_000_000
ROWS, COLUMNS, CELL_PX, GAP_PX = 4, 9, 96, 6
PAPER = 236
MAX_COLUMNS = 200
SETTINGS = (
    ("rotate_p", "Turned by any angle", "share; the others are turned by quarters"),
    ("scale", "Larger or smaller", "by up to this share"),
    ("shift", "Moved", "by up to this share of the side"),
    ("contrast", "Contrast", "varied by up to this share"),
    ("brightness", "Brightness", "up to so many grey levels of 255"),
    ("noise_sd", "Noise", "up to so many grey levels"),
    ("noise_p", "Noise in", "share of the images"),
    ("blur_p", "Blurred a little", "share of the images"),
    ("cutout_p", "A square hidden in", "share of the images"),
    ("cutout", "Side of that square", "share of the side"),
)


@router.get("/train/{job_id}/augmentation", response_class=HTMLResponse)
def augmentation(request: Request, job_id: str, preset: str = "", seed: int = 0) -> HTMLResponse:
    """The part of the form about augmentation, with the picture of what it does."""
    service = service_of(request)
    looked_at(service, job_id)
    how = _asked(request, preset)
    return service.page(
        request, "_augmentation.html.j2", job_id=job_id, how=how or Augmentation(), text=augmentation_text(how),
        off=how is None, presets=list(PRESETS), settings=SETTINGS, limits=LIMITS, seed=seed % 1_000,
    )  # fmt: skip


def _asked(request: Request, preset: str) -> Augmentation | None:
    given = [f"{name}={request.query_params[name]}" for name in LIMITS if name in request.query_params]
    try:
        return augmentation_of(preset or ",".join(given) or "normal")
    except ValueError as error:
        raise SettingsError(str(error)) from error


@router.get("/train/{job_id}/augmented")
def augmented(
    request: Request,
    job_id: str,
    how: Annotated[str, Query(max_length=400)] = "normal",
    seed: Annotated[int, Query(ge=0, le=10_000)] = 0,
    px: Annotated[int, Query(ge=16, le=256)] = 64,
) -> Response:
    """Images of some classes, each as it is and as training would show it."""
    service = service_of(request)
    try:
        settings = augmentation_of(how)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    images = _some_images(service, job_id)
    return Response(
        encode_vignette(augmented_sheet(images, settings, px=px, seed=seed)), media_type="image/png",
        headers={"cache-control": "private, max-age=600"},
    )  # fmt: skip


def _some_images(service: Service, job_id: str) -> list[ImageArray]:
    """One image each of some classes, the largest first, as they show best what is done."""
    job, result = looked_at(service, job_id)
    images: list[ImageArray] = []
    for entry in sorted(result["classes"] if result else [], key=lambda entry: -int(entry["images"])):
        for name in entry["samples"][:2]:
            try:
                images.append(decode_image(sample_image(service, job, name), grey=True, path=name))
            except (ImageError, OSError):
                continue
            break
        if len(images) == ROWS:
            break
    if not images:
        raise ReadError("none of the sample images can be read")
    return images


def augmented_sheet(images: list[ImageArray], how: Augmentation | None, *, px: int, seed: int) -> ImageArray:
    """A picture with one row an image: first as the network would see it unchanged, then as it is varied.

    Args:
        images: uint8 (h, w).
        how: None changes nothing.
        px: side that the network sees.
        seed: of the draws; each row and column has its own.

    Returns:
        uint8 (height, width), each square `CELL_PX` wide.
    """
    import cv2

    step = CELL_PX + GAP_PX
    sheet = np.full((len(images) * step + GAP_PX, COLUMNS * step + 2 * GAP_PX, 3), PAPER, np.uint8)
    for row, image in enumerate(images):
        square = letterbox(image, px)
        for column in range(COLUMNS):
            rng = np.random.default_rng([seed, row, column])
            shown = augment(square, px, rng, how) if column and how is not None else square
            method = cv2.INTER_AREA if px > CELL_PX else cv2.INTER_LINEAR
            top, left = GAP_PX + row * step, GAP_PX + column * step + (GAP_PX if column else 0)
            cell = cv2.resize(shown, (CELL_PX, CELL_PX), interpolation=method)
            sheet[top : top + CELL_PX, left : left + CELL_PX] = cell[:, :, None]
    return sheet


@router.put("/train/{job_id}/table")
async def put_table(request: Request, job_id: str, name: Annotated[str, Query(max_length=300)] = "") -> JSONResponse:
    """Keeps a table of what is known of the images beside the look at them; a new one takes the place of an old one."""
    service = service_of(request)
    body = await read_body(request, MAX_TABLE_BYTES)
    return JSONResponse({"message": await asyncio.to_thread(_keep_table, service, job_id, body)})


def _keep_table(service: Service, job_id: str, body: bytes) -> str:
    _, result = looked_at(service, job_id)
    if result is None or result["root"] is None:
        raise SettingsError("a table goes with images of files; a workspace knows its samples itself")
    folder = service.jobs.folder(job_id).folder
    partial = folder / ".table.partial"
    partial.write_bytes(body)
    try:
        rows, _, columns = describe_table(partial)
        if not columns or len(columns) > MAX_COLUMNS:
            raise ReadError(f"expected 1 to {MAX_COLUMNS} columns beside 'file', got {len(columns)}", path="table.csv")
        samples = [name for entry in result["classes"] for name in entry["samples"]]
        read_training_table(partial, samples)  # none of them in the table: it is of other images
        partial.replace(folder / TABLE)
    finally:
        partial.unlink(missing_ok=True)
    return f"{rows:,} rows and {len(columns)} columns read"


@router.get("/train/{job_id}/table", response_class=HTMLResponse)
def table(request: Request, job_id: str) -> HTMLResponse:
    """The part of the form about the table: which column groups, which are context."""
    service = service_of(request)
    looked_at(service, job_id)
    found = table_facts(service, service.jobs.folder(job_id))
    return service.page(request, "_table.html.j2", table=found, job_id=job_id)


def table_facts(service: Service, folder: JobFolder) -> dict[str, Any] | None:
    """Columns of the table that was uploaded, or of the workspace's samples; None where there is no table."""
    result = folder.result()
    if result is not None and result["root"] is None:
        known = known_columns(service.workspace.catalogue.samples())
        return {"rows": None, "columns": [], "context": known, "group": None} if known else None
    path = folder.folder / TABLE
    if not path.is_file():
        return None
    rows, _, columns = describe_table(path)
    lower = {column.name.strip().lower(): column.name for column in columns}
    return {
        "rows": rows, "columns": columns, "context": [column for column in columns if column.kind != "text"],
        "group": next((lower[name] for name in GROUPS if name in lower), None),
    }  # fmt: skip
