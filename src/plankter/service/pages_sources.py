"""Where files come from when they are not uploaded: the folders that a page may choose from, and what a form asked for."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from plankter.service.pages import service_of
from plankter.service.sources import MAX_PATH, folder_facts

router = APIRouter()
ADDRESS_FIELDS = ("address", "endpoint", "region", "user", "password")


@router.get("/folders", response_class=HTMLResponse)
def folders(request: Request, at: Annotated[str, Query(max_length=MAX_PATH)] = "") -> HTMLResponse:
    """The part of a form in which a folder of the server is chosen."""
    service = service_of(request)
    return service.page(request, "_folders.html.j2", found=folder_facts(service.sources, at))


def source_of(form: dict[str, str]) -> dict[str, Any]:
    """The arguments of a job that say where its files come from: an upload, a folder of the server or an address."""
    found: dict[str, Any] = {name: form[name] for name in ("upload", "folder") if form.get(name)}
    if form.get("address"):
        found["remote"] = {name: form[name] for name in ADDRESS_FIELDS if form.get(name)}
    return found


def title_of(form: dict[str, str], otherwise: str) -> str:
    """What a job is called: as the form says, else by its folder or address."""
    given = form.get("title", "")
    if given:
        return given
    place = form.get("folder") or form.get("address", "")
    return PurePath(place.rstrip("/")).name[:100] or otherwise


def moved(request: Request, address: str) -> Response:
    """Sends the browser on: by htmx, or by the script of a form."""
    if request.headers.get("HX-Request"):
        return Response(headers={"HX-Redirect": address})
    return JSONResponse({"location": address})
