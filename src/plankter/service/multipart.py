"""Forms with files (``multipart/form-data``, RFC 7578) from clients that send nothing else; within the limit of a body."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message

from plankter.service.problems import Problem

MAX_PARTS = 100
MAX_HEADER = 10_000


@dataclass(frozen=True)
class Part:
    """One field: its name, the name of its file (None for plain text), and what was sent."""

    name: str
    filename: str | None
    data: bytes


def parts_of(content_type: str, body: bytes) -> list[Part]:
    """The fields of a form.

    Raises:
        Problem: no such form, or one that is cut off.
    """
    boundary = _parameter("content-type", content_type, "boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary or len(boundary) > 200:
        raise Problem(415, "expected a form with files (multipart/form-data)")
    mark = b"--" + boundary.encode("latin-1", "replace")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise Problem(422, "the form is cut off: its end mark is missing")
    if len(pieces) > MAX_PARTS + 2:
        raise Problem(413, f"a form holds {MAX_PARTS} fields at most")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, found, data = piece.partition(b"\r\n\r\n")
    if not found or len(head) > MAX_HEADER:
        raise Problem(422, "a field of the form has no header")
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            field = _parameter("content-disposition", value.strip(), "name")
            if field:
                return Part(field, _parameter("content-disposition", value.strip(), "filename"), data)
    raise Problem(422, "a field of the form has no name")


def _parameter(header: str, value: str, name: str) -> str | None:
    message = Message()
    message[header] = value.replace("\r", " ").replace("\n", " ")
    found = message.get_param(name, header=header)
    return found if isinstance(found, str) else None
