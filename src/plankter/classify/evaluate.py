"""How good predictions are: pure numbers, no files drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import ReadError
from plankter.taxa.classes import match_name

ECE_BINS = 15
SMALLEST_SCORE = 1e-7  # a score of 0 in float32 would make the log loss infinite


@dataclass(frozen=True)
class ClassQuality:
    """One class: precision is 0 where it was never predicted, recall and F1 are NaN where no image is of it."""

    class_id: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_predictions` found. Shares are 0..1; macro figures are over the classes present.

    Attributes:
        confusion: int64 (classes, classes), true by row, predicted by column.
    """

    images: int
    classes: int
    top1: float
    top3: float
    top5: float
    macro_f1: float
    weighted_f1: float
    balanced_accuracy: float
    log_loss: float
    ece: float
    per_class: tuple[ClassQuality, ...]
    confusion: npt.NDArray[np.int64]


def evaluate_predictions(true: npt.ArrayLike, scores: npt.NDArray[np.floating], class_ids: Sequence[str]) -> Evaluation:
    """Compares scores with the true classes.

    Of equal scores the earlier class counts as the better one, as in `Head.top`. F1 of a class is
    2 TP / (predicted + support); its macro mean, and balanced accuracy (the mean recall), go over the classes with
    images, the weighted mean by their number. The log loss is the mean of -ln(score of the true class).

    Args:
        true: (n,) positions in ``class_ids``.
        scores: (n, classes) calibrated scores in 0..1.
        class_ids: names of the columns.

    Raises:
        ValueError: nothing to compare, or shapes, classes or scores that do not fit.
    """
    truth = np.asarray(true)
    n, classes = len(truth), len(class_ids)
    if n == 0:
        raise ValueError("there are no images to evaluate")
    if scores.shape != (n, classes):
        raise ValueError(f"scores must be ({n}, {classes}), got {scores.shape}")
    if truth.ndim != 1 or not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= classes:
        raise ValueError(f"true must be whole numbers in 0..{classes - 1}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    own = scores[np.arange(n), truth]
    earlier = np.arange(classes)[None, :] < truth[:, None]
    rank = ((scores > own[:, None]) | ((scores == own[:, None]) & earlier)).sum(axis=1)
    predicted = scores.argmax(axis=1)
    confusion = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    per_class = _per_class(confusion, class_ids)
    present = [quality for quality in per_class if quality.support]
    return Evaluation(
        images=n,
        classes=len(present),
        top1=float(np.mean(rank < 1)),
        top3=float(np.mean(rank < 3)),
        top5=float(np.mean(rank < 5)),
        macro_f1=float(np.mean([q.f1 for q in present])),
        weighted_f1=float(np.average([q.f1 for q in present], weights=[q.support for q in present])),
        balanced_accuracy=float(np.mean([q.recall for q in present])),
        log_loss=float(-np.mean(np.log(np.clip(own.astype(np.float64), SMALLEST_SCORE, 1.0)))),
        ece=expected_calibration_error(scores.max(axis=1), predicted == truth),
        per_class=per_class,
        confusion=confusion.astype(np.int64),
    )


def _per_class(confusion: npt.NDArray[np.integer], class_ids: Sequence[str]) -> tuple[ClassQuality, ...]:
    right, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    found = []
    for c, class_id in enumerate(class_ids):
        tp, s, p = int(right[c]), int(support[c]), int(predicted[c])
        recall, f1 = (tp / s, 2 * tp / (s + p)) if s else (float("nan"), float("nan"))
        found.append(ClassQuality(class_id, tp / p if p else 0.0, recall, f1, s, p))
    return tuple(found)


def expected_calibration_error(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], bins: int = ECE_BINS
) -> float:
    """Mean distance between confidence and accuracy over equal-width bins of confidence, weighted by their images.

    Bins are (lower, upper] as in Guo et al. 2017 (On calibration of modern neural networks, ICML), eq. 3.

    Args:
        confidence: (n,) highest score of each image, 0..1.
        right: (n,) whether that class is the true one.
        bins: how many.
    """
    where = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    sums = np.bincount(where, weights=confidence, minlength=bins)
    hits = np.bincount(where, weights=right, minlength=bins)
    return float(np.abs(sums - hits).sum() / len(confidence))


def folder_classes(folder: Path, class_ids: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Which class each folder in ``folder`` holds: exact names first, else after ``/`` to ``+``, blank to ``_``, lower case.

    Returns:
        Folder name -> class_id, and the names of the folders of no known class; hidden folders are left out.

    Raises:
        ReadError: ``folder`` cannot be listed.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise ReadError(f"expected a folder that holds one folder a class: {error.strerror}", path=folder) from error
    matched: dict[str, str] = {}
    unknown = []
    for name in names:
        class_id = match_name(name, class_ids)
        if class_id is None:
            unknown.append(name)
        else:
            matched[name] = class_id
    return matched, unknown
