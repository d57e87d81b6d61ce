"""Where a model is right and wrong: by class size, by group, by pair of classes, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter.classify.evaluate import evaluate_predictions
from plankter.classify.resampling import wilson

Ints = npt.NDArray[np.int64]
# as in the evaluation notebook of planktonclas; a last bin without an end holds what is larger
SIZE_BINS = ((0, 9), (10, 50), (51, 200), (201, 800), (801, None))


@dataclass(frozen=True)
class SizeBin:
    """Classes of ``low`` to ``high`` images (None: no end) and how well they are found.

    Attributes:
        top1, top5: shares of their images.
        top1_low, top1_high: 95 % interval of top1.
        macro_f1: mean F1 of these classes, judged among all.
    """

    low: int
    high: int | None
    classes: int
    images: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float
    macro_f1: float


def by_class_size(
    true: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], sizes: npt.ArrayLike
) -> tuple[SizeBin, ...]:
    """Quality of classes by their size; bins without an evaluated class are left out.

    Args:
        true: (n,) true classes.
        scores: (n, classes).
        sizes: (classes,) images of each class, in training or wherever the bins shall look.
    """
    truth, counts = np.asarray(true), np.asarray(sizes)
    found_all = evaluate_predictions(truth, scores, [str(c) for c in range(scores.shape[1])])
    first, among = scores.argmax(axis=1) == truth, in_top(truth, scores, 5)
    found = []
    for low, high in SIZE_BINS:
        members = np.flatnonzero((counts >= low) & (counts <= (np.inf if high is None else high)))
        rows = np.isin(truth, members)
        n = int(rows.sum())
        if n == 0:
            continue
        f1 = [found_all.per_class[c].f1 for c in members if found_all.per_class[c].support]
        limits = wilson(int(first[rows].sum()), n)
        found.append(
            SizeBin(
                low, high, len(f1), n, float(first[rows].mean()), *limits, float(among[rows].mean()), float(np.mean(f1))
            )
        )
    return tuple(found)


def in_top(true: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.bool_]:
    """(n,) whether the true class is among the k best; of equal scores the earlier class counts as the better one."""
    own = scores[np.arange(len(true)), true]
    earlier = np.arange(scores.shape[1])[None, :] < np.asarray(true)[:, None]
    better = (scores > own[:, None]) | ((scores == own[:, None]) & earlier)
    return np.asarray(better.sum(axis=1) < k)


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes taken for each other: ``first`` < ``second``, and the images of each that were given the other."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int

    @property
    def images(self) -> int:
        """Images of either class that were taken for the other."""
        return self.first_as_second + self.second_as_first


def confused_pairs(confusion: npt.NDArray[np.integer], most: int = 20) -> tuple[ConfusedPair, ...]:
    """The pairs of classes most often taken for each other, both ways together; of equal ones the earlier pair."""
    both = np.triu(confusion + confusion.T, k=1)
    order = np.argsort(-both, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), confusion.shape[1]) for place in order]
    return tuple(ConfusedPair(a, b, int(confusion[a, b]), int(confusion[b, a])) for a, b in pairs if both[a, b] > 0)


def worst_errors(true: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], most: int = 30) -> Ints:
    """Rows of the wrong images the model was surest about, surest first."""
    wrong = np.flatnonzero(scores.argmax(axis=1) != np.asarray(true))
    order = np.argsort(-scores.max(axis=1)[wrong], kind="stable")
    return np.asarray(wrong[order][:most], np.int64)


@dataclass(frozen=True)
class GroupQuality:
    """One group of images: a date, a station, an instrument.

    Attributes:
        mean_score: of the best class; well above ``top1`` the model is too sure of itself here.
    """

    group: str
    images: int
    classes: int
    top1: float
    top1_low: float
    top1_high: float
    macro_f1: float
    balanced_accuracy: float
    log_loss: float
    mean_score: float


def by_group(
    true: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], groups: Sequence[str | None]
) -> tuple[GroupQuality, ...]:
    """Quality within each group, in the order of their names; images of no group (None) are left out."""
    names = np.array(["" if g is None else g for g in groups], dtype=object)
    known = np.array([g is not None for g in groups], bool)
    class_ids = [str(c) for c in range(scores.shape[1])]
    found = []
    for group in sorted(set(names[known])):
        rows = np.flatnonzero((names == group) & known)
        quality = evaluate_predictions(true[rows], scores[rows], class_ids)
        limits = wilson(round(quality.top1 * len(rows)), len(rows))
        found.append(
            GroupQuality(
                str(group),
                len(rows),
                quality.classes,
                quality.top1,
                *limits,
                quality.macro_f1,
                quality.balanced_accuracy,
                quality.log_loss,
                float(scores[rows].max(axis=1).mean()),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class DecisionCounts:
    """What is said with the model's thresholds, in images.

    Attributes:
        class_right, class_wrong: a class was given.
        group_right, group_wrong: only a wider group; right where the true class belongs to it.
        unknown: nothing was said.
        unknown_right: of these, images whose best class was the true one all the same.
    """

    class_right: int
    class_wrong: int
    group_right: int
    group_wrong: int
    unknown: int
    unknown_right: int


def count_decisions(
    true: npt.NDArray[np.integer],
    best: npt.NDArray[np.integer],
    outcome: npt.NDArray[np.integer],
    members: npt.NDArray[np.bool_],
) -> DecisionCounts:
    """How the decisions of a model turned out.

    Args:
        true, best: (n,) the true class and the one of the highest score.
        outcome: (n,) what was said: a position in the rows of ``members``, -1 for nothing.
        members: bool (outcomes, classes), the classes themselves first.
    """
    classes = members.shape[1]
    said_class, said_group = (outcome >= 0) & (outcome < classes), outcome >= classes
    right = (outcome >= 0) & members[np.maximum(outcome, 0), true]
    silent = outcome < 0
    return DecisionCounts(
        int(np.sum(said_class & (outcome == true))), int(np.sum(said_class & (outcome != true))),
        int(np.sum(said_group & right)), int(np.sum(said_group & ~right)),
        int(np.sum(silent)), int(np.sum(silent & (best == true))),
    )  # fmt: skip
