"""Whether a run still resembles what a model learnt from; and if not, whether the plankton or the images changed.

Another class mix is ordinary ecology (a season); other images of the same classes are another instrument, another focus
or something the model never saw. The first is tested on the predicted classes, the second within them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from plankter.classify.mmd import PERMUTATIONS, mmd_test, mmd_within_classes, squared_distances
from plankter.classify.p_values import holm, kolmogorov_tail, permutation_p

ALPHA = 0.01  # chance of any false alarm among all tests of all runs looked at together
IMAGE_TOLERANCE = 0.01  # squared discrepancy; docs/drift.md says how it was measured
MIX_TOLERANCE = 0.35  # share of the particles that would have to change class
LEAST_IMAGES = 50
LEAST_COMPARED = 0.5  # share of the images below which their look cannot be judged
LEAST_SHARE, MIX_DRAWS = 1e-4, 1_000
LEAST_OF_CLASS = 10  # images of a class from which on it is named
PSI_BINS, PSI_FLOOR = 10, 1e-3
TESTS = 3

__all__ = [
    "Baseline", "Comparison", "Finding", "Verdict", "baseline_of", "class_mix_test", "compare", "confidence_test",
    "mmd_test", "psi", "separate",
]  # fmt: skip


class Verdict(StrEnum):
    """What a run's difference from the training set looks like, in words.

    ``SEASON``: the same kinds of images in another mix; ``INSTRUMENT``: images that look different within their class.
    """

    NONE = "none"
    SEASON = "other season (class mix)"
    INSTRUMENT = "other instrument (images)"
    UNCLEAR = "unclear (classes without training images to compare)"
    TOO_FEW = "too few images"


@dataclass(frozen=True)
class Baseline:
    """What a model learnt from, as its own predictions see it.

    Attributes:
        embeddings: float32 (m, dim) a sample of the training images.
        classes: int64 (m,) the class that the model gives each, not the true one: found as for new images.
        sure: float32 (m,) score of that class.
        mix: float64 (classes,) shares of the predicted classes expected where the true mix is that of the training.
        squares: float32 (m, m) squared distances of the embeddings, which all runs share.
    """

    embeddings: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    sure: npt.NDArray[np.float32]
    mix: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """One run against the baseline; p-values as they come out of each test, not corrected.

    Attributes:
        images: with an embedding.
        mmd2, image_p: squared discrepancy within the classes (NaN where none could be compared), and its p-value.
        compared: share of the images whose class could be compared.
        by_class: class -> squared discrepancy of its own images, for classes with `LEAST_OF_CLASS` images.
        mix_distance, mix_p: share of the particles in another class than expected, 0..1, and its p-value.
        confidence_distance, confidence_p: largest gap between the cumulative scores, 0..1, and its p-value.
        confidence_shift: mean score less that of the baseline under the same class mix.
        psi: population stability index of the scores.
    """

    images: int
    mmd2: float
    image_p: float
    compared: float
    by_class: dict[int, float]
    mix_distance: float
    mix_p: float
    confidence_distance: float
    confidence_p: float
    confidence_shift: float
    psi: float


@dataclass(frozen=True)
class Finding:
    """A comparison after the correction for all tests. ``slight``: the images differ measurably, but no more than one
    campaign of the training set from another."""

    verdict: Verdict
    image_p: float
    mix_p: float
    confidence_p: float
    slight: bool = False
    changed_classes: tuple[int, ...] = field(default=())


def baseline_of(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    mix: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
) -> Baseline:
    """The baseline from a class-balanced sample of the training images.

    Args:
        embeddings: float (m, dim). labels: (m,) true classes. mix: (classes,) shares of the whole training set.
        scores: float (m, classes) that the model gives the sample.

    Raises:
        ValueError: arrays that do not fit.
    """
    classes = scores.shape[1]
    if labels.shape != (len(embeddings),) or len(scores) != len(embeddings) or mix.shape != (classes,):
        raise ValueError(f"{len(embeddings)} embeddings, {len(labels)} labels and scores {scores.shape} do not fit")
    found = scores.argmax(axis=1).astype(np.int64)
    weights = (mix / np.maximum(np.bincount(labels, minlength=classes), 1))[labels].astype(np.float64)
    predicted = np.bincount(found, weights, minlength=classes)
    return Baseline(
        embeddings.astype(np.float32), found, scores.max(axis=1).astype(np.float32), predicted / max(predicted.sum(), 1e-12),
        squared_distances(embeddings, embeddings),
    )  # fmt: skip


def compare(
    baseline: Baseline,
    embeddings: npt.NDArray[np.floating],
    classes: npt.NDArray[np.integer],
    sure: npt.NDArray[np.floating],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Comparison:
    """All tests of one run. Scores are compared under the run's own class mix: some classes are always harder.

    Args:
        baseline: of the model.
        embeddings: float (n, dim), finite. classes: (n,) predicted by the same model. sure: (n,) their scores.
        permutations, seed: as for `mmd_within_classes`.

    Raises:
        ValueError: arrays that do not fit each other or the baseline.
    """
    counts = np.bincount(classes, minlength=len(baseline.mix))
    within = mmd_within_classes(
        baseline.embeddings, baseline.classes, embeddings, classes, permutations, seed, baseline.squares
    )
    mix_distance, mix_p = class_mix_test(baseline.mix, counts)
    here = np.bincount(baseline.classes, minlength=len(counts))
    weights = (counts / np.maximum(here, 1))[baseline.classes]
    shared = here[classes] > 0
    distance, p, shift, index = 0.0, 1.0, 0.0, 0.0
    if shared.any():
        distance, p = confidence_test(baseline.sure, sure[shared], weights)
        shift = float(sure[shared].mean() - np.average(baseline.sure, weights=weights))
        index = psi(baseline.sure, sure[shared], weights=weights)
    by_class = {c: value for c, value in within.by_class.items() if counts[c] >= LEAST_OF_CLASS}
    return Comparison(
        len(embeddings),
        within.mmd2,
        within.p,
        within.compared,
        by_class,
        mix_distance,
        mix_p,
        distance,
        p,
        shift,
        index,
    )


def class_mix_test(
    expected: npt.ArrayLike, counts: npt.ArrayLike, draws: int = MIX_DRAWS, seed: int = 0
) -> tuple[float, float]:
    """G-test of counts against expected shares; its distribution is drawn, as most classes of a run have few particles
    and the chi-square distribution, or pooling them, would say nothing there.

    Args:
        expected: (classes,) shares or counts of 0 or more; a share is taken as `LEAST_SHARE` at least.
        counts: (classes,) particles found in each.
        draws, seed: of the random counts.

    Returns:
        The share of the particles that would have to change class (total variation distance), and the p-value.

    Raises:
        ValueError: shapes that differ, negative numbers, or nothing expected or found.
    """
    shares, found = np.asarray(expected, np.float64), np.asarray(counts, np.int64)
    if shares.shape != found.shape or shares.ndim != 1 or (shares < 0).any() or (found < 0).any():
        raise ValueError(f"expected two lists of one length, of 0 or more, got {shares.shape} and {found.shape}")
    if not (shares.sum() > 0 and found.sum() > 0):
        raise ValueError("a class mix needs one class expected and one particle found at least")
    total = int(found.sum())
    distance = float(np.abs(found / total - shares / shares.sum()).sum() / 2)
    shares = np.maximum(shares / shares.sum(), LEAST_SHARE)
    shares /= shares.sum()
    drawn = np.random.default_rng(seed).multinomial(total, shares, draws)
    observed = float(_g_statistic(found[None], shares * total)[0])
    return distance, permutation_p(observed, _g_statistic(drawn, shares * total))


def _g_statistic(counts: npt.NDArray[np.int64], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """2 sum o ln(o / e) of each row."""
    return np.asarray(2 * (counts * np.log(np.maximum(counts, 1) / wanted)).sum(axis=1))


def confidence_test(
    reference: npt.NDArray[np.floating], new: npt.NDArray[np.floating], weights: npt.NDArray[np.floating] | None = None
) -> tuple[float, float]:
    """Two-sample Kolmogorov-Smirnov test of scores.

    Args:
        reference: float (m,). new: float (n,).
        weights: (m,) of the reference, 0 or more; equal where None. They count as (sum w)^2 / sum w^2 images.

    Returns:
        The largest gap between the two cumulative distributions, and the p-value by the asymptotic distribution with
        Stephens' correction for small samples (1970, J. R. Statist. Soc. B 32: 115).

    Raises:
        ValueError: nothing on one side, or weights that do not fit.
    """
    w = np.ones(len(reference)) if weights is None else np.asarray(weights, np.float64)
    if w.shape != (len(reference),) or (w < 0).any() or not w.sum() > 0 or len(new) == 0:
        raise ValueError(
            f"expected scores on both sides and a weight each, got {len(reference)}, {len(new)}, {w.shape}"
        )
    order = np.argsort(reference, kind="stable")
    old, weight = reference[order], np.cumsum(w[order]) / w.sum()
    points = np.concatenate([reference, new])
    below = np.append(0.0, weight)[np.searchsorted(old, points, side="right")]
    distance = float(np.abs(below - np.searchsorted(np.sort(new), points, side="right") / len(new)).max())
    m = float(w.sum() ** 2 / (w**2).sum())
    root = float(np.sqrt(m * len(new) / (m + len(new))))
    return distance, kolmogorov_tail((root + 0.12 + 0.11 / root) * distance)


def psi(
    reference: npt.NDArray[np.floating],
    new: npt.NDArray[np.floating],
    bins: int = PSI_BINS,
    floor: float = PSI_FLOOR,
    weights: npt.NDArray[np.floating] | None = None,
) -> float:
    """Population stability index: sum of (q - p) ln(q / p) over bins that hold equal shares of the reference.

    Below 0.1 is commonly read as stable and above 0.25 as changed. An empty bin counts as ``floor``: it would be
    infinite otherwise, and with a floor of 1e-308, as in some libraries, one empty bin alone is worth 70. Values that
    stand for several quantiles at once share one bin.

    Args:
        reference: float (m,). new: float (n,).
        bins: 2 or more. floor: smallest share of a bin, between 0 and 1. weights: (m,) of the reference.

    Raises:
        ValueError: nothing on one side, or numbers outside their range.
    """
    w = np.ones(len(reference)) if weights is None else np.asarray(weights, np.float64)
    if len(new) == 0 or w.shape != (len(reference),) or not w.sum() > 0 or bins < 2 or not 0 < floor < 1:
        raise ValueError(f"expected values on both sides, 2 bins and a floor in 0..1, got {bins} and {floor}")
    order = np.argsort(reference, kind="stable")
    reached = np.cumsum(w[order]) / w.sum()
    places = np.minimum(np.searchsorted(reached, np.arange(1, bins) / bins - 1e-9), len(reached) - 1)
    edges = np.unique(reference[order][places])
    old = np.bincount(np.searchsorted(edges, reference), w, minlength=len(edges) + 1) / w.sum()
    now = np.bincount(np.searchsorted(edges, new), minlength=len(edges) + 1) / len(new)
    old, now = np.maximum(old, floor), np.maximum(now, floor)
    return float(((now - old) * np.log(now / old)).sum())


def separate(
    runs: Sequence[Comparison],
    *,
    alpha: float = ALPHA,
    image_tolerance: float = IMAGE_TOLERANCE,
    mix_tolerance: float = MIX_TOLERANCE,
) -> list[Finding]:
    """What changed in each run, the images or the class mix.

    An alarm needs a p-value below ``alpha`` after Holm's correction over all tests of all runs, and a difference above
    the tolerance: with a thousand particles everything is significant. Where the images changed the class mix is not
    judged, as the predictions it rests on are in doubt.

    Args:
        runs: compared with the same baseline.
        alpha: chance of any false alarm among them.
        image_tolerance: squared discrepancy that campaigns of the training set have among themselves.
        mix_tolerance: share of the particles in another class.
    """
    judged = [run for run in runs if run.images >= LEAST_IMAGES]
    corrected = iter(holm([p for run in judged for p in (run.image_p, run.mix_p, run.confidence_p)]))
    found = []
    for run in runs:
        if run.images < LEAST_IMAGES:
            found.append(Finding(Verdict.TOO_FEW, 1.0, 1.0, 1.0))
            continue
        image_p, mix_p, confidence_p = (next(corrected) for _ in range(TESTS))
        differ = image_p < alpha
        verdict = Verdict.NONE
        if differ and run.mmd2 > image_tolerance:
            verdict = Verdict.INSTRUMENT
        elif run.compared < LEAST_COMPARED:
            verdict = Verdict.UNCLEAR
        elif mix_p < alpha and run.mix_distance > mix_tolerance:
            verdict = Verdict.SEASON
        most = sorted(
            (c for c, value in run.by_class.items() if value > image_tolerance), key=lambda c: -run.by_class[c]
        )
        slight = differ and verdict is not Verdict.INSTRUMENT
        found.append(Finding(verdict, image_p, mix_p, confidence_p, slight, tuple(most) if differ else ()))
    return found
