"""Scores that mean what they say: calibration, another class mix, thresholds for a wanted precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = ("temperature", "vector")
LOG_TEMPERATURES = np.linspace(math.log(0.05), math.log(20.0), 41)
BIAS_PRIOR_SD = 1.0  # of a class's bias: keeps classes with few images near 0
STEPS, RATE = 300, 0.05
SMALLEST_SHARE = 1e-6
SMALLEST_SCORE = 1e-7
SHRINK_IMAGES = 2.0  # images of the overall precision that each class's own starts with
NEVER = 1.01  # above every score


@dataclass(frozen=True)
class Calibration:
    """scores = softmax((logits + bias) / temperature), the logits being those of `unsmoothed` first.

    Attributes:
        temperature: above 0.
        bias: (classes,) or None.
        smoothing: share of label smoothing that the network was trained with.
        images: how many it was fitted on.
        on: what these images were, in words.
    """

    temperature: float
    bias: tuple[float, ...] | None = None
    images: int = 0
    on: str = ""
    smoothing: float = 0.0

    def apply(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """float (n, classes) -> calibrated logits."""
        plain = unsmoothed(logits.astype(np.float64), self.smoothing)
        moved = plain + (0.0 if self.bias is None else np.asarray(self.bias))
        return np.asarray(moved / self.temperature)


def unsmoothed(logits: npt.NDArray[Any], smoothing: float) -> npt.NDArray[Any]:
    """Logits as if the labels had not been smoothed in training.

    A network trained on labels smoothed by e tends to (1 - e) p + e / classes where p is meant: no temperature can turn
    the floor of e / classes under every class into certainty. Solved for p, which is kept above `SMALLEST_SCORE`.

    Args:
        logits: float (n, classes).
        smoothing: e (Szegedy et al. 2016, CVPR, section 7), 0 to below 1; 0 changes nothing.
    """
    if smoothing == 0:
        return logits
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    scores = np.maximum((scores - smoothing / logits.shape[1]) / (1 - smoothing), SMALLEST_SCORE)
    return np.log(scores / scores.sum(axis=1, keepdims=True))


def log_loss_of(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Mean of -ln(score of the true class), scores being the softmax of the logits."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float(np.mean(total - logits[np.arange(len(labels)), labels]))


def fit_calibration(
    logits: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    kind: str = "temperature",
    *,
    on: str = "",
    smoothing: float = 0.0,
) -> Calibration:
    """The calibration of least log loss on images that no weight was fitted on.

    "temperature" is Guo et al. 2017 (ICML): one number, no class changes place. "vector" adds a bias for each class
    (Alexandari et al. 2020, ICML), held near 0 by a normal prior, so that few images cannot move it far.

    Args:
        logits: float (n, classes), not yet calibrated.
        labels: (n,) true classes.
        kind: one of `KINDS`.
        on: what the images are, kept with the result.
        smoothing: of the labels in training, undone first.

    Raises:
        ValueError: no images, an unknown kind, or a smoothing outside 0..1.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"label smoothing must be from 0 to below 1, got {smoothing}")
    if kind not in KINDS or len(labels) == 0 or len(labels) != len(logits):
        raise ValueError(f"expected images and a kind out of {', '.join(KINDS)}, got {len(labels)} and {kind!r}")
    values = unsmoothed(logits.astype(np.float64), smoothing)
    temperature = _best_temperature(values, labels)
    if kind == "temperature":
        return Calibration(temperature, None, len(labels), on, smoothing)
    bias = np.zeros(values.shape[1])
    for _ in range(3):  # in turns: each step is a problem with one minimum
        bias = _best_bias(values, labels, temperature, bias)
        temperature = _best_temperature(values + bias, labels)
    return Calibration(temperature, tuple(round(float(b), 5) for b in bias), len(labels), on, smoothing)


def _best_temperature(values: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]) -> float:
    """Golden-section search around the best of a coarse grid."""
    losses = [log_loss_of(values / math.exp(t), labels) for t in LOG_TEMPERATURES]
    best = int(np.argmin(losses))
    low = float(LOG_TEMPERATURES[max(best - 1, 0)])
    high = float(LOG_TEMPERATURES[min(best + 1, len(losses) - 1)])
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(25):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss_of(values / math.exp(left), labels) < log_loss_of(values / math.exp(right), labels):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 5)


def _best_bias(
    values: npt.NDArray[np.float64], labels: npt.NDArray[np.integer], temperature: float, start: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Gradient descent with momentum (Adam) on the mean log loss plus the prior."""
    n, classes = values.shape
    wanted = np.bincount(labels, minlength=classes) / n
    bias, first, second = start.copy(), np.zeros(classes), np.zeros(classes)
    for step in range(1, STEPS + 1):
        logits = (values + bias) / temperature
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        found = (logits / logits.sum(axis=1, keepdims=True)).mean(axis=0)
        slope = (found - wanted) / temperature + bias / (BIAS_PRIOR_SD**2 * n)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        bias -= RATE * (1 - step / (STEPS + 1)) * move
    return bias


def softened(mix: npt.ArrayLike, power: float) -> npt.NDArray[np.float64]:
    """A class mix between itself (power 1) and equal shares (0): rare classes are found more often for a little of the
    accuracy over all images (logit adjustment, Menon et al. 2021). What has no share gets none.

    Args:
        mix: (classes,) shares or counts, some above 0.
        power: 0 to 1.
    """
    told = np.asarray(mix, np.float64)
    return np.where(told > 0, (told / told.sum()) ** power, 0.0)


def adjust_mix(
    scores: npt.NDArray[np.floating], training: npt.ArrayLike, expected: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Scores under another class mix: each times expected share / training share, rows adding up to 1 again.

    The rule of Saerens et al. 2002 (Neural Computation 14:21), eq. 2.4. A share of 0 is taken as very small.

    Args:
        scores: float (n, classes), calibrated under the training mix.
        training, expected: (classes,) shares or counts.

    Raises:
        ValueError: shares that are negative, all 0, or do not fit the classes.
    """
    factors = shares(expected, scores.shape[1]) / shares(training, scores.shape[1])
    moved = scores.astype(np.float64) * factors
    return np.asarray(moved / moved.sum(axis=1, keepdims=True), dtype=np.float32)


def shares(counts: npt.ArrayLike, classes: int) -> npt.NDArray[np.float64]:
    """Counts or shares of each class as shares that add up to 1, none of them 0.

    Raises:
        ValueError: negative, not finite, all 0, or another number of classes.
    """
    values = np.asarray(counts, np.float64)
    if values.shape != (classes,) or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"a class mix needs {classes} shares of 0 or more, not all of them 0")
    values = np.maximum(values / values.sum(), SMALLEST_SHARE)
    return np.asarray(values / values.sum())


def fit_thresholds(
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    class_ids: Sequence[str],
    *,
    target_precision: float | None = 0.9,
) -> dict[str, float]:
    """For each class the lowest score from which on it may be given.

    With a target, the images predicted as the class are sorted by score, and the threshold is the lowest one from which
    on their precision reaches the target; the precision of few images is drawn towards that of all classes, by
    `SHRINK_IMAGES` images' worth. A class that never reaches it gets `NEVER`. Without a target, the threshold of best F1.

    Args:
        scores: float (n, classes) calibrated, of images that no weight was fitted on.
        labels: (n,) true classes.
        class_ids: (classes,).
        target_precision: 0..1, or None for best F1.

    Raises:
        ValueError: shapes that do not fit.
    """
    if scores.shape != (len(labels), len(class_ids)) or len(labels) == 0:
        raise ValueError(f"scores {scores.shape} do not fit {len(labels)} images of {len(class_ids)} classes")
    predicted, top = scores.argmax(axis=1), scores.max(axis=1)
    overall = float(np.mean(predicted == labels))
    found = {}
    for c, class_id in enumerate(class_ids):
        rows = np.flatnonzero(predicted == c)
        rows = rows[np.argsort(-top[rows], kind="stable")]
        if len(rows) == 0:
            found[class_id] = 0.0 if target_precision is None else NEVER
            continue
        hits, given = np.cumsum(labels[rows] == c), np.arange(1, len(rows) + 1)
        if target_precision is None:
            good = int(np.argmax(2 * hits / (given + max(int(np.sum(labels == c)), 1))))
            found[class_id] = _below(float(top[rows[good]]))
            continue
        precision = (hits + SHRINK_IMAGES * overall) / (given + SHRINK_IMAGES)
        enough = np.flatnonzero(precision >= target_precision)
        found[class_id] = _below(float(top[rows[enough[-1]]])) if len(enough) else NEVER
    return found


def _below(score: float) -> float:
    """The score itself passes: rounded down."""
    return math.floor(score * 10_000) / 10_000
