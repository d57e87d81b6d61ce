"""A portion of a run's particles: read, measured and packed in this process or in another one.

Between processes goes plain data: a head in JSON, then bytes. Kept light, because every worker process loads it.
"""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from plankter.features.measures_table import MEASURE_NAMES
from plankter.features.morphology import measure_many
from plankter.readers.base import Portion, PortionReader
from plankter.store.zip_members import Members, PackedPixels, pack_pixels
from plankter.types import Vignette
from plankter.vignettes.codec import encode_mask, encode_vignette
from plankter.vignettes.masks import own_mask

_HEAD = struct.Struct(">I")
_LISTS = ("index", "start", "offset", "length", "crc")


@dataclass(frozen=True)
class Job:
    """A portion with all that its measures need.

    Attributes:
        reader: module and name of the reader's class.
        portion: which particles, and what the reader needs to know of them.
        origins_px: x and y of each vignette in the camera frame, NaN where unknown.
        um_per_px: None where unknown.
        fringe_px: the instrument's fringe correction.
    """

    reader: tuple[str, str]
    portion: Portion
    origins_px: npt.NDArray[np.float64]
    um_per_px: float | None
    fringe_px: float


@dataclass(frozen=True)
class Measured:
    """What the archive keeps of the particles ``start`` to ``stop``.

    Attributes:
        start: first of them.
        stop: one past the last.
        pixels: vignettes and masks, packed.
        values: float32 (stop - start, k) measures.
        failure: particle -> why its vignette cannot be used.
    """

    start: int
    stop: int
    pixels: PackedPixels
    values: npt.NDArray[np.float32]
    failure: dict[int, str]


def measure_job(job: Job) -> Measured:
    """Reads and measures a portion; what the reader raises passes through."""
    module, name = job.reader
    reader: PortionReader = getattr(importlib.import_module(module), name)()
    vignettes = reader.portion_vignettes(job.portion)
    return measure_vignettes(job.portion.start, vignettes, job.origins_px, job.um_per_px, job.fringe_px)


def measure_vignettes(
    start: int,
    vignettes: Sequence[Vignette],
    origins_px: npt.NDArray[np.float64],
    um_per_px: float | None,
    fringe_px: float,
) -> Measured:
    """Masks, measures and packed images of neighbouring particles from ``start`` on."""
    masks = [own_mask(v.image) if v.image is not None and v.mask is None else v.mask for v in vignettes]
    pairs = [(v.image, mask) for v, mask in zip(vignettes, masks, strict=True)]
    values = measure_many(pairs, um_per_px, fringe_px, origins_px=origins_px).values
    images: list[tuple[int, bytes | None, bytes | None]] = []
    for vignette, mask in zip(vignettes, masks, strict=True):
        if vignette.image is not None and mask is not None:
            images.append((vignette.index, encode_vignette(vignette.image), encode_mask(mask)))
    failure = {v.index: v.failure for v in vignettes if v.failure is not None}
    return Measured(start, start + len(vignettes), pack_pixels(images), values, failure)


def send(stream: BinaryIO, head: Mapping[str, Any], *blobs: bytes) -> None:
    """Writes one message.

    Raises:
        OSError: the other side is gone.
    """
    text = json.dumps({"head": head, "bytes": [len(blob) for blob in blobs]}).encode("ascii")
    stream.write(_HEAD.pack(len(text)) + text)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """Reads one message; None where the other side is gone."""
    size = stream.read(_HEAD.size)
    if len(size) < _HEAD.size:
        return None
    text = stream.read(_HEAD.unpack(size)[0])
    if len(text) < _HEAD.unpack(size)[0]:
        return None
    found = json.loads(text)
    blobs = [stream.read(length) for length in found["bytes"]]
    if [len(blob) for blob in blobs] != found["bytes"]:
        return None
    return found["head"], blobs


def job_message(job: Job) -> tuple[dict[str, Any], bytes]:
    """A job as head and bytes."""
    head = {"reader": job.reader, "portion": asdict(job.portion), "um_per_px": job.um_per_px}
    return {**head, "fringe_px": job.fringe_px}, np.ascontiguousarray(job.origins_px, np.float64).tobytes()


def job_of(head: Mapping[str, Any], origins: bytes) -> Job:
    """What `job_message` made."""
    module, name = head["reader"]
    places = np.frombuffer(origins, np.float64).reshape(-1, 2)
    return Job((module, name), Portion(**head["portion"]), places, head["um_per_px"], head["fringe_px"])


def measured_message(measured: Measured) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """A result as head and bytes."""
    pixels = measured.pixels
    packs = {
        kind: {name: getattr(members, name) for name in _LISTS}
        for kind, members in (("vignettes", pixels.vignettes), ("masks", pixels.masks))
    }
    head = {"start": measured.start, "stop": measured.stop, "sha256": pixels.sha256, "size_px": pixels.size_px}
    head |= {**packs, "failure": list(measured.failure.items())}
    return head, pixels.vignettes.data, pixels.masks.data, measured.values.tobytes()


def measured_of(head: Mapping[str, Any], vignettes: bytes, masks: bytes, values: bytes) -> Measured:
    """What `measured_message` made."""
    first, second = (
        Members(data, **{name: tuple(head[kind][name]) for name in _LISTS})
        for kind, data in (("vignettes", vignettes), ("masks", masks))
    )
    pixels = PackedPixels(first, second, tuple(head["sha256"]), tuple((w, h) for w, h in head["size_px"]))
    rows = np.frombuffer(values, np.float32).reshape(-1, len(MEASURE_NAMES))
    return Measured(head["start"], head["stop"], pixels, rows, dict(head["failure"]))
