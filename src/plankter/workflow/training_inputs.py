"""Images -> the numbers a head is fitted on, in pieces that a killed training need not make again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError, ReadError
from plankter.features.measures_table import MEASURE_NAMES
from plankter.features.morphology import measure_many
from plankter.store.files import write_text
from plankter.vignettes.codec import decode_image
from plankter.workflow.engine import Engine
from plankter.workflow.progress import Progress
from plankter.workflow.training_data import TrainingImages

PIECE = 2_048
TRIED = 96  # images that an estimate is made from
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Numbers:
    """float32 (n, dim) embeddings and (n, measures), rows of NaN for images that failed; why they did, by row."""

    embeddings: Float32
    measures: Float32 | None
    failures: dict[int, str]


class _Kept:
    """One array on the disk with how far it is filled; what another backbone or other images left is begun anew."""

    def __init__(self, folder: Path, name: str, identity: str, shape: tuple[int, int], kind: type) -> None:
        self.path, self.mark, self.identity = folder / f"{name}.npy", folder / f"{name}.json", identity
        self.done, self.failures = 0, dict[int, str]()
        try:
            facts = json.loads(self.mark.read_text(encoding="utf-8"))
            if facts["identity"] == identity:
                self.array = np.lib.format.open_memmap(self.path, mode="r+")
                if self.array.shape == shape:
                    self.done = int(facts["done"])
                    self.failures = {int(row): str(why) for row, why in facts["failures"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.done = 0
        if not self.done:
            self.array = np.lib.format.open_memmap(self.path, mode="w+", dtype=kind, shape=shape)

    def piece(self, start: int, values: npt.NDArray[np.floating], failures: dict[int, str]) -> None:
        self.array[start : start + len(values)] = values
        self.array.flush()
        self.failures |= failures
        self.done = start + len(values)
        facts = {"identity": self.identity, "done": self.done, "failures": self.failures}
        write_text(self.mark, json.dumps(facts))


def embed(engine: Engine, images: TrainingImages, folder: Path, progress: Progress) -> tuple[Float32, dict[int, str]]:
    """Embeddings of all images, kept in ``folder`` as float16 like those of an archive.

    Returns:
        float32 (n, dim), NaN for a failure, and the reasons by row.
    """
    n = len(images.data)
    identity = f"{engine.model.backbone_hash} {engine.backbone.precision} {images.data.digest}"
    kept = _Kept(folder, "embeddings", identity, (n, engine.backbone.dim), np.float16)
    for start in range(kept.done, n, PIECE):
        rows = range(start, min(start + PIECE, n))
        values, failures = _embed_rows(engine, images, rows, progress)
        kept.piece(start, values, failures)
    progress("embeddings", n, n)
    return np.asarray(kept.array, np.float32), kept.failures


def _embed_rows(
    engine: Engine, images: TrainingImages, rows: Sequence[int], progress: Progress | None = None
) -> tuple[Float32, dict[int, str]]:
    failures: dict[int, str] = {}

    def tell(done: int, total: int | None) -> None:
        if progress is not None:
            progress("embeddings", rows[0] + done, len(images.data))

    result = engine.run(images.read(rows, failures), len(rows), k=1, progress=tell)
    values = np.full((len(rows), engine.backbone.dim), np.nan, np.float32)
    if result.embeddings is not None:
        values[result.index - rows[0]] = result.embeddings
    return values, failures | result.failures


def measure_all(images: TrainingImages, folder: Path, progress: Progress) -> Float32:
    """The measures of all images, (n, measures) with NaN where there is no image or no scale."""
    n = len(images.data)
    kept = _Kept(folder, "measures", images.data.digest, (n, len(MEASURE_NAMES)), np.float32)
    for start in range(kept.done, n, PIECE // 4):
        rows = range(start, min(start + PIECE // 4, n))
        kept.piece(start, _measure_rows(images, rows), {})
        progress("measures", rows[-1] + 1, n)
    return np.asarray(kept.array, np.float32)


def _measure_rows(images: TrainingImages, rows: Sequence[int]) -> Float32:
    values = np.full((len(rows), len(MEASURE_NAMES)), np.nan, np.float32)
    for row, data in images.read(rows, {}):
        try:
            image = decode_image(data, grey=True)
        except ImageError:
            continue
        scale = float(images.um_per_px[row])
        # as in prediction: the vignette alone, no instrument's mask, no fringe
        values[row - rows[0]] = measure_many([(image, None)], scale if np.isfinite(scale) else None, 0.0).values[0]
    return values


def seconds_to_embed(engine: Engine, images: TrainingImages) -> float:
    """How long `embed` will take, by some of the images."""
    n = len(images.data)
    rows = range(min(n, TRIED))
    _embed_rows(engine, images, rows[: min(n, 32)])  # the first batch also loads and plans
    started = time.monotonic()
    _embed_rows(engine, images, rows)
    return (time.monotonic() - started) / len(rows) * n


def seconds_to_measure(images: TrainingImages) -> float:
    """How long `measure_all` will take, by some of the images."""
    rows = range(min(len(images.data), TRIED))
    started = time.monotonic()
    _measure_rows(images, rows)
    return (time.monotonic() - started) / len(rows) * len(images.data)


def usable(images: TrainingImages, failures: dict[int, str]) -> npt.NDArray[np.int64]:
    """Rows without a failure; the others are added to the problems.

    Raises:
        ReadError: no image can be used.
    """
    for row, reason in sorted(failures.items()):
        images.problems.add("unreadable", images.data.names[row], f"cannot be used: {reason}")
    keep = np.setdiff1d(np.arange(len(images.data)), np.array(sorted(failures), np.int64)).astype(np.int64)
    if len(keep) == 0:
        raise ReadError(f"none of the {len(images.data)} images can be read: {next(iter(failures.values()), '')}")
    return keep
