"""How far an image lies from everything a model learnt from: so that what it never saw is offered as unknown."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.models import REFERENCE_FILE
from plankter.classify.products import product

MAX_REFERENCE_BYTES = 256_000_000
SAMPLE = 2_000
AXES = 64
RIDGE = 0.05  # share of the mean variance added to every axis: directions without variance say nothing
BLOCK = 4_096
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What is kept of the training images.

    Attributes:
        embeddings: float16 (m, dim) a class-balanced random sample, for drift and look-alikes.
        labels: int16 (m,) their classes.
        mix: float32 (classes,) shares of the classes in the whole training set.
        mean: float32 (dim,); components: float32 (dim, q); scale: float32 (q,): the axes between the classes, in which
            an embedding e is ((e - mean) @ components) / scale.
        centres: float32 (classes, q) means of the classes in these axes, NaN for a class without images.
    """

    embeddings: npt.NDArray[np.float16]
    labels: npt.NDArray[np.int16]
    mix: FloatArray
    mean: FloatArray
    components: FloatArray
    scale: FloatArray
    centres: FloatArray

    def __post_init__(self) -> None:
        m, dim = self.embeddings.shape
        classes, q = self.centres.shape
        fits = (
            self.labels.shape == (m,) and self.mix.shape == (classes,) and self.mean.shape == (dim,)
            and self.components.shape == (dim, q) and self.scale.shape == (q,)
        )  # fmt: skip
        if not fits or not (self.scale > 0).all() or (m and not 0 <= self.labels.min() <= self.labels.max() < classes):
            raise ValueError("the arrays of the reference do not fit each other")

    def axes(self, embeddings: npt.NDArray[np.floating]) -> FloatArray:
        """float (n, dim) -> float32 (n, q) in the whitened axes."""
        return product((embeddings - self.mean).astype(np.float32), self.components) / self.scale

    def distance(self, embeddings: npt.NDArray[np.floating]) -> FloatArray:
        """Mahalanobis distance to the nearest class, float32 (n,) (Lee et al. 2018, NeurIPS, with shared covariance)."""
        centres = self.centres[np.isfinite(self.centres).all(axis=1)]
        squares = (centres**2).sum(axis=1)
        out = np.empty(len(embeddings), np.float32)
        for start in range(0, len(embeddings), BLOCK):
            z = self.axes(embeddings[start : start + BLOCK].astype(np.float32))
            near = squares - 2 * z @ centres.T
            out[start : start + BLOCK] = np.sqrt(np.maximum(near.min(axis=1) + (z**2).sum(axis=1), 0))
        return out

    def save(self, folder: Path) -> None:
        """Writes ``reference.npz`` into a model's folder."""
        np.savez_compressed(
            folder / REFERENCE_FILE, embeddings=self.embeddings, labels=self.labels, mix=self.mix, mean=self.mean,
            components=self.components, scale=self.scale, centres=self.centres,
        )  # fmt: skip


def fit_reference(
    embeddings: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], classes: int, *, seed: int = 0
) -> Reference:
    """The reference of a training set.

    The axes are the directions that part the classes most against their spread within (Fisher), at most `AXES`.

    Args:
        embeddings: float (n, dim), all finite.
        labels: (n,).
        classes: how many there are; some may have no image.
        seed: of the sample.

    Raises:
        ValueError: fewer than two images.
    """
    n, dim = embeddings.shape
    if n < 2:
        raise ValueError("a reference needs two images at least")
    counts = np.bincount(labels, minlength=classes)
    centres = np.zeros((classes, dim))
    scatter = np.zeros((dim, dim))
    for c in np.flatnonzero(counts):
        mine = embeddings[labels == c].astype(np.float64)
        centres[c] = mine.mean(axis=0)
        mine -= centres[c]
        scatter += mine.T @ mine
    rows = _balanced_sample(labels, classes, seed)
    return reference_of(counts, centres, scatter, embeddings[rows], labels[rows])


def reference_of(
    counts: npt.NDArray[np.number],
    centres: npt.NDArray[np.float64],
    scatter: npt.NDArray[np.float64],
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
) -> Reference:
    """The reference from sums over a training set.

    Args:
        counts: (classes,) images.
        centres: (classes, dim) means of the classes.
        scatter: (dim, dim), as in `plankter.classify.lda.Statistics`.
        embeddings, labels: (m, dim) and (m,) of the sample that is kept.
    """
    n, present, dim = float(counts.sum()), counts > 0, centres.shape[1]
    mean = (counts[:, None] * centres).sum(axis=0) / n
    within = scatter / max(n - int(np.count_nonzero(present)), 1)
    within[np.diag_indices(dim)] += RIDGE * max(float(np.trace(within)) / dim, 1e-12)
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(values)
    spread = (centres[present] - mean) @ whiten
    _, _, axes = np.linalg.svd(spread, full_matrices=False)
    # k classes lie in k - 1 directions; what the decomposition gives beyond them is noise of its arithmetic
    components = whiten @ axes[: max(1, min(AXES, len(axes), int(present.sum()) - 1))].T
    placed = np.full((len(counts), components.shape[1]), np.nan)
    placed[present] = (centres[present] - mean) @ components
    return Reference(
        embeddings.astype(np.float16), labels.astype(np.int16), (counts / n).astype(np.float32),
        mean.astype(np.float32), components.astype(np.float32), np.ones(components.shape[1], np.float32),
        placed.astype(np.float32),
    )  # fmt: skip


def _balanced_sample(labels: npt.NDArray[np.integer], classes: int, seed: int) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    present = [rows for c in range(classes) if len(rows := np.flatnonzero(labels == c))]
    share = max(1, SAMPLE // len(present))
    chosen = [rng.choice(rows, min(share, len(rows)), replace=False) for rows in present]
    return np.sort(np.concatenate(chosen))


def load_reference(folder: Path) -> Reference | None:
    """The reference of the model in ``folder``, None where it has none.

    Raises:
        ModelError: damaged, or arrays that do not fit each other.
    """
    path = folder / REFERENCE_FILE
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_REFERENCE_BYTES:
            raise ModelError(f"{unpacked:,} bytes unpacked are over the limit of {MAX_REFERENCE_BYTES:,}", path=path)
        with np.load(path, allow_pickle=False) as arrays:
            return Reference(**{name: arrays[name] for name in Reference.__dataclass_fields__})
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"not the reference of a model: {error}", path=path) from error
