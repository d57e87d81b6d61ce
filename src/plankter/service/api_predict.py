"""Predictions that are answered at once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from plankter.service.answers import in_order, many_as_object
from plankter.service.api_shapes import ImagePrediction, PredictAnswer, PredictMany, ProblemShape
from plankter.service.problems import Problem
from plankter.service.state import Service
from plankter.service.uploads import safe_name
from plankter.vignettes.codec import DEFAULT_LIMITS
from plankter.workflow.predict import IMAGE_SUFFIXES

router = APIRouter(tags=["predict"])
ModelQuery = Annotated[
    str | None, Query(description="name or id of a model; the workspace's where not given", max_length=200)
]
ScoresQuery = Annotated[bool, Query(description="whether the scores of all classes are given")]
TopQuery = Annotated[int, Query(ge=1, le=1_000, description="classes in `top`")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": ProblemShape}, 413: {"model": ProblemShape}, 422: {"model": ProblemShape},
}  # fmt: skip
MAX_RATIO = 200
FEW = 8  # images that come before those of larger sets
_ANY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    }
}  # fmt: skip


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Raises:
        Problem: longer than ``limit`` bytes, or empty.
    """
    said = request.headers.get("content-length", "")
    if re.fullmatch(r"[0-9]{1,18}", said) and int(said) > limit:
        raise Problem(413, f"a request holds {limit:,} bytes at most", hint="use an upload and a job for more")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Problem(413, f"a request holds {limit:,} bytes at most", hint="use an upload and a job for more")
        parts.append(part)
    if not size:
        raise Problem(422, "the request has no body; send the image itself")
    return b"".join(parts)


async def answer(
    service: Service,
    named: Sequence[tuple[str, bytes | str]],
    model: str | None,
    top: int,
    scores: bool,
) -> dict[str, Any]:
    """`PredictAnswer` for images in their order, each its bytes or why it could not even be read."""
    batcher = service.loaded_batcher(model)
    if batcher is None:
        batcher = await asyncio.to_thread(service.batcher, model)
    found = await batcher.predict([data for _, data in named if isinstance(data, bytes)], patient=len(named) > FEW)
    given = batcher, in_order(named, found), service.taxa(), top, scores
    if len(named) <= FEW:
        return many_as_object(*given)
    return await asyncio.to_thread(many_as_object, *given)  # else everybody else would wait for it


@router.post("/predict", responses={200: {"model": ImagePrediction}, **PROBLEMS}, openapi_extra=_ANY_BODY)
async def predict_one(
    request: Request, model: ModelQuery = None, top: TopQuery = 5, scores: ScoresQuery = True
) -> JSONResponse:
    """One image, sent as the body. An image that cannot be used is a problem (422)."""
    service: Service = request.app.state.service
    body = await read_body(request, min(service.limits.body_bytes, DEFAULT_LIMITS.max_bytes))
    found = await answer(service, [("", body)], model, top, scores)
    image: dict[str, Any] = found["images"][0]
    if image["failure"] is not None:
        raise Problem(422, image["failure"], code="image")
    return JSONResponse(image)


@router.post("/predict/many", responses={200: {"model": PredictAnswer}, **PROBLEMS})
async def predict_many(
    request: Request, body: PredictMany, model: ModelQuery = None, top: TopQuery = 5, scores: ScoresQuery = True
) -> JSONResponse:
    """Many images, each in base64. One that cannot be used is answered with its `failure`, beside the others."""
    service: Service = request.app.state.service
    named = await asyncio.to_thread(_decoded, body)
    return await asyncio.to_thread(JSONResponse, await answer(service, named, model, top, scores))


def _decoded(body: PredictMany) -> list[tuple[str, bytes | str]]:
    named: list[tuple[str, bytes | str]] = []
    for image in body.images:
        try:
            named.append((image.file, base64.b64decode(image.data, validate=True)))
        except (binascii.Error, ValueError):
            named.append((image.file, "expected base64"))
    return named


@router.post("/predict/zip", responses={200: {"model": PredictAnswer}, **PROBLEMS}, openapi_extra=_ANY_BODY)
async def predict_zip(
    request: Request, model: ModelQuery = None, top: TopQuery = 5, scores: ScoresQuery = True
) -> JSONResponse:
    """The images of a zip, sent as the body; nothing of it is kept. Larger ones: an upload and a job `analyse`."""
    service: Service = request.app.state.service
    body = await read_body(request, service.limits.body_bytes)
    limits = service.limits
    named = await asyncio.to_thread(images_of_zip, body, limits.images_at_once, limits.body_bytes)
    return await asyncio.to_thread(JSONResponse, await answer(service, named, model, top, scores))


def images_of_zip(body: bytes, max_images: int, max_bytes: int) -> list[tuple[str, bytes | str]]:
    """Name of each image in a zip, with its bytes or why it cannot be read. Nothing in it is believed, nothing touches
    the disk.

    Raises:
        Problem: no zip, or one over the limits.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as opened:
            members = list(_image_members(opened, max_images))
            total = sum(info.file_size for info in members)
            if total > max_bytes or total > MAX_RATIO * max(len(body), 100_000):
                raise Problem(413, f"the zip would unpack to {total:,} bytes; use an upload and a job for more")
            found: list[tuple[str, bytes | str]] = []
            for info in members:
                try:
                    with opened.open(info) as file:
                        data = file.read(info.file_size + 1)
                except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                    found.append((info.filename, f"the zip is damaged here: {error}"))
                    continue
                found.append((info.filename, data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Problem(422, f"expected a zip of images: {error}") from error
    if not found:
        raise Problem(422, f"the zip holds no image; expected {', '.join(IMAGE_SUFFIXES)}")
    return found


def _image_members(opened: zipfile.ZipFile, max_images: int) -> Iterator[zipfile.ZipInfo]:
    infos = opened.infolist()
    if len(infos) > 4 * max_images:
        raise Problem(
            413, f"the zip holds {len(infos):,} members; use an upload and a job for more than {max_images:,}"
        )
    count = 0
    for info in infos:
        name = info.filename.lower()
        if info.is_dir() or not name.endswith(IMAGE_SUFFIXES) or name.startswith("__macosx"):
            continue
        safe_name(info.filename)
        count += 1
        if count > max_images:
            raise Problem(413, f"{max_images:,} images are answered at once; use an upload and a job for more")
        yield info
