"""The wizard that trains a model in three steps, and the page that transforms images."""

from __future__ import annotations

import asyncio
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from plankter._errors import NotFound, SettingsError
from plankter.service.analysis import WORMS
from plankter.service.image_sets import class_root
from plankter.service.job_worker import memory_mb
from plankter.service.jobs import DONE, Job
from plankter.service.pages import form_of, service_of
from plankter.service.pages_sources import moved, source_of, title_of
from plankter.service.state import Service
from plankter.service.submit import submit
from plankter.vignettes.codec import decode_image, encode_vignette

router = APIRouter()
WHOLE = ("seed", "epochs", "px")


@router.get("/train", response_class=HTMLResponse)
def data(request: Request) -> HTMLResponse:
    """Step 1: which images."""
    service = service_of(request)
    labelled = sum(count.validated for count in service.workspace.catalogue.class_counts())
    return service.page(request, "train.html.j2", labelled=labelled)


@router.post("/train")
async def look(request: Request) -> Response:
    """A look at the images, as a job; then step 1 goes on at its page."""
    service, form = service_of(request), await form_of(request)
    arguments: dict[str, Any] = {**source_of(form), "imported": form.get("imported") == "yes" or None}
    job = await asyncio.to_thread(submit, service, "inspect", title_of(form, "Training set"), arguments)
    return moved(request, f"/train/{job.id}")


def looked_at(service: Service, job_id: str) -> tuple[Job, dict[str, Any] | None]:
    """The look at a training set, and what was found once it has ended.

    Raises:
        NotFound: no such job, or one of another kind.
    """
    folder = service.jobs.folder(job_id)
    job = folder.read()
    if job.kind != "inspect":
        raise NotFound("there is no training set at this address")
    return job, folder.result() if job.state == DONE else None


@router.get("/train/{job_id}", response_class=HTMLResponse)
def looked(request: Request, job_id: str) -> HTMLResponse:
    """Step 1, what the images are: classes, counts, samples, problems."""
    service = service_of(request)
    job, result = looked_at(service, job_id)
    return service.page(
        request,
        "train_data.html.j2",
        job=job,
        result=result,
        progress=service.jobs.folder(job_id).progress(),
        worms=WORMS,
    )


def set_of(service: Service, job: Job) -> Path:
    """The folder of classes that was looked at: of an upload or of the server."""
    if job.arguments.get("folder"):
        return class_root(service.sources.folder(str(job.arguments["folder"])))
    return class_root(service.uploads.get(str(job.arguments["upload"])).folder / "set")


def _kept(job: Job) -> dict[str, Any]:
    """Where the images of a set lie now: what was fetched from an address is an upload from then on."""
    return {name: value for name, value in job.arguments.items() if name != "remote"}


@router.get("/train/{job_id}/image")
def image(request: Request, job_id: str, name: Annotated[str, Query(max_length=2_000)]) -> Response:
    """A sample image of the set: only one that the look at it had named."""
    service = service_of(request)
    job, result = looked_at(service, job_id)
    if result is None or not any(name in entry["samples"] for entry in result["classes"]):
        raise NotFound("no such image")
    png = encode_vignette(decode_image(sample_image(service, job, name), path=name))
    return Response(png, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def sample_image(service: Service, job: Job, name: str) -> bytes:
    """An image of a set that was looked at, encoded; ``name`` as the look at it gave it.

    Raises:
        NotFound: there is none (any more).
    """
    if not (job.arguments.get("upload") or job.arguments.get("folder")):
        run_id, _, index = name.partition(":")
        found = service.workspace.archive.open(run_id).vignette_png(int(index))
        if found is None:
            raise NotFound("no such image")
        return found
    folder = set_of(service, job)
    path = (folder / name).resolve()
    if not path.is_relative_to(service.sources.root_of(folder) or folder.resolve()) or not path.is_file():
        raise NotFound("no such image")
    return path.read_bytes()


@router.get("/train/{job_id}/configure", response_class=HTMLResponse)
def configure(request: Request, job_id: str) -> Response:
    """Step 2: how."""
    service = service_of(request)
    job, result = looked_at(service, job_id)
    if result is None:
        return RedirectResponse(f"/train/{job_id}", 303)
    return service.page(
        request,
        "train_configure.html.j2",
        job=job,
        result=result,
        models=service.models(),
        torch=bool(find_spec("torch")),
    )


def _asked(form: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (
        "mode",
        "head",
        "classifier",
        "features",
        "model",
        "balance",
        "name",
        "network",
        "augmentation",
        *WHOLE,
    ):
        text = form.get(name, "")
        if not text:
            continue
        if name in WHOLE:
            if not re.fullmatch(r"[0-9]{1,6}", text):
                raise SettingsError(f"{name}: expected a whole number, got {text!r}")
            found[name] = int(text)
        else:
            found[name] = text
    if form.get("force_context") == "yes":
        found["force_context"] = True
    return found


def _table_of(form: dict[str, str], job: Job) -> dict[str, Any] | None:
    """What a form says of the table beside the images: which columns are context, which one groups."""
    files = bool(job.arguments.get("upload") or job.arguments.get("folder"))
    context = [name.removeprefix("context:") for name in form if name.startswith("context:")]
    group = form.get("group", "") if files else ""
    if not context and not group:
        return None
    return {"job": job.id if files else None, "context": context, "group": group or None}


@router.post("/train/{job_id}/estimate")
async def estimate(request: Request, job_id: str) -> Response:
    """From step 2 to step 3: measures how long it would take, as a job."""
    service, form = service_of(request), await form_of(request)
    job, _ = await asyncio.to_thread(looked_at, service, job_id)
    arguments = {**_kept(job), "config": _asked(form), "table": _table_of(form, job), "estimate_only": True}
    made = await asyncio.to_thread(submit, service, "train", f"Estimate for {job.title}", arguments)
    return Response(headers={"HX-Redirect": f"/train/{job_id}/hardware/{made.id}"})


@router.get("/train/{job_id}/hardware/{estimate_id}", response_class=HTMLResponse)
def hardware(request: Request, job_id: str, estimate_id: str) -> HTMLResponse:
    """Step 3: on what, and how long."""
    service = service_of(request)
    job, result = looked_at(service, job_id)
    folder = service.jobs.folder(estimate_id)
    made = folder.read()
    return service.page(
        request, "train_hardware.html.j2", job=job, looked=result, estimate=made, progress=folder.progress(),
        result=folder.result() if made.state == DONE else None,
        mode=made.arguments.get("config", {}).get("mode"), asked=asked_words(made.arguments.get("config", {}), made.arguments.get("table")),
        threads=service.workspace.threads, cores=os.cpu_count() or 1, memory=memory_total_mb(), used=memory_mb(),
        limit=service.limits.job_memory_mb,
    )  # fmt: skip


MODES = {
    "head": "a new head on a known network", "classical": "trees on measures and features", "finetune": "the whole network",
}  # fmt: skip
OF_MODE = {
    "head": (("head", "kind of head"),),
    "classical": (("classifier", "kind of trees"), ("features", "they see")),
    "finetune": (("epochs", "epochs"), ("px", "side in px"), ("augmentation", "images varied")),
}
VALUES = {
    "lda": "linear discriminant",
    "logistic": "logistic regression",
    "auto": "as fits",
    "both": "measures and features",
}


def asked_words(config: dict[str, Any], table: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What was asked of a training, as name and words; only what its mode uses."""
    mode = str(config.get("mode", "head"))
    found = [("what is learnt", MODES.get(mode, mode))]
    shown = (("model", "network of"), *OF_MODE.get(mode, ()), ("balance", "classes of unequal size"), ("seed", "seed"))
    found += [(words, VALUES.get(str(config[name]), str(config[name]))) for name, words in shown if name in config]
    if table and table.get("group"):
        found.append(("kept together", f"images of one {table['group']}"))
    if table and table.get("context"):
        forced = ", even where it does not help" if config.get("force_context") else ""
        found.append(("context", ", ".join(table["context"]) + forced))
    return found


def memory_total_mb() -> float | None:
    """Memory of this computer, MB; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    except (AttributeError, ValueError, OSError):
        return None


@router.post("/train/{job_id}/start/{estimate_id}")
async def start(request: Request, job_id: str, estimate_id: str) -> Response:
    """Begins the training."""
    service = service_of(request)
    job, _ = await asyncio.to_thread(looked_at, service, job_id)
    made = service.jobs.folder(estimate_id).read()
    arguments = {**_kept(job), **{name: made.arguments.get(name) for name in ("config", "table")}}
    title = f"Training on {job.title}"
    begun = await asyncio.to_thread(submit, service, "train", title, arguments)
    return Response(headers={"HX-Redirect": f"/jobs/{begun.id}"})


@router.get("/transform", response_class=HTMLResponse)
def transform(request: Request) -> HTMLResponse:
    """Images made like a reference, augmented or balanced."""
    service = service_of(request)
    done = [job for job in service.jobs.all() if job.kind == "transform"][:20]
    return service.page(request, "transform.html.j2", models=service.models(), done=done)


def _size(form: dict[str, str], name: str) -> float | None:
    text = form.get(name, "")
    try:
        found = float(text) if text else None
    except ValueError:
        found = 0.0
    if found is not None and not 0 < found < 1e6:
        raise SettingsError(f"{name}: expected a pixel size above 0 µm, got {text[:40]!r}")
    return found


@router.post("/transform")
async def transform_start(request: Request) -> Response:
    """Begins a transformation."""
    service, form = service_of(request), await form_of(request)
    arguments: dict[str, Any] = source_of(form)
    reference = "like_upload" if form.get("like_upload") else "like"
    arguments[reference] = form.get(reference)
    if arguments[reference]:  # without a reference there is nothing that sizes could be matched to
        arguments |= {name: _size(form, name) for name in ("um_per_px", "like_um_per_px")}
    for name in ("copies", "balance"):
        text = form.get(name, "")
        if text and text != "0":
            if not re.fullmatch(r"[0-9]{1,6}", text):
                raise SettingsError(f"{name}: expected a whole number, got {text!r}")
            arguments[name] = int(text)
    job = await asyncio.to_thread(submit, service, "transform", title_of(form, "Transformation"), arguments)
    return moved(request, f"/jobs/{job.id}")
