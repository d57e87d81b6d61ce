"""What goes wrong, said to people as a page and to scripts as RFC 9457 ``application/problem+json``."""

from __future__ import annotations

import logging
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from plankter._errors import (
    Conflict,
    DiskFull,
    ImageError,
    ModelError,
    NotFound,
    PlankterError,
    ReadError,
    SettingsError,
    StoreError,
)
from plankter.service.predicting import Busy
from plankter.store.files import is_full

log = logging.getLogger(__name__)
_STATUS: tuple[tuple[type[PlankterError], int], ...] = (
    (DiskFull, 507), (NotFound, 404), (Conflict, 409), (ImageError, 422), (ModelError, 422), (SettingsError, 422), (ReadError, 422),
    (StoreError, 503), (Busy, 503), (PlankterError, 422),
)  # fmt: skip


class Problem(Exception):
    """A request that is answered with a problem.

    Args:
        status: of HTTP.
        detail: what is wrong and what was expected.
        hint: what can be done.
        facts: further members of the JSON object.
    """

    def __init__(self, status: int, detail: str, *, hint: str | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint, self.facts = status, detail, hint, facts


def wants_json(path: str) -> bool:
    """Whether whoever asks for a path is a script."""
    return path.startswith(("/api/", "/v2", "/swagger.json", "/metrics", "/health", "/ready"))


def problem_response(request: Request, problem: Problem) -> Response:
    """A problem as JSON for scripts, as a page for people, as one line for a part of a page."""
    title = HTTPStatus(problem.status).phrase
    if wants_json(request.url.path):
        body = {"type": "about:blank", "title": title, "status": problem.status, "detail": problem.detail}
        body |= {"hint": problem.hint} if problem.hint else {}
        return JSONResponse(body | problem.facts, problem.status, media_type="application/problem+json")
    if request.headers.get("HX-Request") == "true":
        text = problem.detail + (f" ({problem.hint})" if problem.hint else "")
        return Response(text, problem.status, media_type="text/plain")
    found: Response = request.app.state.service.page(
        request, "problem.html.j2", problem.status, title=title, detail=problem.detail, hint=problem.hint,
        asked=request.url.query,
    )  # fmt: skip
    return found


def of_error(error: PlankterError, base: Path) -> Problem:
    """The problem that an error of plankter is; paths are told as they lie in the workspace."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    facts: dict[str, Any] = {"code": error.code}
    where = ""
    if error.path is not None:
        path = Path(error.path)
        known = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
        where = f"{known}: "
        facts["path"] = known
    if error.row is not None:
        facts["row"] = error.row
    return Problem(status, where + error.message, hint=error.hint, **facts)


def add_handlers(app: FastAPI, base: Path) -> None:
    """Every way in which a request can fail gets one of the answers above."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(request, error)

    async def plankter(request: Request, error: Exception) -> Response:
        assert isinstance(error, PlankterError)
        return problem_response(request, of_error(error, base))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = "There is nothing at this address." if error.status_code == 404 else str(error.detail)
        found = problem_response(request, Problem(error.status_code, detail))
        found.headers.update(error.headers or {})
        return found

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"where": [str(part) for part in e["loc"]], "message": e["msg"]} for e in error.errors()]
        detail = "; ".join(f"{'.'.join(e['where'][1:]) or 'body'}: {e['message']}" for e in errors[:5])
        return problem_response(request, Problem(422, detail, errors=errors))

    async def system(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        log.error("%s: %s", request.url.path, error)
        if is_full(error):
            found = DiskFull("the disk is full; nothing was half written", hint="free some space, then try again")
            return problem_response(request, of_error(found, base))
        return problem_response(request, Problem(503, f"the disk refused: {error.strerror}"))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # whoever asked has gone and reads nothing

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(PlankterError, plankter)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(OSError, system)
