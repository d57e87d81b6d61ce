"""The nouns: frozen, validated when made, no I/O. Names carry units; what is unknown is None or NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ImageArray = npt.NDArray[np.uint8]
NO_BOX = -1


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_utc(name: str, value: datetime | None) -> None:
    _check(value is None or value.utcoffset() == timedelta(0), f"{name} must be in UTC, got {value}")


class Severity(StrEnum):
    """How much a flag says against the data: nothing, something to look at, or do not publish."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Flag:
    """Something noteworthy about a run: a stable ``code``, and in plain words what it means for the data."""

    code: str
    message: str
    severity: Severity = Severity.WARNING
    file: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class Sample:
    """What makes a count an abundance. Every field but the id may be unknown."""

    sample_id: str
    station: str | None = None
    sampled_at: datetime | None = None  # UTC
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    depth_min_m: float | None = None
    depth_max_m: float | None = None
    volume_filtered_l: float | None = None
    concentrated_volume_ml: float | None = None
    net_mesh_um: float | None = None
    dilution_factor: float | None = None  # > 1: the imaged water was diluted that many times
    environment: Mapping[str, float | str] = field(default_factory=dict)  # e.g. {"temperature_degC": 12.1}

    def __post_init__(self) -> None:
        _check(bool(self.sample_id.strip()), "sample_id is empty")
        _check_utc("sampled_at", self.sampled_at)
        lat, lon = self.latitude_deg, self.longitude_deg
        _check(lat is None or -90 <= lat <= 90, f"latitude_deg {lat} is outside -90..90")
        _check(lon is None or -180 <= lon <= 180, f"longitude_deg {lon} is outside -180..180")
        for name in ("volume_filtered_l", "concentrated_volume_ml", "net_mesh_um", "dilution_factor"):
            value = getattr(self, name)
            _check(value is None or (math.isfinite(value) and value > 0), f"{name} must be above 0, got {value}")
        object.__setattr__(self, "environment", MappingProxyType(dict(self.environment)))


@dataclass(frozen=True)
class Run:
    """One run of an instrument. ``volume_imaged_ml`` is None where quantities must not be derived."""

    run_id: str  # first 16 hex digits of the SHA-256 of the identity file
    sample_id: str
    instrument: str  # "flowcam", "ifcb", ...
    name: str
    source: str  # where it was read from
    um_per_px: float | None = None
    volume_imaged_ml: float | None = None
    started_at: datetime | None = None  # UTC
    started_at_local: str | None = None  # as written, where the zone is unknown
    software: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # the instrument's own, "Section/Key" -> text
    files: Mapping[str, str] = field(default_factory=dict)  # relative name -> SHA-256
    flags: tuple[Flag, ...] = ()
    notes: str | None = None

    def __post_init__(self) -> None:
        _check(
            len(self.run_id) == 16 and set(self.run_id) <= set("0123456789abcdef"),
            f"run_id must be 16 hex digits, got {self.run_id!r}",
        )
        _check_utc("started_at", self.started_at)
        for name in ("um_per_px", "volume_imaged_ml"):
            value = getattr(self, name)
            _check(value is None or (math.isfinite(value) and value > 0), f"{name} must be above 0, got {value}")
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))


@dataclass(frozen=True)
class Particles:
    """One run's particles by column, in the order of the instrument's list.

    Attributes:
        index: int64 (n,), 0..n-1: the identity of a particle within its run.
        label: the instrument's own number of each particle, as text.
        page: name of the image file that holds each vignette, None where there never was one.
        box: int32 (n, 4): x, y, width, height in the page, px; all ``NO_BOX`` where unknown.
        features: the instrument's own columns, name -> float64 or text array (n,).
        failure: why a vignette cannot be used, None where it can (or where it never existed).
    """

    index: npt.NDArray[np.int64]
    label: tuple[str, ...]
    page: tuple[str | None, ...]
    box: npt.NDArray[np.int32]
    features: Mapping[str, Array]
    failure: tuple[str | None, ...]

    def __post_init__(self) -> None:
        n = len(self.index)
        _check(bool(np.array_equal(self.index, np.arange(n))), "index must be 0..n-1 in order")
        _check(self.box.shape == (n, 4), f"box must be ({n}, 4), got {self.box.shape}")
        for name in ("label", "page", "failure"):
            _check(len(getattr(self, name)) == n, f"{name} has {len(getattr(self, name))} rows, expected {n}")
        for name, column in self.features.items():
            _check(column.shape == (n,), f"feature {name} has shape {column.shape}, expected ({n},)")
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Vignette:
    """One particle's pixels. ``image`` is None where it failed (``failure`` says why) or never existed."""

    index: int
    image: ImageArray | None  # (h, w) grey or (h, w, 3) BGR
    mask: npt.NDArray[np.bool_] | None = None  # (h, w), the instrument's own
    failure: str | None = None

    def __post_init__(self) -> None:
        if self.image is not None and self.mask is not None:
            _check(self.mask.shape == self.image.shape[:2], f"particle {self.index}: mask and image differ in size")


@dataclass(frozen=True)
class ImportedLabel:
    """A class somebody gave a particle in the instrument's software."""

    index: int
    class_name: str
    classification: str


@dataclass(frozen=True)
class Taxon:
    """One entry of the class list; labels and predictions refer to ``class_id`` only."""

    class_id: str
    name: str
    aphia_id: int | None = None
    qualifier: str | None = None  # "colony", "egg", ...
    kind: str = "living"  # living | non-living | artefact | unknown
    parent: str | None = None
    merged_into: str | None = None

    def __post_init__(self) -> None:
        _check(bool(self.class_id) and bool(self.name), "class_id and name must not be empty")
        _check(self.kind in ("living", "non-living", "artefact", "unknown"), f"unknown kind {self.kind!r}")
        _check(self.aphia_id is None or self.aphia_id > 0, f"aphia_id must be positive, got {self.aphia_id}")


@dataclass(frozen=True)
class Predictions:
    """A model's best classes for each particle of a run, best first.

    Attributes:
        index: int64 (n,) particles that were predicted (those with a usable vignette).
        class_ids: every class the model knows.
        best: int16 (n, k) positions in ``class_ids``.
        scores: float32 (n, k), falling along a row, each in 0..1.
    """

    model_id: str
    run_id: str
    precision: str  # "f32", "bf16", "int8": what the numbers were computed in
    index: npt.NDArray[np.int64]
    class_ids: tuple[str, ...]
    best: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.index)
        _check(len(set(self.class_ids)) == len(self.class_ids), "duplicate entries in class_ids")
        _check(self.best.ndim == 2 and len(self.best) == n, f"best must have {n} rows, got {self.best.shape}")
        _check(self.scores.shape == self.best.shape, f"scores {self.scores.shape} and best {self.best.shape} differ")
        if n:
            _check(self.best.min() >= 0 and self.best.max() < len(self.class_ids), "best points outside class_ids")
            _check(bool(np.all(np.isfinite(self.scores))), "scores must be finite")

    def __len__(self) -> int:
        return len(self.index)


class Verdict(StrEnum):
    """What an annotation says of the label that stood before."""

    CONFIRMED = "confirmed"
    CORRECTED = "corrected"
    UNSURE = "unsure"
    WITHDRAWN = "withdrawn"


class Source(StrEnum):
    """Where an annotation comes from."""

    PERSON = "person"
    IMPORT = "import"
    RULE = "rule"


@dataclass(frozen=True)
class Annotation:
    """One fact: somebody said this about that particle. Never changed, never deleted."""

    run_id: str
    index: int
    class_id: str | None
    verdict: Verdict
    annotator: str
    at: datetime  # UTC
    source: Source = Source.PERSON
    on_model_id: str | None = None  # the prediction that was looked at
    on_class_id: str | None = None

    def __post_init__(self) -> None:
        _check(self.index >= 0, f"index must be 0 or more, got {self.index}")
        _check(bool(self.annotator.strip()), "annotator is empty")
        _check(self.at is not None, "at is missing")
        _check_utc("at", self.at)
        named = self.verdict in (Verdict.CONFIRMED, Verdict.CORRECTED)
        _check(not named or bool(self.class_id), f"a {self.verdict} annotation needs a class_id")


@dataclass(frozen=True)
class StandingLabel:
    """What holds of a particle after all its annotations: class_id None with verdict UNSURE is an open question."""

    class_id: str | None
    verdict: Verdict
    annotator: str
    at: datetime
    source: Source


def standing_label(annotations: Iterable[Annotation]) -> StandingLabel | None:
    """Folds the annotations of one particle, in the order they were appended, into its standing label.

    A person outranks an import, an import a rule: a later fact of a lower rank changes nothing. WITHDRAWN takes back
    the latest standing fact of the same source, so that undo is one more fact and what stood before stands again.

    Returns:
        The standing label, None where nothing stands.
    """
    rank = (Source.PERSON, Source.IMPORT, Source.RULE)
    stacks: dict[Source, list[Annotation]] = {source: [] for source in rank}
    for annotation in annotations:
        stack = stacks[annotation.source]
        if annotation.verdict is not Verdict.WITHDRAWN:
            stack.append(annotation)
        elif stack:
            stack.pop()
    for source in rank:
        if stacks[source]:
            last = stacks[source][-1]
            return StandingLabel(last.class_id, last.verdict, last.annotator, last.at, last.source)
    return None


@dataclass(frozen=True)
class Model:
    """A classifier as a folder of plain files, by its content.

    ``backbone_hash`` and ``preprocessing`` are what its head was fitted on; others are refused.
    """

    model_id: str  # first 16 hex digits of the SHA-256 over its files
    name: str
    folder: Path
    backbone: str
    backbone_hash: str
    preprocessing: str
    input_px: int
    class_ids: tuple[str, ...]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(len(set(self.class_ids)) == len(self.class_ids), "duplicate entries in class_ids")
        _check(self.input_px > 0, f"input_px must be above 0, got {self.input_px}")
