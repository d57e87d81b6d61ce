"""Two models on the same images: is the better one better by more than chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter.classify.resampling import (
    RESAMPLES,
    SEED,
    Interval,
    figures_of,
    interval_of,
    resamples,
    weighted_confusion,
)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test: images that one of two models got right, split as fairly as a coin would.

    Twice the smaller tail of a binomial(only_first + only_second, 1/2), at most 1 (McNemar 1947, Psychometrika 12:153).
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    if smaller < 0:
        raise ValueError(f"counts must be 0 or more, got {only_first} and {only_second}")
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(smaller + 1)]
    largest = max(logs)
    tail = math.exp(largest - n * math.log(2)) * math.fsum(math.exp(value - largest) for value in logs)
    return min(1.0, 2 * tail)


def holm(p: Sequence[float]) -> list[float]:
    """p values raised for their number by Holm's method (Holm 1979, Scandinavian Journal of Statistics 6:65)."""
    order = sorted(range(len(p)), key=lambda k: p[k])
    found, running = [0.0] * len(p), 0.0
    for rank, k in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[k]))
        found[k] = running
    return found


@dataclass(frozen=True)
class ClassDuel:
    """One class under both models; ``p`` is McNemar's over its images, raised for the number of classes."""

    position: int
    images: int
    first_f1: float
    second_f1: float
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """The first model beside the second on the same images; differences are first minus second.

    Attributes:
        both, only_first, only_second, neither: images by who was right.
        p: exact McNemar test of right and wrong.
        top1, macro_f1: differences with 95 % intervals of the paired bootstrap.
        classes: those with images, in the order of the classes.
    """

    images: int
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float
    first: dict[str, float]
    second: dict[str, float]
    top1: Interval
    macro_f1: Interval
    classes: tuple[ClassDuel, ...]


def compare_models(
    true: npt.NDArray[np.integer],
    first: npt.NDArray[np.integer],
    second: npt.NDArray[np.integer],
    classes: int,
    *,
    count: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Compares what two models said of the same images.

    Args:
        true, first, second: (n,) positions of the true class and of those that the models gave, in one list of classes.
        classes: length of that list.
        count, seed: of the bootstrap, as for `resamples`.

    Raises:
        ValueError: no images, or arrays of different lengths.
    """
    if not len(true) or not len(true) == len(first) == len(second):
        raise ValueError(f"expected the same images for both models, got {len(true)}, {len(first)}, {len(second)}")
    a, b = first == true, second == true
    here = figures_of(weighted_confusion(true, first, classes))
    there = figures_of(weighted_confusion(true, second, classes))
    gaps: dict[str, list[float]] = {"top1": [], "macro_f1": []}
    for rows in resamples(true, count=count, seed=seed):
        one = figures_of(weighted_confusion(true[rows], first[rows], classes))
        two = figures_of(weighted_confusion(true[rows], second[rows], classes))
        for name, found in gaps.items():
            found.append(one[name] - two[name])
    only_first, only_second = int(np.sum(a & ~b)), int(np.sum(~a & b))
    return Comparison(
        len(true), int(np.sum(a & b)), only_first, only_second, int(np.sum(~a & ~b)), mcnemar(only_first, only_second),
        here, there,
        interval_of(here["top1"] - there["top1"], gaps["top1"]),
        interval_of(here["macro_f1"] - there["macro_f1"], gaps["macro_f1"]),
        _duels(true, first, second, classes),
    )  # fmt: skip


def _duels(
    true: npt.NDArray[np.integer], first: npt.NDArray[np.integer], second: npt.NDArray[np.integer], classes: int
) -> tuple[ClassDuel, ...]:
    support = np.bincount(true, minlength=classes)
    f1 = []
    for predicted in (first, second):
        hits = np.bincount(true[predicted == true], minlength=classes)
        f1.append(2 * hits / np.maximum(support + np.bincount(predicted, minlength=classes), 1))
    there = np.flatnonzero(support)
    only = []
    for c in there:
        a, b = first[true == c] == c, second[true == c] == c
        only.append((int(np.sum(a & ~b)), int(np.sum(~a & b))))
    raised = holm([mcnemar(*pair) for pair in only])
    return tuple(
        ClassDuel(int(c), int(support[c]), float(f1[0][c]), float(f1[1][c]), *pair, p)
        for c, pair, p in zip(there, only, raised, strict=True)
    )
