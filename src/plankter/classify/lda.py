"""Linear discriminant analysis with shrinkage, in closed form from sums: no image is needed again to add a class.

Hastie, Tibshirani & Friedman 2009 (The elements of statistical learning), 4.3; the shrunk covariance is that of
Ledoit & Wolf 2004, (1 - s) S + s tr(S)/d I, with s chosen on images that were held back.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.selection import calibrated_loss

Float64 = npt.NDArray[np.float64]
SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.5, 0.8)
DEFAULT_SHRINKAGE = 0.3  # where no image is held back to choose by
BLOCK = 4_096  # rows whose products are summed in float32 before float64 takes over
MAX_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Statistics:
    """All that a linear discriminant needs to know of its training images.

    Attributes:
        class_ids: the classes.
        counts: float64 (classes,) images of each.
        means: float64 (classes, dim), 0 for a class without images.
        scatter: float64 (dim, dim), sum over all images of the outer product of their distance from their class mean.
    """

    class_ids: tuple[str, ...]
    counts: Float64
    means: Float64
    scatter: Float64

    def __post_init__(self) -> None:
        classes, dim = self.means.shape
        if len(self.class_ids) != classes or self.counts.shape != (classes,) or self.scatter.shape != (dim, dim):
            raise ValueError(
                f"{len(self.class_ids)} classes, counts {self.counts.shape}, means {self.means.shape} and scatter "
                f"{self.scatter.shape} do not fit"
            )
        if len(set(self.class_ids)) != classes:
            raise ValueError("a class is named twice")
        if not all(np.isfinite(part).all() for part in (self.counts, self.means, self.scatter)):
            raise ValueError("statistics must be finite")

    @property
    def dim(self) -> int:
        """Numbers of an embedding, context included."""
        return int(self.means.shape[1])


def gather(embeddings: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], class_ids: Sequence[str]) -> Statistics:
    """Sums over training images.

    Args:
        embeddings: float (n, dim).
        labels: (n,) positions in ``class_ids``.
        class_ids: the classes; those without images stay empty.

    Raises:
        ValueError: shapes that do not fit, labels outside the classes, or numbers that are not finite.
    """
    n, dim = embeddings.shape
    classes = len(class_ids)
    if labels.shape != (n,) or (n and not 0 <= labels.min() <= labels.max() < classes):
        raise ValueError(f"expected {n} labels in 0..{classes - 1}")
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    means = np.zeros((classes, dim))
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate(([0], np.cumsum(counts).astype(np.int64)))
    for c in np.flatnonzero(counts):
        rows = order[starts[c] : starts[c + 1]]
        for start in range(0, len(rows), BLOCK):
            means[c] += embeddings[rows[start : start + BLOCK]].sum(axis=0, dtype=np.float64)
        means[c] /= counts[c]
    if not np.isfinite(means).all():
        raise ValueError("embeddings must be finite")
    centres = means.astype(np.float32)
    scatter = np.zeros((dim, dim))
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        away = embeddings[part].astype(np.float32) - centres[labels[part]]
        scatter += away.T @ away
    return Statistics(tuple(class_ids), counts, means, scatter)


def combine(first: Statistics, second: Statistics) -> Statistics:
    """Statistics of both sets of images together; classes that only one knows are added behind the others.

    The result is what `gather` finds on all images at once (Chan, Golub & LeVeque 1979).

    Raises:
        ValueError: embeddings of different lengths.
    """
    if first.dim != second.dim:
        raise ValueError(f"embeddings of {first.dim} and of {second.dim} numbers cannot be combined")
    class_ids = first.class_ids + tuple(c for c in second.class_ids if c not in set(first.class_ids))
    place = {class_id: row for row, class_id in enumerate(class_ids)}
    counts, means = np.zeros(len(class_ids)), np.zeros((len(class_ids), first.dim))
    counts[: len(first.counts)], means[: len(first.counts)] = first.counts, first.means
    scatter = first.scatter + second.scatter
    for row, class_id in enumerate(second.class_ids):
        to, more = place[class_id], second.counts[row]
        if not more:
            continue
        away = second.means[row] - means[to]
        total = counts[to] + more
        if counts[to]:
            scatter = scatter + np.outer(away, away) * (counts[to] * more / total)
        means[to] += away * (more / total)
        counts[to] = total
    return Statistics(class_ids, counts, means, scatter)


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear head: logits are embeddings @ weight + bias.

    Attributes:
        weight: float32 (dim, classes).
        bias: float32 (classes,).
        setting: what was chosen, in words, for the record.
        held_out_loss: at that setting, None where nothing was held back.
        shrinkage: of a discriminant, None for other heads.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    setting: str
    held_out_loss: float | None = None
    shrinkage: float | None = None


def solve(found: Statistics, shrinkage: float, *, balanced: bool = False) -> LinearFit:
    """The discriminant at one shrinkage.

    Args:
        found: statistics of the training images; each class needs one at least.
        shrinkage: 0..1, the share of the sphere in the covariance.
        balanced: every class equally likely beforehand, instead of by its share of the training images.

    Raises:
        ValueError: a class without images, or a shrinkage outside 0..1.
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must be in 0..1, got {shrinkage}")
    if not (found.counts > 0).all():
        missing = found.class_ids[int(np.argmin(found.counts))]
        raise ValueError(f"class {missing!r} has no training image")
    covariance = (1 - shrinkage) / found.counts.sum() * found.scatter
    sphere = float(np.trace(found.scatter)) / found.counts.sum() / found.dim
    # with one image a class there is no scatter at all: the nearest mean decides
    covariance[np.diag_indices(found.dim)] += shrinkage * sphere if sphere > 0 else 1.0
    try:
        weight = np.linalg.solve(covariance, found.means.T)
    except np.linalg.LinAlgError:  # shrinkage 0 and fewer images than numbers
        weight = np.linalg.lstsq(covariance, found.means.T, rcond=None)[0]
    prior = np.full(len(found.counts), 1 / len(found.counts)) if balanced else found.counts / found.counts.sum()
    bias = -0.5 * (found.means.T * weight).sum(axis=0) + np.log(prior)
    # a shift that all classes share changes no score and keeps the numbers small enough for float16
    weight -= weight.mean(axis=1, keepdims=True)
    bias -= bias.mean()
    words = f"shrinkage {shrinkage:g}, priors {'balanced' if balanced else 'as in the training images'}"
    return LinearFit(weight.astype(np.float32), bias.astype(np.float32), words, shrinkage=shrinkage)


def fit_lda(
    found: Statistics,
    held_out: tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]] | None = None,
    *,
    balanced: bool = False,
    shrinkages: Sequence[float] = SHRINKAGES,
) -> LinearFit:
    """The discriminant at the shrinkage with the least `calibrated_loss` on images that were held back.

    Args:
        found: statistics of the training images.
        held_out: embeddings and labels of other images; without them the shrinkage is `DEFAULT_SHRINKAGE`.
        balanced: as in `solve`.
        shrinkages: those that are tried.

    Raises:
        ValueError: as in `solve`.
    """
    if held_out is None or not len(held_out[1]):
        return solve(found, DEFAULT_SHRINKAGE, balanced=balanced)
    embeddings, labels = held_out[0].astype(np.float32, copy=False), held_out[1]
    best: LinearFit | None = None
    for shrinkage in shrinkages:
        fitted = solve(found, shrinkage, balanced=balanced)
        loss = calibrated_loss(embeddings @ fitted.weight + fitted.bias, labels)
        if best is None or best.held_out_loss is None or loss < best.held_out_loss:
            best = replace(fitted, held_out_loss=loss)
    if best is None:
        raise ValueError("no shrinkage to try")
    return best


def save_statistics(path: Path, found: Statistics) -> None:
    """Keeps statistics, so that a class or new labels can be folded in later; the scatter as its lower triangle."""
    lower = found.scatter[np.tril_indices(found.dim)].astype(np.float32)
    np.savez(path, class_ids=np.array(found.class_ids), counts=found.counts, means=found.means, scatter=lower)


def load_statistics(path: Path) -> Statistics:
    """What `save_statistics` wrote.

    Raises:
        ModelError: missing, damaged, or no statistics.
    """
    hint = "train from all images again"
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES:
            raise ModelError(f"{unpacked:,} bytes unpacked are over the limit of {MAX_BYTES:,}", path=path)
        with np.load(path, allow_pickle=False) as kept:
            means = np.asarray(kept["means"], np.float64)
            dim = means.shape[1]
            scatter = np.zeros((dim, dim))
            scatter[np.tril_indices(dim)] = kept["scatter"]
            scatter += np.tril(scatter, -1).T
            class_ids = tuple(str(name) for name in kept["class_ids"])
            return Statistics(class_ids, np.asarray(kept["counts"], np.float64), means, scatter)
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected the statistics of a training: {error}", path=path, hint=hint) from error
