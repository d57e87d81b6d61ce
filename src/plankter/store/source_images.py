"""Images of somebody's database: GridFS, binary fields, paths and addresses below a root. Nothing leaves the root."""

from __future__ import annotations

import posixpath
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from plankter.formats.mapped_values import Unfit, value_at
from plankter.formats.mapping_file import ImageMapping
from plankter.store.mongodb_connect import Document
from plankter.store.source_database import SourceDatabase, id_of, id_text, is_reference

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
            with source.errors():
                for found in _gridfs(source, image, part) if image.kind == "gridfs" else _binary(source, image, part):
                    yield _counted(source, found)
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


def exists(source: SourceDatabase, image: ImageMapping, document: Document, files: Mapping[Any, str]) -> bool | None:
    """Whether an image is there, without reading it; None where none is named. An address is only looked at.

    Args:
        source: an open one.
        image: its mapping.
        document: a light one.
        files: GridFS files that are there, by id.

    Raises:
        Unfit: the reference cannot be one.
    """
    if image.kind == "binary":
        look = document.get("_image") or {}
        if look.get("size"):
            return True
        if look.get("type") in _NOTHING:
            return None
        raise Unfit(ODD, look.get("type"))
    reference = value_at(document, image.field)
    if reference is None or reference == "":
        return None
    if image.kind == "gridfs":
        if not is_reference(reference):
            raise Unfit(ODD, reference)
        return reference in files or (isinstance(reference, str) and _named(source, image, reference))
    if not isinstance(reference, str):
        raise Unfit(ODD, reference)
    if image.kind == "url":
        return bool(url_below(image.root, reference))
    return _below(image.root, reference).is_file()


def _named(source: SourceDatabase, image: ImageMapping, name: str) -> bool:
    with source.errors():
        return source.of(f"{image.bucket}.files").find_one({"filename": name}, {"_id": 1}) is not None


# -- within the database
_NOTHING = (None, "missing", "null", "undefined", "binData")


class _Batches:
    """Bytes by key, read so many at a time, in the order in which they will be asked for."""

    def __init__(self, sizes: Sequence[tuple[Any, int]], read: Callable[[list[Any]], dict[Any, bytes]]) -> None:
        self._sizes, self._read = sizes, read
        self._at = {key: place for place, (key, _) in reversed(list(enumerate(sizes)))}
        self._held: dict[Any, bytes] = {}

    def get(self, key: Any) -> bytes | None:
        if key not in self._held:
            wanted, total = [key], 0
            for other, size in self._sizes[self._at[key] :]:
                total += size
                if total > BATCH_BYTES:
                    break
                if other != key:
                    wanted.append(other)
            self._held = self._read(wanted)
        return self._held.get(key)


def _binary(source: SourceDatabase, image: ImageMapping, documents: Sequence[Document]) -> Iterator[Found]:
    looks = [document.get("_image") or {} for document in documents]

    def read(ids: list[Any]) -> dict[Any, bytes]:
        found = source.documents.find({"_id": {"$in": [id_of(key) for key in ids]}}, {image.field: 1}).batch_size(8)
        values = ((id_text(document["_id"]), value_at(document, image.field)) for document in found)
        return {key: bytes(value) for key, value in values if isinstance(value, bytes)}

    sizes = [(id_text(d["_id"]), int(look.get("size") or 0)) for d, look in zip(documents, looks, strict=True)]
    held = _Batches([entry for entry in sizes if entry[1]], read)
    for (key, size), look in zip(sizes, looks, strict=True):
        if size:
            yield held.get(key) or Unfit(DEAD, key)
        elif look.get("type") in _NOTHING:
            yield None
        else:
            yield Unfit(ODD, look.get("type"))


def _gridfs(source: SourceDatabase, image: ImageMapping, documents: Sequence[Document]) -> Iterator[Found]:
    references = [value_at(document, image.field) for document in documents]
    named = [r for r in references if r != "" and is_reference(r)]
    of_files = source.of(f"{image.bucket}.files")
    files = {file["_id"]: file for file in of_files.find({"_id": {"$in": list(set(named))}})}
    names = [r for r in named if isinstance(r, str) and r not in files]
    for file in of_files.find({"filename": {"$in": names}}).sort("uploadDate", 1) if names else ():
        files[file["filename"]] = file  # the newest of that name

    def read(ids: list[Any]) -> dict[Any, bytes]:
        parts: dict[Any, list[bytes]] = {}
        of_chunks = source.of(f"{image.bucket}.chunks")
        for chunk in of_chunks.find({"files_id": {"$in": ids}}).sort([("files_id", 1), ("n", 1)]):
            parts.setdefault(chunk["files_id"], []).append(bytes(chunk.get("data") or b""))
        return {key: b"".join(pieces) for key, pieces in parts.items()}

    sizes = [(files[r]["_id"], _length(files[r])) for r in named if r in files and _length(files[r]) <= MAX_IMAGE_BYTES]
    held = _Batches(sizes, read)
    for reference in references:
        if reference is None or reference == "":
            yield None
        elif not is_reference(reference):
            yield Unfit(ODD, reference)
        elif reference not in files:
            yield Unfit(DEAD, reference)
        elif _length(files[reference]) > MAX_IMAGE_BYTES:
            yield Unfit(TOO_LARGE, reference)
        else:
            data = held.get(files[reference]["_id"])
            whole = data and len(data) == _length(files[reference])
            yield data if whole else Unfit("the GridFS file is incomplete", reference)


def _length(file: Document) -> int:
    length = file.get("length")
    return int(length) if isinstance(length, int | float) else 0


# -- below a folder
def _below(root: str, reference: str) -> Path:
    """The file that a path names, links followed.

    Raises:
        Unfit: it lies outside the root.
    """
    if "\x00" in reference:
        raise Unfit(OUTSIDE, reference)
    try:
        base = Path(root).resolve()
        path = (base / reference.replace("\\", "/")).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a circle of links
        raise Unfit(DEAD, f"{reference}: {error}") from None
    if not path.is_relative_to(base) or path == base:
        raise Unfit(OUTSIDE, reference)
    return path


def _file(root: str, reference: str) -> bytes:
    path = _below(root, reference)
    try:
        if not path.is_file():
            raise Unfit(DEAD, reference)
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise Unfit(TOO_LARGE, reference)
        return path.read_bytes()
    except OSError as error:  # a name too long, a share that is gone
        raise Unfit(DEAD, f"{reference}: {error.strerror}") from None


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
