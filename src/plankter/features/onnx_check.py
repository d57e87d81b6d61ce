"""What a network's file may not do: name further files. ONNX can, by path, and the runtime would open them.

Reads the few fields of the ONNX protocol buffers (onnx/onnx.proto3) on the way to its tensors; nothing else is unpacked.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from plankter._errors import ModelError

MAX_NETWORK_BYTES = 2_000_000_000  # a protocol buffer cannot be larger
_MAX_DEPTH = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# message -> number of a field -> the message it holds; tensors are where paths stand
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external", 14: "place"},
}


def check_network_file(path: Path) -> None:
    """That an ONNX file stands alone.

    Raises:
        ModelError: missing, too large, not ONNX, or with tensors kept in other files.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_NETWORK_BYTES:
            raise ModelError(f"a network of {size:,} bytes; expected 1 to {MAX_NETWORK_BYTES:,}", path=path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            graphs = _check(data, 0, len(data), "model", 0)
    except OSError as error:
        raise ModelError(f"the network cannot be read: {error.strerror}", path=path) from error
    except (ValueError, IndexError) as error:
        raise ModelError(f"expected an ONNX network: {error}", path=path) from error
    if graphs == 0:
        raise ModelError("expected an ONNX network: it holds no graph", path=path)


def _check(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> int:
    """Number of messages below this one. Raises ModelError through `ValueError` for what is not of this form."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} levels")
    found = 0
    for number, kind, value, stop in _fields(data, start, end):
        inside = _FIELDS[message].get(number)
        if inside is None:
            continue
        if message == "tensor":
            if inside == "external" or value != 0:
                raise ValueError("a tensor lies in another file; a model must hold all of its network")
        elif kind != _BYTES:
            raise ValueError(f"field {number} of a {message} is of another kind")
        else:
            found += 1 + _check(data, value, stop, inside, depth + 1)
    return found


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, value (of bytes: where they begin) and end of each field."""
    at = start
    while at < end:
        key, at = _varint(data, at, end)
        kind, value = key & 7, at
        if kind == _VARINT:
            value, at = _varint(data, at, end)
        elif kind == _BYTES:
            length, value = _varint(data, at, end)
            at = value + length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {start}")
        if at > end:
            raise ValueError(f"a field at byte {value} is longer than its message")
        yield key >> 3, kind, value, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError(f"no number at byte {at}")
