"""Images of somebody's database: GridFS, binary fields, paths and addresses below a root. Nothing leaves the root."""

from __future__ import annotations

import posixpath
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from plankter.formats.mapped_values import Unfit, value_at
from plankter.formats.mapping_file import ImageMapping
from plankter.store.mongodb_connect import Document
from plankter.store.source_database import SourceDatabase, id_text

MAX_IMAGE_BYTES = 64_000_000
BATCH_BYTES = 16_000_000
BATCH_IMAGES = 200
TIMEOUT_S = 30
TRIES = 3
NO_IMAGE, DEAD, OUTSIDE = "no image is named", "the image is not there", "the image lies outside the root"
TOO_LARGE, ODD = "the image is too large", "the image field holds something else"

Found = bytes | Unfit | None


def read_images(source: SourceDatabase, documents: Sequence[Document]) -> Iterator[Found]:
    """The encoded image of each document in their order: bytes, why not, or None where none is named."""
    image = source.mapping.image
    if image is None:
        yield from (None for _ in documents)
        return
    for start in range(0, len(documents), BATCH_IMAGES):
        part = documents[start : start + BATCH_IMAGES]
        if image.kind in ("gridfs", "binary"):
            read = _gridfs if image.kind == "gridfs" else _binary
            with source.errors():
                found = read(source, image, part)
                for document in part:
                    yield _counted(source, found(document))
        else:
            fetch = _file if image.kind == "path" else _fetched
            for document in part:
                yield _counted(source, _one(fetch, image, value_at(document, image.field)))


def _counted(source: SourceDatabase, found: Found) -> Found:
    if isinstance(found, bytes):
        source.images_read += 1
        source.read_bytes += len(found)
        source.throttle.spent(0, len(found))
    return found


def _one(fetch: Any, image: ImageMapping, reference: Any) -> Found:
    if reference is None or reference == "":
        return None
    if not isinstance(reference, str):
        return Unfit(ODD, reference)
    try:
        return bytes(fetch(image.root, reference))
    except Unfit as unfit:
        return unfit


# -- within the database
def _binary(source: SourceDatabase, image: ImageMapping, documents: Sequence[Document]) -> Any:
    sizes = {id_text(d["_id"]): int((d.get("_image") or {}).get("size") or 0) for d in documents}
    wanted = [d["_id"] for d in documents if sizes[id_text(d["_id"])]]

    def read(document: Document) -> Found:
        key = id_text(document["_id"])
        if not sizes[key]:
            kind = (document.get("_image") or {}).get("type")
            return None if kind in (None, "missing", "null") else Unfit(ODD, kind)
        value = value_at(held.pop(key, {}) if key in held else _next(key), image.field)
        return bytes(value) if isinstance(value, bytes) else Unfit(DEAD, key)

    # documents of up to 16 MB each come one by one, in whatever order the server likes
    held: dict[str, Document] = {}
    cursor = iter(source.documents.find({"_id": {"$in": wanted}}, {image.field: 1}).sort("_id", 1).batch_size(4))

    def _next(key: str) -> Document:
        for document in cursor:
            if id_text(document["_id"]) == key:
                return document
            held[id_text(document["_id"])] = document
            if len(held) > BATCH_IMAGES:
                break
        return {}

    return read


def _gridfs(source: SourceDatabase, image: ImageMapping, documents: Sequence[Document]) -> Any:
    references = {id_text(d["_id"]): value_at(d, image.field) for d in documents}
    named = [r for r in references.values() if r is not None and not isinstance(r, dict | list | bytes)]
    files = {file["_id"]: file for file in source.of(f"{image.bucket}.files").find({"_id": {"$in": list(set(named))}})}
    names = [r for r in named if isinstance(r, str) and r not in files]
    by_name: dict[str, Any] = {}
    if names:  # by file name: the newest of that name
        for file in source.of(f"{image.bucket}.files").find({"filename": {"$in": names}}).sort("uploadDate", 1):
            by_name[file["filename"]] = file
    held: dict[Any, bytes] = {}
    order = [file for r in named if (file := files.get(r) or by_name.get(r)) is not None]

    def load(first: Any) -> None:
        """Reads a file and those that come next, up to a batch of bytes, with one question."""
        held.clear()
        ids: list[Any] = []
        size = 0
        start = next(n for n, file in enumerate(order) if file["_id"] == first)
        for file in order[start:]:
            length = int(file.get("length") or 0)
            if ids and (size + length > BATCH_BYTES or length > MAX_IMAGE_BYTES):
                break
            ids.append(file["_id"])
            size += length
        chunks = source.of(f"{image.bucket}.chunks").find({"files_id": {"$in": ids}}).sort([("files_id", 1), ("n", 1)])
        parts: dict[Any, list[bytes]] = {}
        for chunk in chunks:
            parts.setdefault(chunk["files_id"], []).append(bytes(chunk.get("data") or b""))
        held.update({key: b"".join(pieces) for key, pieces in parts.items()})

    def read(document: Document) -> Found:
        reference = references[id_text(document["_id"])]
        if reference is None or reference == "":
            return None
        if isinstance(reference, dict | list | bytes):
            return Unfit(ODD, reference)
        file = files.get(reference) or by_name.get(reference)
        if file is None:
            return Unfit(DEAD, reference)
        if int(file.get("length") or 0) > MAX_IMAGE_BYTES:
            return Unfit(TOO_LARGE, file.get("length"))
        if file["_id"] not in held:
            load(file["_id"])
        data = held.get(file["_id"], b"")
        return data if data and len(data) == file.get("length") else Unfit("the GridFS file is incomplete", reference)

    return read


# -- below a folder
def _file(root: str, reference: str) -> bytes:
    if "\x00" in reference:
        raise Unfit(OUTSIDE, reference)
    base = Path(root).resolve()
    try:
        path = (base / reference.replace("\\", "/")).resolve()
        if not path.is_relative_to(base) or path == base:
            raise Unfit(OUTSIDE, reference)
        if not path.is_file():
            raise Unfit(DEAD, reference)
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise Unfit(TOO_LARGE, reference)
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a share that is gone, a circle of links
        raise Unfit(DEAD, f"{reference}: {error}") from None


# -- below an address
def url_below(root: str, reference: str) -> str:
    """The address of an image below ``root``.

    Raises:
        Unfit: another scheme, host or folder, whatever it is dressed as.
    """
    if any(ord(letter) < 33 for letter in reference) or "\\" in reference:
        raise Unfit(OUTSIDE, reference)
    base = urlsplit(root if root.endswith("/") else root + "/")
    try:
        found = urlsplit(urljoin(base.geturl(), reference))
        same = (found.scheme, found.hostname, found.port) == (base.scheme, base.hostname, base.port)
        path = found.path
        for _ in range(3):  # %2e%2e and %252e are dots, too
            path = unquote(path)
        inside = posixpath.normpath(path).startswith(base.path if base.path != "/" else "/")
    except ValueError:
        raise Unfit(OUTSIDE, reference) from None
    if not same or found.username or found.password or ".." in path.split("/") or not inside:
        raise Unfit(OUTSIDE, reference)
    query = f"?{found.query}" if found.query else ""
    return f"{base.scheme}://{base.netloc}{quote(found.path, safe='/%')}{query}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetched(root: str, reference: str) -> bytes:
    url = url_below(root, reference)
    opener = urllib.request.build_opener(_NoRedirect)
    for turn in range(TRIES):
        try:
            with opener.open(url, timeout=TIMEOUT_S) as answer:
                data: bytes = answer.read(MAX_IMAGE_BYTES + 1)
            if len(data) > MAX_IMAGE_BYTES:
                raise Unfit(TOO_LARGE, reference)
            return data
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 or turn == TRIES - 1:
                raise Unfit(f"{DEAD} (HTTP {error.code})", reference) from None
        except (OSError, HTTPException) as error:
            if turn == TRIES - 1:
                raise Unfit("the address of the image does not answer", f"{reference}: {error}") from None
        time.sleep(0.2 * 4**turn)
    raise AssertionError("not reached")
