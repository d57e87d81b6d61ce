"""All figures of an evaluation as one object of plain JSON: what a report shows and what a script reads are the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter.classify.breakdowns import by_class_size, by_group, confused_pairs, in_top
from plankter.classify.evaluate import SMALLEST_SCORE, Evaluation, evaluate_predictions, expected_calibration_error
from plankter.classify.evaluation_curves import (
    THRESHOLDS,
    class_curve,
    coverage_curve,
    cut_off,
    reliability_bins,
    thresholded_confusion,
)
from plankter.classify.resampling import (
    Interval,
    bootstrap,
    class_weights,
    figures_of,
    stratified_share,
    weighted_confusion,
    wilson,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TARGET_PRECISIONS = (0.9, 0.95)
DIGITS = 5


@dataclass(frozen=True)
class Evaluated:
    """Scores beside the truth, and what else is known of the images and the classes.

    Attributes:
        true: (n,) positions in ``class_ids``.
        scores: (n, classes) calibrated.
        training_images: (classes,) images each class was fitted on; 0 where unknown.
        mix: (classes,) shares or counts of another class mix; None for the mix of the images.
        groups: name of a column -> group of each image, None where it has none.
    """

    true: npt.NDArray[np.integer]
    scores: npt.NDArray[np.floating]
    class_ids: tuple[str, ...]
    training_images: tuple[int, ...]
    mix: npt.NDArray[np.floating] | None = None
    groups: Mapping[str, Sequence[str | None]] = field(default_factory=dict)


def summarise(given: Evaluated) -> dict[str, Any]:
    """Everything `evaluate_predictions` says and more, as JSON; NaN is null, shares are 0..1.

    Raises:
        ValueError: as `evaluate_predictions`.
    """
    plain = evaluate_predictions(given.true, given.scores, given.class_ids)
    intervals = _intervals(given)
    found: dict[str, Any] = {
        "images": plain.images,
        "classes": plain.classes,
        "figures": _figures(given, intervals),
        "mean_score": float(given.scores.max(axis=1).mean()),
        "reweighted": _reweighted(given, intervals),
        "reliability": [asdict(entry) for entry in _reliability(given)],
        "coverage": [asdict(point) for point in coverage_curve(given.true, given.scores)],
        "class_size": _sizes(given, plain),
        "per_class": _per_class(given, plain, intervals),
        "confusion": {"class_ids": list(given.class_ids), "cells": cells(plain.confusion)},
        "thresholded": [_thresholded(given, threshold) for threshold in THRESHOLDS],
        "pairs": [_pair(given, plain, pair) for pair in confused_pairs(plain.confusion)],
        "groups": {
            name: [asdict(group) for group in by_group(given.true, given.scores, groups)]
            for name, groups in given.groups.items()
        },
    }
    return dict(jsonable(found))


def jsonable(value: Any) -> Any:
    """Numbers of numpy as Python's own, rounded to `DIGITS` digits behind the point, NaN as None; by every level."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(inner) for inner in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round(float(value), DIGITS) if math.isfinite(value) else None
    return value


def cells(confusion: npt.NDArray[np.integer]) -> list[list[int]]:
    """[true, given, images] of every cell that is not 0, row by row."""
    rows, columns = np.nonzero(confusion)
    return [[int(r), int(c), int(confusion[r, c])] for r, c in zip(rows, columns, strict=True)]


def _share(right: npt.NDArray[np.bool_]) -> Interval:
    n, hits = len(right), int(right.sum())
    return Interval(hits / n, *wilson(hits, n), math.sqrt(hits / n * (1 - hits / n) / n))


def _intervals(given: Evaluated) -> dict[str, Interval]:
    """Of all figures that are no plain shares; those under the other mix begin with ``mix:``, those of classes with ``f1:``."""
    true, scores, classes = np.asarray(given.true, np.int64), given.scores, len(given.class_ids)
    predicted, top = scores.argmax(axis=1), scores.max(axis=1)
    own = np.clip(scores[np.arange(len(true)), true].astype(np.float64), SMALLEST_SCORE, 1)
    loss, right = -np.log(own), predicted == true
    weights = None if given.mix is None else class_weights(true, given.mix)
    support = np.bincount(true, minlength=classes)
    there = np.flatnonzero(support)

    def figures(rows: Ints) -> dict[str, float]:
        confusion = weighted_confusion(true[rows], predicted[rows], classes)
        found = figures_of(confusion)
        found["log_loss"] = float(loss[rows].mean())
        found["ece"] = expected_calibration_error(top[rows], right[rows])
        f1 = 2 * np.diag(confusion) / np.maximum(support + confusion.sum(axis=0), 1)
        found |= {f"f1:{c}": float(f1[c]) for c in there}
        if weights is not None:
            weighted = weighted_confusion(true[rows], predicted[rows], classes, weights[rows])
            found |= {f"mix:{name}": value for name, value in figures_of(weighted).items()}
            found["mix:log_loss"] = float(loss[rows] @ weights[rows])
        return found

    return bootstrap(true, figures)


def _figures(given: Evaluated, intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """By name: value, low and high of the 95 % interval, standard error."""
    found = {f"top{k}": _share(in_top(given.true, given.scores, k)) for k in (1, 3, 5)}
    for name in ("macro_precision", "macro_f1", "weighted_precision", "weighted_f1", "log_loss", "ece"):
        found[name] = intervals[name]
    found["balanced_accuracy"] = intervals["macro_recall"]
    return {name: asdict(figure) for name, figure in found.items()}


def _reweighted(given: Evaluated, intervals: Mapping[str, Interval]) -> dict[str, Any] | None:
    if given.mix is None:
        return None
    shares = np.asarray(given.mix, np.float64) / np.sum(given.mix)
    without = np.flatnonzero((np.bincount(given.true, minlength=len(shares)) == 0) & (shares > 0))
    found = {
        f"top{k}": stratified_share(np.asarray(given.true), in_top(given.true, given.scores, k), given.mix)
        for k in (1, 3, 5)
    }
    for name in ("macro_precision", "macro_f1", "weighted_precision", "weighted_f1", "log_loss"):
        found[name] = intervals[f"mix:{name}"]
    found["balanced_accuracy"] = intervals["macro_recall"]
    return {
        "figures": {name: asdict(figure) for name, figure in found.items()},
        "classes_without_images": [given.class_ids[c] for c in without],
        "share_without_images": float(shares[without].sum()),
    }


def _reliability(given: Evaluated) -> tuple[Any, ...]:
    return reliability_bins(given.scores.max(axis=1), given.scores.argmax(axis=1) == given.true)


def _sizes(given: Evaluated, plain: Evaluation) -> dict[str, Any]:
    """Bins by images of training, of this evaluation, and of the other mix where that is a table of counts."""
    looked_at: dict[str, npt.ArrayLike] = {"evaluation": [q.support for q in plain.per_class]}
    if any(given.training_images):
        looked_at["training"] = given.training_images
    mix = given.mix
    if mix is not None and np.sum(mix) > len(mix) and np.array_equal(mix, np.round(mix)):
        looked_at["mix"] = mix
    return {
        name: [asdict(entry) for entry in by_class_size(given.true, given.scores, sizes)]
        for name, sizes in looked_at.items()
    }


def _per_class(given: Evaluated, plain: Evaluation, intervals: Mapping[str, Interval]) -> list[dict[str, Any]]:
    found = []
    for c, quality in enumerate(plain.per_class):
        right = int(plain.confusion[c, c])
        wrong = plain.confusion[c].copy()
        wrong[c] = 0
        f1 = intervals.get(f"f1:{c}")
        curve = class_curve(given.true, given.scores, c)
        found.append(
            {
                "class_id": quality.class_id,
                "training_images": given.training_images[c],
                "support": quality.support,
                "predicted": quality.predicted,
                "precision": quality.precision if quality.predicted else None,
                "precision_interval": wilson(right, quality.predicted),
                "recall": quality.recall,
                "recall_interval": wilson(right, quality.support),
                "f1": quality.f1,
                "f1_interval": None if f1 is None else (f1.low, f1.high),
                "taken_for": given.class_ids[int(wrong.argmax())] if wrong.any() else None,
                "taken_for_images": int(wrong.max()),
                "cut_offs": {str(target): _cut(given, c, target) for target in TARGET_PRECISIONS},
                "curve": asdict(curve),
            }
        )
    return found


def _cut(given: Evaluated, position: int, target: float) -> dict[str, Any] | None:
    found = cut_off(given.true, given.scores, position, target)
    return None if found is None else asdict(found)


def _thresholded(given: Evaluated, threshold: float) -> dict[str, Any]:
    found = thresholded_confusion(given.true, given.scores, threshold)
    return {"threshold": threshold, "cells": cells(found[:, :-1]), "below": found[:, -1].tolist()}


def _pair(given: Evaluated, plain: Evaluation, pair: Any) -> dict[str, Any]:
    return {
        "first": given.class_ids[pair.first],
        "second": given.class_ids[pair.second],
        "first_as_second": pair.first_as_second,
        "second_as_first": pair.second_as_first,
        "first_images": plain.per_class[pair.first].support,
        "second_images": plain.per_class[pair.second].support,
    }
