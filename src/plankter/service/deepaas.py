"""The surface of DEEPaaS V2, for clients of the AI4OS platform: the same addresses and status objects, on our jobs.

What differs from the server of that name: a training never blocks a prediction, its state outlives the server, DELETE
answers with the status it made, an image that cannot be used is told with its reason, and a new model can be used at once.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from plankter._errors import NotFound
from plankter.service.answers import as_deepaas
from plankter.service.api_predict import read_body
from plankter.service.deepaas_module import TRAIN_CHOICES
from plankter.service.jobs import Job, JobFolder
from plankter.service.multipart import Part, parts_of
from plankter.service.pages import service_of
from plankter.service.problems import Problem
from plankter.service.state import Service
from plankter.service.submit import submit

router = APIRouter(include_in_schema=False)
STATUS = {"queued": "running", "running": "running", "done": "done", "failed": "error", "cancelled": "cancelled"}


def _model(service: Service, name: str) -> dict[str, Any]:
    key = service.model_key(name)
    return next(m for m in service.models() if key in (m["name"], m["model_id"]))


def _metadata(model: dict[str, Any]) -> dict[str, Any]:
    name = str(model["name"])
    return {
        "id": name, "name": name, "summary": f"Classifies plankton images into {model['classes']} classes",
        "version": str(model["model_id"]), "license": "Apache-2.0",
        "links": [{"rel": "self", "href": f"/v2/models/{name}/"}],
    }  # fmt: skip


@router.get("/v2/")
def version() -> dict[str, Any]:
    """The version object."""
    links = [{"rel": "self", "href": "/v2/"}, {"rel": "describedby", "href": "/swagger.json"}]
    return {"id": "v2", "version": "stable", "links": links}


@router.get("/v2/models/")
def models(request: Request) -> dict[str, Any]:
    """All models."""
    return {"models": [_metadata(model) for model in service_of(request).models()]}


@router.get("/v2/models/{name}/")
def model(request: Request, name: str) -> dict[str, Any]:
    """One model."""
    return _metadata(_model(service_of(request), name))


async def _form(request: Request) -> tuple[dict[str, str], dict[str, Part]]:
    """Plain fields (of the address, too) and files."""
    body = await read_body(request, service_of(request).limits.body_bytes)
    fields, files = dict(request.query_params), {}
    for part in parts_of(request.headers.get("content-type", ""), body):
        if part.filename is None:
            fields[part.name] = part.data.decode("utf-8", "replace")
        else:
            files[part.name] = part
    return fields, files


@router.post("/v2/models/{name}/predict/")
async def predict(request: Request, name: str) -> JSONResponse:
    """One image, in the field ``image``; ``topk`` classes, best first."""
    service = service_of(request)
    await asyncio.to_thread(_model, service, name)
    fields, files = await _form(request)
    if "image" not in files:
        raise Problem(
            422, "the field 'image' is missing: expected a file", errors={"image": ["Missing data for required field."]}
        )
    topk = fields.get("topk", "5")
    if not re.fullmatch(r"[0-9]{1,4}", topk) or not 1 <= int(topk) <= 1000:
        raise Problem(422, f"topk: expected a whole number from 1 to 1000, got {topk[:20]!r}")
    batcher = await asyncio.to_thread(service.batcher, name)
    found = await asyncio.wrap_future(batcher.submit(files["image"].data))
    if found.failure is not None:
        raise Problem(422, found.failure)
    return JSONResponse(as_deepaas(found, batcher, service.taxa(), int(topk)))


def _status(folder: JobFolder) -> dict[str, Any]:
    job, progress = folder.read(), folder.progress()
    found: dict[str, Any] = {
        "date": job.created_at.replace("T", " ").rstrip("Z"), "args": job.arguments.get("config", {}), "uuid": job.id,
        "status": STATUS[job.state],
    }  # fmt: skip
    if job.state == "done":
        found["result"] = {"output": folder.result(), "finish_date": str(job.ended_at).replace("T", " ").rstrip("Z")}
    elif job.state == "failed":
        found["message"] = job.reason
    elif progress is not None and not job.ended:
        found["progress"] = {"step": progress.step, "done": progress.done, "total": progress.total}
    return found


def _training(service: Service, name: str, job_id: str) -> JobFolder:
    folder = service.jobs.folder(job_id)
    if not _is_training(service, folder.read(), name):
        raise NotFound(f"no training {job_id!r} of model {name!r}")
    return folder


def _is_training(service: Service, job: Job, name: str) -> bool:
    given = job.arguments
    return (
        job.kind == "train"
        and not given.get("estimate_only")
        and given.get("config", {}).get("model") == service.model_key(name)
    )


@router.post("/v2/models/{name}/train/")
async def train(request: Request, name: str) -> JSONResponse:
    """A training on the network of a model: a zip with one folder a class in the field ``images``, and ``mode``,
    ``balance``, ``name``, ``epochs``."""
    service = service_of(request)
    await asyncio.to_thread(_model, service, name)
    fields, files = await _form(request)
    if "images" not in files:
        raise Problem(422, "the field 'images' is missing: expected a zip with one folder of images a class")
    config: dict[str, Any] = {"model": name}
    for key in ("mode", "balance", "name"):
        if fields.get(key):
            config[key] = fields[key]
    if fields.get("epochs"):
        if not re.fullmatch(r"[0-9]{1,4}", fields["epochs"]):
            raise Problem(422, f"epochs: expected a whole number, got {fields['epochs'][:20]!r}")
        config["epochs"] = int(fields["epochs"])
    upload = await asyncio.to_thread(service.uploads.create, "train")
    await asyncio.to_thread((upload.data / "images.zip").write_bytes, files["images"].data)
    arguments = {"upload": upload.id, "config": config}
    job = await asyncio.to_thread(submit, service, "train", f"Training of {name}", arguments)
    return JSONResponse(_status(service.jobs.folder(job.id)))


@router.get("/v2/models/{name}/train/")
def trainings(request: Request, name: str) -> list[dict[str, Any]]:
    """All trainings of a model, as a bare list."""
    service = service_of(request)
    return [_status(service.jobs.folder(job.id)) for job in service.jobs.all() if _is_training(service, job, name)]


@router.get("/v2/models/{name}/train/{uuid}")
def training(request: Request, name: str, uuid: str) -> dict[str, Any]:
    """One training."""
    return _status(_training(service_of(request), name, uuid))


@router.delete("/v2/models/{name}/train/{uuid}")
def cancel(request: Request, name: str, uuid: str) -> dict[str, Any]:
    """Cancels a training."""
    service = service_of(request)
    folder = _training(service, name, uuid)
    service.runner.cancel(uuid)
    return {**_status(folder), "status": "cancelled"}


@router.get("/swagger.json")
def swagger(request: Request) -> dict[str, Any]:
    """The Swagger 2.0 description that the platform's page is made from: one operation ``predict`` with an image, and
    ``labels`` with ``probabilities`` out."""
    name = str(service_of(request).models()[0]["name"])
    image = {
        "name": "image", "in": "formData", "type": "file", "required": True,
        "description": "an image of one particle (JPEG, PNG, TIFF or BMP)",
    }  # fmt: skip
    topk = {
        "name": "topk", "in": "formData", "type": "integer", "default": 5, "minimum": 1, "maximum": 20, "required": False,
        "description": "how many classes are given",
    }  # fmt: skip
    images = {
        "name": "images", "in": "formData", "type": "file", "required": True,
        "description": "a zip with one folder a class #noparse",
    }  # fmt: skip
    choices = [
        {"name": key, "in": "formData", "type": "string", "enum": list(values), "default": values[0], "required": False}
        for key, values in TRAIN_CHOICES.items()
    ]
    response = {
        "type": "object",
        "properties": {
            "status": {"type": "string"}, "labels": {"type": "array", "items": {"type": "string"}},
            "probabilities": {"type": "array", "items": {"type": "number"}},
            "aphia_ids": {"type": "array", "items": {"type": "integer"}}, "decision": {"type": "string"},
            "reason": {"type": "string"}, "model": {"type": "string"}, "model_id": {"type": "string"},
        },
    }  # fmt: skip
    answer = {"200": {"description": "OK", "schema": {"$ref": "#/definitions/ModelPredictionResponse"}}}
    base = f"/v2/models/{name}"
    form = {"consumes": ["multipart/form-data"], "produces": ["application/json"]}
    done = {"200": {"description": "OK"}}
    return {
        "swagger": "2.0", "info": {"title": "plankter", "version": "v2"}, "basePath": "/",
        "definitions": {"ModelPredictionResponse": response},
        "paths": {
            "/v2/models/": {"get": {"summary": "All models", "produces": ["application/json"], "responses": done}},
            f"{base}/": {"get": {"summary": "One model", "produces": ["application/json"], "responses": done}},
            f"{base}/predict/": {"post": {"summary": "Classify an image", "parameters": [image, topk], "responses": answer, **form}},
            f"{base}/train/": {
                "post": {"summary": "Train on your images", "parameters": [images, *choices], "responses": done, **form},
                "get": {"summary": "All trainings", "produces": ["application/json"], "responses": done},
            },
        },
    }  # fmt: skip
