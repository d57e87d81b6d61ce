"""The server as one ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from plankter.service import (
    api_data,
    api_jobs,
    api_predict,
    api_uploads,
    deepaas,
    pages,
    pages_analyse,
    pages_compare,
    pages_config,
    pages_drift,
    pages_evaluations,
    pages_jobs,
    pages_models,
    pages_runs,
    pages_sources,
    pages_train,
)
from plankter.service.access import Access, Guard
from plankter.service.metrics import Metrics, Telemetry
from plankter.service.problems import add_handlers
from plankter.service.quick import Quick
from plankter.service.sources import allowed_sources
from plankter.service.state import Limits, Service, running

log = logging.getLogger(__name__)
STATIC = Path(__file__).with_name("static")
DESCRIPTION = """Everything that the pages do, for scripts. Errors are RFC 9457 problem objects; lists come in pages with a
cursor (`next`); long work is a job. On another computer than the server's own, send `Authorization: Bearer TOKEN`."""


def create_app(
    workspace_folder: Path,
    *,
    loopback: bool = True,
    limits: Limits | None = None,
    announce: Callable[[str], None] = lambda token: None,
) -> FastAPI:
    """The application on one workspace.

    Args:
        workspace_folder: an existing workspace.
        loopback: the server can be reached from this computer alone; else everybody needs a token.
        limits: what it takes on.
        announce: told each new token for a browser.
    """
    folder, taken = workspace_folder.absolute(), limits or Limits()
    allowed_sources(taken.roots, taken.remote, taken.upload)  # so that a wrong one is said before anything starts
    metrics = Metrics()
    access = Access(loopback=loopback, announce=announce)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with running(folder, access, taken, metrics) as service:
            app.state.service = service
            announce(access.token)
            yield

    app = FastAPI(
        title="plankter", version=version("plankter"), description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )  # fmt: skip
    app.state.access = access
    add_handlers(app, folder)
    for module in (api_predict, api_uploads, api_jobs, api_data):
        app.include_router(module.router, prefix="/api/v1")
    for page in (
        pages, pages_analyse, pages_runs, pages_models, pages_evaluations, pages_compare, pages_drift, pages_jobs,
        pages_sources, pages_train, pages_config,
    ):  # fmt: skip
        app.include_router(page.router, include_in_schema=False)
    app.include_router(deepaas.router)
    _add_operation(app)
    _describe_problems(app)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Quick, base=folder)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Telemetry, metrics=metrics)  # outermost, so that refused requests are counted too
    return app


def _describe_problems(app: FastAPI) -> None:
    """Puts into the API's description what every route shares: errors are of their own content type, and a body that is no
    JSON is one (400)."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = described()
            shape = {"schema": {"$ref": "#/components/schemas/ProblemShape"}}
            for methods in found["paths"].values():
                for facts in methods.values():
                    if "application/json" in facts.get("requestBody", {}).get("content", {}):
                        facts["responses"]["400"] = {"description": "Bad Request"}
                    for status, answer in facts["responses"].items():
                        if status >= "400":
                            answer["content"] = {"application/problem+json": shape}
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _add_operation(app: FastAPI) -> None:
    @app.get("/health", include_in_schema=False)
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/ready", include_in_schema=False)
    async def ready(request: Request) -> JSONResponse:
        service: Service | None = getattr(request.app.state, "service", None)
        fine = service is not None and service.ready
        return JSONResponse({"status": "ready" if fine else "not ready"}, 200 if fine else 503)

    @app.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> PlainTextResponse:
        service: Service = request.app.state.service
        return PlainTextResponse(service.metrics.text(service), media_type="text/plain; version=0.0.4")
