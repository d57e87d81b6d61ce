"""How quality changes with the score that is asked for: calibration, thresholds, coverage. Pure numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter.classify.evaluate import ECE_BINS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
THRESHOLDS = (0.0, 0.5, 0.75, 0.9, 0.95)
CURVE_POINTS = tuple(round(0.05 * k, 2) for k in range(20))


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose best score lies in (low, high]; mean score and share right are NaN where there are none."""

    low: float
    high: float
    images: int
    mean_score: float
    right: float


def reliability_bins(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], bins: int = ECE_BINS
) -> tuple[ReliabilityBin, ...]:
    """The bins behind `expected_calibration_error`: what the model promised beside what it kept.

    Args:
        confidence: (n,) score of the best class, 0..1.
        right: (n,) whether it is the true one.
        bins: how many, of equal width; an image on a border belongs to the lower one.
    """
    sure = confidence.astype(np.float64)
    where = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(where, minlength=bins)
    sums, hits = np.bincount(where, weights=sure, minlength=bins), np.bincount(where, weights=right, minlength=bins)
    found = []
    for b in range(bins):
        n = int(images[b])
        mean, share = (float(sums[b] / n), float(hits[b] / n)) if n else (float("nan"), float("nan"))
        found.append(ReliabilityBin(b / bins, (b + 1) / bins, n, mean, share))
    return tuple(found)


def thresholded_confusion(true: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], threshold: float) -> Ints:
    """The confusion matrix of images whose best score reaches a threshold, with a last column for those below it.

    Returns:
        int64 (classes, classes + 1), true by row.
    """
    classes = scores.shape[1]
    said = np.where(scores.max(axis=1) >= threshold, scores.argmax(axis=1), classes)
    flat = np.bincount(np.asarray(true, np.int64) * (classes + 1) + said, minlength=classes * (classes + 1))
    return flat.reshape(classes, classes + 1).astype(np.int64)


@dataclass(frozen=True)
class ClassCurve:
    """One class against the lowest score at which it is given, at the points of ``thresholds``.

    Precision is NaN where nothing is given; recall and F1 are NaN where no image is of the class.
    """

    thresholds: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    given: Ints


def class_curve(
    true: npt.NDArray[np.integer],
    scores: npt.NDArray[np.floating],
    position: int,
    points: tuple[float, ...] = CURVE_POINTS,
) -> ClassCurve:
    """Precision, recall and F1 of one class where it is given only from a score on, if it is also the best class."""
    best, top = scores.argmax(axis=1), scores.max(axis=1)
    mine, support = best == position, int(np.sum(np.asarray(true) == position))
    own, hit = top[mine], np.asarray(true)[mine] == position
    given = np.array([int(np.sum(own >= t)) for t in points], np.int64)
    hits = np.array([int(np.sum(hit & (own >= t))) for t in points], np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(given > 0, hits / given, np.nan)
        recall = hits / support if support else np.full(len(points), np.nan)
        f1 = 2 * hits / (given + support) if support else np.full(len(points), np.nan)
    return ClassCurve(np.array(points), precision, np.asarray(recall), np.asarray(f1), given)


@dataclass(frozen=True)
class CutOff:
    """The lowest score from which on a class reaches a precision, and what is left there."""

    score: float
    precision: float
    recall: float
    given: int


def cut_off(
    true: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], position: int, target_precision: float
) -> CutOff | None:
    """The cut-off of one class for a target precision as counted on these images; None where no score reaches it.

    It is a figure of these images, without the caution for few of them that `fit_thresholds` takes.
    """
    truth = np.asarray(true)
    best, top = scores.argmax(axis=1), scores.max(axis=1)
    rows = np.flatnonzero(best == position)
    rows = rows[np.argsort(-top[rows], kind="stable")]
    if len(rows) == 0:
        return None
    hits, given = np.cumsum(truth[rows] == position), np.arange(1, len(rows) + 1)
    whole = np.append(top[rows][1:] < top[rows][:-1], True)  # images of one score pass or fail together
    enough = np.flatnonzero((hits / given >= target_precision) & whole)
    if len(enough) == 0:
        return None
    last = int(enough[-1])
    support = int(np.sum(truth == position))
    recall = float(hits[last] / support) if support else float("nan")
    return CutOff(float(top[rows[last]]), float(hits[last] / given[last]), recall, int(given[last]))


@dataclass(frozen=True)
class Coverage:
    """One point of coverage against precision: images whose best score reaches ``threshold``.

    Attributes:
        coverage: their share of all.
        precision: the share of them that is right; NaN where there are none.
        macro_precision: mean precision of the classes with images that are still given; NaN where there are none.
    """

    threshold: float
    coverage: float
    precision: float
    macro_precision: float


def coverage_curve(
    true: npt.NDArray[np.integer],
    scores: npt.NDArray[np.floating],
    points: tuple[float, ...] = (*CURVE_POINTS, 0.98, 0.99, 0.995, 0.999),
) -> tuple[Coverage, ...]:
    """What is gained and lost by keeping only images of high scores."""
    truth, best, top = np.asarray(true), scores.argmax(axis=1), scores.max(axis=1)
    right, classes, found = best == truth, scores.shape[1], []
    there = np.bincount(truth, minlength=classes) > 0
    for t in points:
        kept = top >= t
        given = np.bincount(best[kept], minlength=classes)
        hits = np.bincount(best[kept & right], minlength=classes)
        some = (given > 0) & there
        precision = float(right[kept].mean()) if kept.any() else float("nan")
        macro = float(np.mean(hits[some] / given[some])) if some.any() else float("nan")
        found.append(Coverage(t, float(kept.mean()), precision, macro))
    return tuple(found)
