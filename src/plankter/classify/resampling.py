"""How sure a figure of an evaluation is: intervals, and figures under another class mix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Z95 = 1.959963984540054
RESAMPLES = 1000
MOST_DRAWS = 30_000_000  # images times resamples: larger sets have narrower intervals and need fewer
SEED = 13


@dataclass(frozen=True)
class Interval:
    """A figure with the limits of its 95 % interval and its standard error."""

    value: float
    low: float
    high: float
    standard_error: float


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's score method (Wilson 1927, JASA 22:209); 0..1 where n is 0.

    Raises:
        ValueError: counts that do not fit.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} of {n} is no share")
    if n == 0:
        return 0.0, 1.0
    p, z2 = right / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low = 0.0 if right == 0 else max(0.0, middle - half)
    return low, 1.0 if right == n else min(1.0, middle + half)


def resamples(labels: npt.NDArray[np.integer], *, count: int = RESAMPLES, seed: int = SEED) -> Iterator[Ints]:
    """Rows drawn with replacement within each class, so that every resample has the class mix of the set.

    Args:
        labels: (n,) true classes.
        count: how many resamples at most; fewer of a large set, 200 at least.
        seed: the same gives the same rows.

    Yields:
        int64 (n,) rows; the drawn classes are those of ``sort(labels)``.
    """
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    first, size = np.repeat(starts, counts), np.repeat(counts, counts)
    rng = np.random.default_rng(seed)
    for _ in range(min(count, max(200, MOST_DRAWS // max(len(labels), 1)))):
        yield order[first + (rng.random(len(labels)) * size).astype(np.int64)]


def interval_of(value: float, draws: npt.ArrayLike) -> Interval:
    """Percentile interval (2.5 to 97.5 %) and standard deviation of a figure's resamples; it always holds the figure."""
    found = np.asarray(draws, np.float64)
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(value, min(float(low), value), max(float(high), value), float(found.std(ddof=1)))


def class_intervals(
    true: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int
) -> list[dict[str, tuple[float, float]]]:
    """95 % intervals of each class: ``precision_interval`` and ``recall_interval`` by Wilson's method, ``f1_interval`` from
    resamples within the classes (0..1 for a class without images)."""
    counts, called = np.bincount(true, minlength=classes), np.bincount(predicted, minlength=classes)
    right = np.bincount(true[true == predicted], minlength=classes)

    def f1(rows: Ints) -> dict[str, float]:
        a, b = true[rows], predicted[rows]
        hits = np.bincount(a[a == b], minlength=classes)
        found = 2 * hits / np.maximum(counts + np.bincount(b, minlength=classes), 1)
        return {str(c): value for c, value in enumerate(found.tolist())}

    around = bootstrap(true, f1)
    return [
        {
            "precision_interval": wilson(int(right[c]), int(called[c])),
            "recall_interval": wilson(int(right[c]), int(counts[c])),
            "f1_interval": (around[str(c)].low, around[str(c)].high) if counts[c] else (0.0, 1.0),
        }
        for c in range(classes)
    ]


def class_weights(labels: npt.NDArray[np.integer], mix: npt.ArrayLike) -> Floats:
    """A weight for each image such that each class weighs as much as its share in another mix.

    The share of a class without images falls to the others in proportion.

    Args:
        labels: (n,) true classes.
        mix: (classes,) shares or counts.

    Returns:
        (n,) weights that add up to 1.

    Raises:
        ValueError: negative or not finite shares, or none for a class with images.
    """
    wanted = np.asarray(mix, np.float64)
    if not np.isfinite(wanted).all() or (wanted < 0).any():
        raise ValueError("a class mix needs shares of 0 or more")
    counts = np.bincount(labels, minlength=len(wanted))
    weights = (wanted / np.maximum(counts, 1))[labels]
    if not weights.sum() > 0:
        raise ValueError("the class mix has no share of a class with images")
    return np.asarray(weights / weights.sum(), np.float64)


def weighted_confusion(
    true: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int, weights: Floats | None = None
) -> Floats:
    """Float (classes, classes), true by row: summed weights, or counts where none are given."""
    flat = np.bincount(np.asarray(true, np.int64) * classes + predicted, weights=weights, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.float64)


def figures_of(confusion: Floats) -> dict[str, float]:
    """top1, macro and weighted precision, recall and F1 of a (weighted) confusion matrix.

    Macro figures go over the classes with images (macro recall is balanced accuracy), weighted ones by their weight; the
    precision of a class that was never predicted is 0.
    """
    right, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    there = support > 0
    precision = right[there] / np.where(predicted[there] > 0, predicted[there], 1)
    recall = right[there] / support[there]
    f1 = 2 * right[there] / (support[there] + predicted[there])
    share = support[there] / support.sum()
    return {
        "top1": float(right.sum() / support.sum()),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "weighted_precision": float(precision @ share),
        "weighted_recall": float(recall @ share),
        "weighted_f1": float(f1 @ share),
    }


def stratified_share(labels: npt.NDArray[np.integer], right: npt.NDArray[np.bool_], mix: npt.ArrayLike) -> Interval:
    """The share right under another class mix: the mean of each class's share, weighted by the mix.

    Its standard error is that of a stratified sample (Cochran 1977, Sampling Techniques, eq. 5.7 without the correction
    for finite populations): sqrt(sum W^2 p (1 - p) / (n - 1)). Of a class with a single image p is taken as 1/2.
    """
    weights = class_weights(labels, mix)
    value = float(weights @ right)
    variance = 0.0
    for c in np.unique(labels):
        mine = labels == c
        n, share = int(mine.sum()), float(weights[mine].sum())
        p = float(right[mine].mean())
        variance += share**2 * (p * (1 - p) / (n - 1) if n > 1 else 0.25)
    error = math.sqrt(variance)
    return Interval(value, max(0.0, value - Z95 * error), min(1.0, value + Z95 * error), error)


def bootstrap(
    labels: npt.NDArray[np.integer],
    figures: Callable[[Ints], dict[str, float]],
    *,
    count: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """Percentile intervals of several figures over `resamples`.

    Args:
        labels: (n,) true classes.
        figures: rows of images -> figures by name.
        count, seed: as for `resamples`.
    """
    values = figures(np.arange(len(labels)))
    draws = [figures(rows) for rows in resamples(labels, count=count, seed=seed)]
    return {name: interval_of(value, [draw[name] for draw in draws]) for name, value in values.items()}
