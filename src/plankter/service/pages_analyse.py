"""Analyse images or a run, look at what was found, take it away."""

from __future__ import annotations

import asyncio
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from plankter._errors import ImageError, NotFound, PlankterError
from plankter.publish.contact_sheets import contact_sheet
from plankter.publish.csv_files import escape_cell
from plankter.publish.predictions import write_predictions
from plankter.service.analysis import WORMS, Analysis, find_analysis
from plankter.service.api_predict import images_of_zip, read_body
from plankter.service.pages import form_of, service_of
from plankter.service.pages_runs import REPORT_CSP
from plankter.service.pages_sources import moved, source_of, title_of
from plankter.service.problems import Problem
from plankter.service.submit import submit
from plankter.vignettes.codec import decode_image

router = APIRouter()
PAGE = 60
SHEET = 40
RUN_SUFFIXES = (".lst", ".ctx")
_RUN_ID = re.compile(r"[0-9a-f]{16}")
Order = Literal["sure", "doubtful"]


@router.get("/analyse", response_class=HTMLResponse)
def analyse(request: Request) -> HTMLResponse:
    """Where images or a run are dropped."""
    service = service_of(request)
    default = str(service.workspace.settings["classify.model"])
    return service.page(
        request, "analyse.html.j2", models=service.models(), default=default,
        try_images=service.tries.max_images, try_mb=service.tries.max_bytes // 1_000_000,
    )  # fmt: skip


@router.post("/analyse")
async def start(request: Request) -> Response:
    """Begins the analysis of an upload, of a folder of the server or of an address."""
    service, form = service_of(request), await form_of(request)
    arguments = {**source_of(form), **{name: form.get(name) for name in ("model", "sample")}}
    kind = "try" if form.get("keep") == "no" else "analyse"
    job = await asyncio.to_thread(submit, service, kind, title_of(form, "Analysis"), arguments)
    return moved(request, f"/jobs/{job.id}")


@router.post("/try")
async def try_start(request: Request) -> JSONResponse:
    """An analysis that is not kept."""
    service, form = service_of(request), await form_of(request)
    batcher = await asyncio.to_thread(service.batcher, form.get("model"))
    kept = service.tries.create(batcher.engine.model.model_id)
    return JSONResponse({"id": kept.id, "location": f"/results/try/{kept.id}"})


@router.post("/try/{try_id}")
async def try_add(
    request: Request, try_id: str, name: Annotated[str, Query(max_length=1_000)] = "image"
) -> JSONResponse:  # fmt: skip
    """One image, or a zip of them, of an analysis that is not kept: it never touches the disk."""
    service = service_of(request)
    kept = service.tries.get(try_id)
    body = await read_body(request, service.tries.max_bytes)
    named: list[tuple[str, bytes | str]] = [(name, body)]
    if body[:4] == b"PK\x03\x04":
        if await asyncio.to_thread(holds_run, body):
            raise Problem(409, "the zip holds a run of an instrument, which is tried as a job", run=True)
        named = await asyncio.to_thread(images_of_zip, body, service.tries.max_images, service.tries.max_bytes)
    read = [(file, data) for file, data in named if isinstance(data, bytes)]
    batcher = await asyncio.to_thread(service.batcher, kept.model)
    predicted = await batcher.predict([data for _, data in read], patient=len(read) > 8)
    for (file, data), prediction in zip(read, predicted, strict=True):
        service.tries.add(try_id, file, data, prediction)
    return JSONResponse({"images": len(read), "unreadable": {f: why for f, why in named if isinstance(why, str)}})


def holds_run(body: bytes) -> bool:
    """Whether a zip holds the list of a run."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as opened:
            return any(name.lower().endswith(RUN_SUFFIXES) for name in opened.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False  # what is wrong with it is said where it is read


@router.post("/jobs/{job_id}/forget")
def forget_run(request: Request, job_id: str) -> Response:
    """Removes an analysis or an evaluation that is not kept, with all files of it."""
    service = service_of(request)
    kind = service.jobs.folder(job_id).read().kind
    service.try_runs.forget(job_id)
    return moved(request, "/models" if kind == "evaluate" else "/analyse")


@router.get("/jobs/{job_id}/runs/{run_id}/report", response_class=HTMLResponse)
def tried_report(request: Request, job_id: str, run_id: str, save: bool = False) -> HTMLResponse:
    """The report of a run that is not kept: one file that stands alone."""
    folder = service_of(request).try_runs.folder_of(job_id) / "reports"
    path = next(folder.glob(f"*-{run_id}.html"), None) if _RUN_ID.fullmatch(run_id) else None
    if path is None:
        raise NotFound("there is no report of this run")
    headers = {"content-security-policy": REPORT_CSP}
    if save:
        headers["content-disposition"] = f'attachment; filename="run-{run_id}.html"'
    return HTMLResponse(path.read_text(encoding="utf-8"), headers=headers)


@router.post("/results/try/{try_id}/forget")
def forget(request: Request, try_id: str) -> Response:
    """Removes an analysis from memory at once."""
    service_of(request).tries.remove(try_id)
    if request.headers.get("HX-Request"):
        return Response(headers={"HX-Redirect": "/analyse"})
    return RedirectResponse("/analyse", 303)


@router.get("/results/{kind}/{key}", response_class=HTMLResponse)
def results(
    request: Request,
    kind: str,
    key: str,
    of: Annotated[str | None, Query(max_length=200, alias="class")] = None,
    order: Order = "sure",
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> HTMLResponse:
    """What was found: classes, and the images of one of them or of all."""
    service = service_of(request)
    found = find_analysis(service, kind, key)
    chosen = found.select(of or None, order)
    part = request.headers.get("HX-Target") == "images"
    return service.page(
        request, "_images.html.j2" if part else "results.html.j2", found=found, chosen=chosen[start : start + PAGE],
        total=len(chosen), start=start, step=PAGE, of=of or "", order=order, worms=WORMS,
    )  # fmt: skip


@router.get("/results/{kind}/{key}/images/{number}", response_class=HTMLResponse)
def detail(request: Request, kind: str, key: str, number: int) -> HTMLResponse:
    """One image with its five best classes."""
    service = service_of(request)
    found = find_analysis(service, kind, key)
    template = "_image.html.j2" if request.headers.get("HX-Request") else "image.html.j2"
    return service.page(request, template, found=found, number=number, row=found.row(number), worms=WORMS)


@router.get("/results/{kind}/{key}/images/{number}/picture")
def picture(request: Request, kind: str, key: str, number: int) -> Response:
    """The image itself."""
    data, media = find_analysis(service_of(request), kind, key).picture(number)
    return Response(data, media_type=media, headers={"cache-control": "private, max-age=3600"})


@router.get("/results/{kind}/{key}/images/{number}/saliency")
def saliency(request: Request, kind: str, key: str, number: int) -> Response:
    """Where in the image its best class is seen, as a picture."""
    import tempfile
    from pathlib import Path

    from plankter.workflow.explain import explain

    service = service_of(request)
    found = find_analysis(service, kind, key)
    data, _ = found.picture(number)
    with tempfile.TemporaryDirectory(prefix="plankter-") as folder:
        image, out = Path(folder) / "image.png", Path(folder) / "saliency.png"
        image.write_bytes(data)
        explain(image, out, model=service.model_key(found.model_id), workspace=service.workspace)
        return Response(out.read_bytes(), media_type="image/png", headers={"cache-control": "private, max-age=3600"})


@router.get("/results/{kind}/{key}/sheet")
def sheet(
    request: Request,
    kind: str,
    key: str,
    of: Annotated[str, Query(max_length=200, alias="class")],
    order: Order = "sure",
) -> Response:
    """Images of one class at one scale with a scale bar, as one JPEG."""
    import base64

    found = find_analysis(service_of(request), kind, key)
    chosen = []
    for number in found.select(of, order)[:SHEET]:
        try:
            chosen.append((number, decode_image(found.image(number)), float(found.scores[number, 0])))
        except (ImageError, PlankterError):
            continue
    made = contact_sheet(chosen, found.um_per_px, n=SHEET)
    if made is None:
        return Response(status_code=404)
    return Response(base64.b64decode(made.data_uri.partition(",")[2]), media_type="image/jpeg")


@router.get("/results/{kind}/{key}/download/{what}")
def download(
    request: Request,
    kind: str,
    key: str,
    what: Literal["predictions.csv", "predictions.parquet", "predictions.json", "images.zip"],
) -> Response:
    """The predictions as a table, or the images sorted into one folder a class."""
    found = find_analysis(service_of(request), kind, key)
    name = f"{found.kind}-{found.id}-{what}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    if what == "images.zip":
        return StreamingResponse(sorted_images(found), media_type="application/zip", headers=headers)
    if what == "predictions.json":
        return StreamingResponse(as_json(found), media_type="application/json", headers=headers)
    return Response(
        as_table(found, what),
        media_type="text/csv" if what.endswith("csv") else "application/vnd.apache.parquet",
        headers=headers,
    )


def as_json(found: Analysis) -> Iterator[str]:
    """An object with ``model`` and ``images``, piece by piece."""
    yield '{"model": ' + json.dumps(found.model) + ', "images": ['
    for number in range(len(found)):
        yield (",\n" if number else "\n") + json.dumps(found.row(number), ensure_ascii=False)
    yield "]}\n"


def as_table(found: Analysis, name: str) -> bytes:
    """The table that `plankter predict` writes, as CSV or Parquet."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="plankter-") as folder:
        out = Path(folder) / name
        write_predictions(
            out, list(found.names), found.class_ids, {c: found.name_of(c) for c in found.class_ids},
            {c: found.aphia_id(c) for c in found.class_ids}, found.best, found.scores, list(found.decisions),
            list(found.reasons), list(found.failures),
        )  # fmt: skip
        return out.read_bytes()


class _Pieces(io.RawIOBase):
    """What a zip writes, handed on; nothing of it can be sought."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        found, self._parts = b"".join(self._parts), []
        return found


def sorted_images(found: Analysis) -> Iterator[bytes]:
    """A zip, made while it is sent: each image in the folder of its best class, those without one in ``unpredicted``."""
    pieces = _Pieces()
    used: set[str] = set()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as out:
        for number in range(len(found)):
            place = int(found.best[number, 0])
            try:
                data = found.image(number)
            except PlankterError:
                continue
            folder = folder_name(found.class_ids[place]) if place >= 0 else "unpredicted"
            name = folder + "/" + escape_cell(found.names[number].rsplit("/", 1)[-1]).lstrip("'")
            if name.lower() in used:
                name = f"{folder}/{number:06d}_{name.rsplit('/', 1)[-1]}"
            used.add(name.lower())
            out.writestr(name, data)
            if part := pieces.taken():
                yield part
    yield pieces.taken()


def folder_name(class_id: str) -> str:
    """A class as the name of a folder on any system."""
    plain = "".join("_" if sign in '<>:"/\\|?*' or ord(sign) < 32 else sign for sign in class_id).strip(". ")
    return plain or "unnamed"
