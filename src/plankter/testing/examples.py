"""Small made-up values that the contracts work on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from plankter.store.base import ParticleRows
from plankter.types import Annotation, Flag, Particles, Predictions, Run, Severity, Source, Verdict

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
CLASSES = ("Ciliophora", "Copepoda", "detritus")


def run_id_of(name: str) -> str:
    """A run_id for any name."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def example_run(name: str = "a", *, sample_id: str = "station 1", files: Mapping[str, str] | None = None) -> Run:
    """A run with every field that a store must keep."""
    return Run(
        run_id_of(name), sample_id, "flowcam", name, f"folder/{name}/{name}.lst", um_per_px=0.5, volume_imaged_ml=1.25,
        started_at=NOON, software="software 4.1", settings={"Camera/Gain": "7"}, files=files or {f"{name}.lst": "00"},
        flags=(Flag("odd", "something is odd: æøå", Severity.NOTE, "a.ctx", 3),), notes="a note",
    )  # fmt: skip


def example_rows(n: int, *, seed: int = 0) -> ParticleRows:
    """Sort keys of n particles; every third has no scale, every fifth no vignette, every tenth a failure."""
    rng = np.random.default_rng(seed)
    index = np.arange(n)
    esd = np.where(index % 3 == 1, np.nan, rng.integers(1, 40, n) / 4).astype(np.float32)
    there = index % 5 != 4
    return ParticleRows(
        width_px=rng.integers(1, 90, n).astype(np.int32),
        height_px=rng.integers(1, 90, n).astype(np.int32),
        esd_um=esd,
        area_um2=(esd * 2).astype(np.float32),
        has_vignette=there,
        has_mask=there & (index % 2 == 0),
        failure=tuple("the image is truncated" if i % 10 == 9 else None for i in range(n)),
    )


def example_predictions(
    name: str = "a", indices: tuple[int, ...] = (0, 1, 2), *, model_id: str = "m1", seed: int = 0
) -> Predictions:
    """The two best of three classes for some particles; scores repeat, so that ties occur."""
    rng = np.random.default_rng(seed)
    best = np.array([rng.permutation(3)[:2] for _ in indices], np.int16).reshape(-1, 2)
    first = (rng.integers(4, 9, len(indices)) / 8).astype(np.float32)
    scores = np.stack([np.minimum(first, 1), np.minimum(first, 1) / 4], axis=1)
    index = np.array(indices, np.int64)
    return Predictions(model_id, run_id_of(name), "f32", index, CLASSES, best, scores)


def example_fact(
    name: str = "a",
    index: int = 0,
    class_id: str | None = "Copepoda",
    verdict: Verdict = Verdict.CONFIRMED,
    *,
    source: Source = Source.PERSON,
    seconds: int = 0,
    by: str = "ada",
) -> Annotation:
    """Something said about a particle."""  # fmt: skip
    at = NOON + timedelta(seconds=seconds, microseconds=17)
    return Annotation(run_id_of(name), index, class_id, verdict, by, at, source, "m1", "detritus")


def example_particles(n: int) -> Particles:
    """n particles as an instrument lists them: text and number columns, unknown boxes and pages among them."""
    index = np.arange(n, dtype=np.int64)
    box = np.stack([index, index + 1, index % 7 + 2, index % 5 + 3], axis=1).astype(np.int32)
    box[index % 4 == 3] = -1
    features = {
        "raw_area": np.where(index % 3 == 2, np.nan, index * 1.5),
        "capture": np.array([f"c{i}" for i in index]),
    }
    return Particles(
        index,
        tuple(str(i + 1) for i in index),
        tuple(None if i % 4 == 3 else "page_000001.tif" for i in index),
        box,
        features,
        tuple("the image is truncated" if i % 10 == 9 else None for i in index),
    )
