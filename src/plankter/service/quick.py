"""The short way of `POST /api/v1/predict`, which is asked more often than everything else together.

The route of `api_predict` and its description stand behind it: what is not asked in the plain form goes on to there, and both
answer with the same function. This way leaves out what a framework does for each request: routing, dependencies, validation.
"""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from plankter._errors import PlankterError
from plankter.service.api_predict import answer
from plankter.service.problems import Problem, of_error, problem_response
from plankter.service.state import Service
from plankter.vignettes.codec import DEFAULT_LIMITS

PATH = "/api/v1/predict"
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@lru_cache(1_000)
def plain_query(query: bytes) -> tuple[str | None, int, bool] | None:
    """Model, classes in ``top`` and whether all scores are given; None where the query is not plain."""
    model, top, scores = None, 5, True
    seen = set()
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in seen:
            return None
        seen.add(name)
        if name == "model" and len(value) <= 200:
            model = value
        elif name == "top" and value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= 1_000:
            top = int(value)
        elif name == "scores" and value in ("true", "false"):
            scores = value == "true"
        else:
            return None
    return model, top, scores


class Route:
    """What the counters call the way of a request."""

    path = PATH


class Quick:
    """Stands before the framework, behind `Guard`.

    Args:
        base: the workspace's folder, for errors.
    """

    def __init__(self, app: ASGIApp, base: Path) -> None:
        self.app, self.base = app, base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        query = plain_query(scope["query_string"])
        if query is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = Route
        try:
            image = await self._image(scope["app"].state.service, receive, *query)
        except Problem as problem:
            await problem_response(Request(scope), problem)(scope, receive, send)
        except PlankterError as error:
            await problem_response(Request(scope), of_error(error, self.base))(scope, receive, send)
        else:
            if image is not None:
                await _send_json(send, image)

    async def _image(
        self, service: Service, receive: Receive, model: str | None, top: int, scores: bool
    ) -> dict[str, Any] | None:
        body = await _body(receive, min(service.limits.body_bytes, DEFAULT_LIMITS.max_bytes))
        if body is None:
            return None
        found = await answer(service, [("", body)], model, top, scores)
        image: dict[str, Any] = found["images"][0]
        if image["failure"] is not None:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, image["failure"], code="image")
        return image


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The body of a request; None where whoever asked has gone."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise Problem(413, f"a request holds {limit:,} bytes at most", hint="use an upload and a job for more")
        parts.append(part)
        if not message.get("more_body", False):
            break
    if not size:
        raise Problem(422, "the request has no body; send the image itself")
    return b"".join(parts)


async def _send_json(send: Send, facts: dict[str, Any]) -> None:
    body = _ENCODE(facts).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
