"""Random forests and boosted trees as plain arrays: fitted by scikit-learn, predicted without it."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.calibrate import Calibration
from plankter.classify.head import FloatArray, softmax
from plankter.classify.models import HEAD_FILE, read_model_json

MAX_FOREST_BYTES = 2_000_000_000
FOREST, BOOSTING = "forest", "boosting"
LEAF = -1
ROWS = 64  # images at a time: trees * rows numbers are in work at once
SMALLEST_SCORE = 1e-4  # a class that no tree votes for is unlikely, not impossible
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Trees:
    """All trees in one set of arrays, every child behind its parent.

    Attributes:
        roots: int32 (trees,) first node of each.
        feature: int16 (nodes,) column that is asked, `LEAF` in a leaf.
        threshold: float32 (nodes,): up to it the left child, else the right one.
        left, right: int32 (nodes,), the node itself in a leaf.
        start: int32 (nodes + 1,): what a leaf says is at start[node] : start[node + 1] of the next two.
        said_class: int16 (m,) and said_value: float32 (m,), summed over the trees.
        baseline: float32 (classes,) added to the sums.
        kind: `FOREST`: the sums over the number of trees are scores; `BOOSTING`: they are logits.
    """

    roots: Int32
    feature: npt.NDArray[np.int16]
    threshold: FloatArray
    left: Int32
    right: Int32
    start: Int32
    said_class: npt.NDArray[np.int16]
    said_value: FloatArray
    baseline: FloatArray
    kind: str

    def __post_init__(self) -> None:
        nodes, said = len(self.feature), len(self.said_class)
        own = np.arange(nodes)
        leaf = self.feature == LEAF
        children = (self.left, self.right)
        fits = (
            nodes > 0 and len(self.roots) > 0 and self.kind in (FOREST, BOOSTING)
            and all(part.shape == (nodes,) for part in (self.threshold, *children))
            and self.start.shape == (nodes + 1,) and self.said_value.shape == (said,) and self.baseline.ndim == 1
        )  # fmt: skip
        if not fits:
            raise ValueError("the arrays of the trees do not fit each other")
        inside = (
            self.roots.min() >= 0 and self.roots.max() < nodes and self.feature.min() >= LEAF
            and all((c[leaf] == own[leaf]).all() and (c[~leaf] > own[~leaf]).all() and c.max() < nodes for c in children)
            and self.start[0] == 0 and self.start[-1] == said and (np.diff(self.start) >= 0).all()
            and (said == 0 or (self.said_class.min() >= 0 and self.said_class.max() < len(self.baseline)))
            and np.isfinite(self.said_value).all() and np.isfinite(self.baseline).all()
        )  # fmt: skip
        if not inside:
            raise ValueError("the trees point outside themselves, or say what is no number")

    def sums(self, columns: FloatArray) -> npt.NDArray[np.float64]:
        """float32 (n, columns) without NaN -> (n, classes) what the leaves say, summed."""
        classes = len(self.baseline)
        out = np.empty((len(columns), classes))
        for start in range(0, len(columns), ROWS):
            part = columns[start : start + ROWS]
            rows = np.arange(len(part))[:, None]
            node = np.broadcast_to(self.roots, (len(part), len(self.roots)))
            while True:
                asked = self.feature[node]
                if (asked == LEAF).all():
                    break
                # in a leaf both children are the leaf itself: whichever column -1 picks does not matter
                node = np.where(part[rows, asked] <= self.threshold[node], self.left[node], self.right[node])
            first, length = self.start[node].ravel(), (self.start[node + 1] - self.start[node]).ravel()
            whose = np.repeat(np.repeat(np.arange(len(part)), len(self.roots)), length)
            ends = np.cumsum(length)
            entry = np.arange(int(ends[-1])) + np.repeat(first - ends + length, length)
            place = whose * classes + self.said_class[entry]
            said = np.bincount(place, weights=self.said_value[entry], minlength=len(part) * classes)
            out[start : start + ROWS] = said.reshape(len(part), classes) + self.baseline
        return out


@dataclass(frozen=True)
class Inputs:
    """What the trees see: the embedding's principal components, then the measures.

    Attributes:
        mean: float32 (dim,), components: float32 (dim, q) of the embeddings; q is 0 where only measures count.
        measures: names of the measures, in the order of the columns.
        median: float32 (measures,) of the training images, which takes the place of a missing value.
    """

    mean: FloatArray
    components: FloatArray
    measures: tuple[str, ...]
    median: FloatArray

    def __post_init__(self) -> None:
        dim, _ = self.components.shape
        if self.mean.shape != (dim,) or self.median.shape != (len(self.measures),):
            raise ValueError(f"mean {self.mean.shape} and components {self.components.shape} do not fit")
        if not all(np.isfinite(part).all() for part in (self.mean, self.components, self.median)):
            raise ValueError("the inputs of the trees must be finite")

    @property
    def width(self) -> int:
        """Columns that the trees see."""
        return self.components.shape[1] + len(self.measures)

    def columns(
        self, embeddings: npt.NDArray[np.floating], measures: npt.NDArray[np.floating] | None = None
    ) -> FloatArray:
        """float (n, dim) embeddings and (n, measures) -> float32 (n, columns); no measures at all: all are missing."""
        n, q = len(embeddings), self.components.shape[1]
        out = np.empty((n, self.width), np.float32)
        out[:, :q] = (embeddings.astype(np.float32, copy=False) - self.mean) @ self.components
        if measures is None:
            measures = np.full((n, len(self.measures)), np.nan)
        if measures.shape != (n, len(self.measures)):
            raise ValueError(f"expected ({n}, {len(self.measures)}) measures, got {measures.shape}")
        with np.errstate(over="ignore"):
            values = measures.astype(np.float32)
        out[:, q:] = np.where(np.isfinite(values), values, self.median)
        return out


def fit_inputs(
    embeddings: npt.NDArray[np.floating],
    measures: npt.NDArray[np.floating] | None,
    names: tuple[str, ...],
    *,
    components: int = 50,
) -> Inputs:
    """Principal components of the training images' embeddings, medians of their measures.

    Args:
        embeddings: float (n, dim).
        measures: (n, names), None where they are not used; those that no image has are left out.
        names: of the measures.
        components: at most; 0 leaves the embeddings out.
    """
    n, dim = embeddings.shape
    q = max(0, min(components, dim, n - 1))
    mean = np.zeros(dim)
    axes = np.zeros((dim, q))
    if q:
        mean = embeddings.mean(axis=0, dtype=np.float64)
        scatter = np.zeros((dim, dim))
        for start in range(0, n, 4096):
            away = embeddings[start : start + 4096] - mean
            scatter += away.T @ away
        axes = np.linalg.eigh(scatter)[1][:, ::-1][:, :q]
    kept: list[int] = []
    median = np.zeros(0)
    if measures is not None:
        known = np.isfinite(measures)
        kept = np.flatnonzero(known.any(axis=0)).tolist()
        median = np.array([np.median(measures[known[:, c], c]) for c in kept])
    return Inputs(
        mean.astype(np.float32), axes.astype(np.float32), tuple(names[c] for c in kept), median.astype(np.float32)
    )


@dataclass(frozen=True)
class Forest:
    """Trees with their inputs and calibration: a head like `Head`, for embeddings and measures."""

    inputs: Inputs
    trees: Trees
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if int(self.trees.feature.max()) >= self.inputs.width:
            raise ValueError(f"the trees ask for more than the {self.inputs.width} columns there are")

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return int(self.inputs.components.shape[0])

    @property
    def classes(self) -> int:
        """How many classes it scores."""
        return len(self.trees.baseline)

    def logits(
        self, embeddings: npt.NDArray[np.floating], measures: npt.NDArray[np.floating] | None = None
    ) -> npt.NDArray[np.float64]:
        """Before calibration, float (n, classes): of a forest the logarithm of its votes."""
        sums = self.trees.sums(self.inputs.columns(embeddings, measures))
        if self.trees.kind == BOOSTING:
            return sums
        votes = sums / len(self.trees.roots)
        return np.asarray(np.log((votes + SMALLEST_SCORE) / (1 + SMALLEST_SCORE * self.classes)))

    def scores(
        self, embeddings: npt.NDArray[np.floating], measures: npt.NDArray[np.floating] | None = None
    ) -> FloatArray:
        """float32 (n, classes) calibrated scores; each row adds up to 1."""
        logits = self.logits(embeddings, measures)
        return softmax((logits if self.calibration is None else self.calibration.apply(logits)).astype(np.float32))


def save_forest(path: Path, forest: Forest) -> None:
    """Writes a forest as `load_forest` reads it; measures' names and calibration stand in ``model.json``."""
    trees, inputs = forest.trees, forest.inputs
    parts = {name: getattr(trees, name) for name in Trees.__dataclass_fields__ if name != "kind"}
    np.savez_compressed(
        path, **parts, boosting=np.array(trees.kind == BOOSTING), pca_mean=inputs.mean,
        pca_components=inputs.components, median=inputs.median,
    )  # fmt: skip


def load_forest(folder: Path) -> Forest:
    """The forest of the model in ``folder``.

    Raises:
        ModelError: missing, damaged, or not fitting the classes, measures and backbone that ``model.json`` names.
    """
    facts = read_model_json(folder)
    path = folder / HEAD_FILE
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_FOREST_BYTES:
            raise ModelError(f"{unpacked:,} bytes unpacked are over the limit of {MAX_FOREST_BYTES:,}", path=path)
        measures = tuple(str(name) for name in (facts.get("inputs") or {}).get("measures", ()))
        with np.load(path, allow_pickle=False) as arrays:
            forest = _forest_of(arrays, measures, facts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected the arrays of a forest: {error}", path=path) from error
    dim, classes = (facts.get("backbone") or {}).get("dim"), len(facts.get("class_ids") or ())
    if (forest.dim, forest.classes) != (dim, classes):
        raise ModelError(
            f"fits {forest.dim} numbers and {forest.classes} classes, model.json says {dim} and {classes}", path=path
        )
    return forest


def _forest_of(arrays: Mapping[str, npt.NDArray[Any]], measures: tuple[str, ...], facts: Mapping[str, Any]) -> Forest:
    types = {
        "roots": np.int32, "feature": np.int16, "threshold": np.float32, "left": np.int32, "right": np.int32,
        "start": np.int32, "said_class": np.int16, "said_value": np.float32, "baseline": np.float32,
    }  # fmt: skip
    for name, kind in types.items():
        if arrays[name].dtype != kind or arrays[name].ndim != 1:
            raise ValueError(f"{name} must be {np.dtype(kind)} by one axis, got {arrays[name].dtype}")
    trees = Trees(**{name: arrays[name] for name in types}, kind=BOOSTING if bool(arrays["boosting"]) else FOREST)
    inputs = Inputs(
        arrays["pca_mean"].astype(np.float32), arrays["pca_components"].astype(np.float32), measures,
        arrays["median"].astype(np.float32),
    )  # fmt: skip
    kept = facts.get("calibration")
    calibration = None
    if kept is not None:
        temperature, bias = float(kept["temperature"]), kept.get("bias")
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if bias is not None and len(bias) != len(trees.baseline):
            raise ValueError(f"{len(bias)} biases do not fit {len(trees.baseline)} classes")
        calibration = Calibration(temperature, None if bias is None else tuple(float(b) for b in bias))
    return Forest(inputs, trees, calibration)


def calibrated(forest: Forest, calibration: Calibration | None) -> Forest:
    """The same forest with another calibration."""
    return replace(forest, calibration=calibration)
