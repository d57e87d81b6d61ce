"""Does context help on dates never seen, or does it merely memorise them? With and without, on both kinds of folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.context import ContextEncoder

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
# fits a head on (n, d) features and labels, and names the classes of (m, d) features as positions (m,)
FitAndName = Callable[[FloatArray, IntArray, FloatArray], IntArray]


@dataclass(frozen=True)
class ContextVerdict:
    """What context did to the share of images named rightly (0..1), each image judged by a fold it was not trained on.

    Attributes:
        random_without, random_with: on folds by chance, where other images of the same date were seen in training.
        grouped_without, grouped_with: on folds of whole groups (dates, samples, cruises).
        random_gain_se, grouped_gain_se: standard errors of the two gains, groups being the units drawn.
        memorises: the gain by chance is not there, or turned round, on unseen groups.
        accepted: whether the model may use the context; ``forced`` says that it was refused and asked for nevertheless.
    """

    random_without: float
    random_with: float
    grouped_without: float
    grouped_with: float
    random_gain_se: float
    grouped_gain_se: float
    memorises: bool
    accepted: bool
    forced: bool
    reason: str

    @property
    def random_gain(self) -> float:
        """What the context adds to the accuracy on folds by chance."""
        return self.random_with - self.random_without

    @property
    def grouped_gain(self) -> float:
        """What the context adds to the accuracy on groups never seen."""
        return self.grouped_with - self.grouped_without

    def require(self) -> None:
        """Nothing where the context is accepted.

        Raises:
            ModelError: refused, with the numbers.
        """
        if not self.accepted:
            raise ModelError(self.reason, hint="train without context, or say --force-context")


def context_verdict(
    *, random_without: npt.ArrayLike, random_with: npt.ArrayLike, grouped_without: npt.ArrayLike,
    grouped_with: npt.ArrayLike, groups: Sequence[object], force: bool = False,
) -> ContextVerdict:  # fmt: skip
    """Refuses context that hurts on groups never seen.

    Args:
        random_without, random_with, grouped_without, grouped_with: (n,) whether each image was named rightly, without
            and with context, on folds by chance and on folds of whole groups.
        groups: (n,) the group of each image.
        force: accept in spite of a loss.

    Raises:
        ValueError: lengths that differ, or fewer than two groups.
    """
    parts = [np.asarray(a, dtype=np.float64) for a in (random_without, random_with, grouped_without, grouped_with)]
    _, at = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
    if len({a.shape for a in parts} | {at.shape}) != 1 or len(at) == 0 or at.max() < 1:
        raise ValueError("expected one value an image in each array, and at least two groups")
    means = [float(a.mean()) for a in parts]
    by_chance, unseen = means[1] - means[0], means[3] - means[2]
    error_chance, error_unseen = (grouped_error(b - a, at) for a, b in (parts[:2], parts[2:]))
    memorises = by_chance > 0 and unseen <= min(0.0, by_chance)
    text = (
        f"context changes top-1 by {100 * unseen:+.1f} points (standard error {100 * error_unseen:.1f}) on groups never "
        f"seen, and by {100 * by_chance:+.1f} ({100 * error_chance:.1f}) on folds by chance"
    )
    hurts = unseen < 0
    if hurts:
        reason = f"{text}: it {'memorises the groups' if memorises else 'hurts'}, and is refused"
        reason = f"{text}: it hurts, and is used because that was asked for" if force else reason
    elif unseen <= 2 * error_unseen:
        reason = f"{text}: no harm, and no gain beyond the error"
    else:
        reason = f"{text}: it helps"
    return ContextVerdict(
        means[0], means[1], means[2], means[3], error_chance, error_unseen, memorises, force or not hurts,
        force and hurts, reason,
    )  # fmt: skip


def check_context(
    embeddings: FloatArray, labels: IntArray, columns: tuple[str, ...], values: npt.NDArray[np.floating],
    groups: Sequence[object], fit_and_name: FitAndName, *, folds: int = 5, seed: int = 1, force: bool = False,
) -> ContextVerdict:  # fmt: skip
    """Fits heads with and without context on folds by chance and on folds of whole groups, and judges the context.

    The embeddings must come from a network that was not trained on these groups, or the comparison flatters both sides.

    Args:
        embeddings: (n, dim).
        columns, values: names and float (n, c) values of the context, NaN where missing.
        groups: (n,) date, sample or cruise of each image.
        fit_and_name: the kind of head to judge, see `FitAndName`.

    Raises:
        ValueError: fewer groups than two.
    """
    rng = np.random.default_rng(seed)
    named = np.unique(np.array([str(g) for g in groups]))
    dealt = {
        "random": rng.permutation(len(labels)) % folds,
        "grouped": deal_groups(groups, max(2, min(folds, len(named))), rng),
    }
    right: dict[str, BoolArray] = {}
    for kind, fold in dealt.items():
        for used in ("without", "with"):
            right[f"{kind}_{used}"] = np.zeros(len(labels), np.bool_)
        for at in range(int(fold.max()) + 1):
            train, held = np.flatnonzero(fold != at), np.flatnonzero(fold == at)
            encoder = ContextEncoder.fit(columns, values[train])
            joined = np.concatenate((embeddings, encoder.features(values, len(values))), axis=1)
            for used, features in (("without", embeddings), ("with", joined)):
                found = fit_and_name(features[train], labels[train], features[held])
                right[f"{kind}_{used}"][held] = found == labels[held]
    return context_verdict(**right, groups=groups, force=force)


def deal_groups(groups: Sequence[object], folds: int, rng: np.random.Generator) -> IntArray:
    """int64 (n,): the fold of each image. Whole groups, the largest first, each to the fold that is emptiest by then;
    a little chance in what counts as large makes another seed another deal."""
    named, at = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
    counts = np.bincount(at)
    fold_of, load = np.zeros(len(named), np.int64), np.zeros(folds)
    for group in np.argsort(-(counts * rng.uniform(0.8, 1.25, len(counts)))):
        fold = int(np.argmin(load))
        fold_of[group], load[fold] = fold, load[fold] + counts[group]
    return fold_of[at]


def grouped_error(values: npt.NDArray[np.floating], at: npt.NDArray[np.integer]) -> float:
    """Standard error of a mean of values that come in groups: images of one date resemble each other.

    The linearised ratio estimator over clusters (Cochran 1977, Sampling techniques, 3rd ed., eq. 6.13).

    Args:
        values: (n,).
        at: (n,) number of each value's group.
    """
    present, position = np.unique(at, return_inverse=True)
    k = len(present)
    if k < 2:
        return float("nan")
    sums = np.bincount(position, values - values.mean())
    return float(np.sqrt((sums**2).sum() * k / (k - 1)) / len(values))
