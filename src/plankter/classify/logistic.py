"""Multinomial logistic regression with an L2 penalty, on numpy: limited-memory BFGS with a start that knows the data.

Nocedal & Wright 2006 (Numerical optimization), algorithm 7.4. Its first guess of the inverse Hessian is not a multiple
of the identity but the inverse of the numbers' own covariance plus the penalty, which stands near the true one: a
dozen steps do what a hundred do without. Where there are many images, a share of them chooses the penalty and goes most
of the way, and a few steps on all of them do the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plankter.classify.lda import LinearFit
from plankter.classify.selection import calibrated_loss

Float32 = npt.NDArray[np.float32]
PENALTIES = (0.1, 0.01, 0.001)  # falling: each fit starts from the one before
DEFAULT_PENALTY = 0.01
MEMORY = 8
BLOCK = 8_192  # rows at a time: their logits stay small beside the embeddings
STEPS = 12  # with a penalty chosen on held-back images; further ones change those by less than 0.1 %
SAMPLE, LAST_STEPS = 25_000, 5  # images that go ahead, and steps on all of them after
ARMIJO, SHORTEST = 1e-4, 1e-4
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Scaled:
    """Numbers with mean 0 and standard deviation 1, and what they were."""

    values: Float32
    mean: Float32
    sd: Float32


def _scaled(embeddings: npt.NDArray[np.floating], weights: npt.NDArray[np.float64]) -> _Scaled:
    share = weights / weights.sum()
    mean = np.zeros(embeddings.shape[1])
    square = np.zeros(embeddings.shape[1])
    for start in range(0, len(embeddings), BLOCK):
        part = embeddings[start : start + BLOCK].astype(np.float64)
        mean += share[start : start + BLOCK] @ part
    for start in range(0, len(embeddings), BLOCK):
        part = embeddings[start : start + BLOCK] - mean
        square += share[start : start + BLOCK] @ (part * part)
    sd = np.sqrt(square)
    sd[sd < 1e-6 * np.maximum(1.0, np.abs(mean))] = 1.0  # a number that never varies tells nothing
    values = np.empty(embeddings.shape, np.float32)
    for start in range(0, len(embeddings), BLOCK):
        values[start : start + BLOCK] = (embeddings[start : start + BLOCK] - mean) / sd
    return _Scaled(values, mean.astype(np.float32), sd.astype(np.float32))


@dataclass(frozen=True)
class _Problem:
    """Loss = sum over images of weight * -ln(score of its class) + penalty / 2 * |coefficients|^2; weights add up to 1.

    The last row of the coefficients is the bias, which is not penalised.
    """

    values: Float32
    labels: npt.NDArray[np.int64]
    weights: Float32
    penalty: float

    def part(self, rows: npt.NDArray[np.int64]) -> _Problem:
        """The same over some of the images; all of them are not copied."""
        if len(rows) == len(self.labels):
            return self
        weights = self.weights[rows]
        return _Problem(self.values[rows], self.labels[rows], weights / weights.sum(), self.penalty)

    def __call__(self, coefficients: Float32) -> tuple[float, Float32]:
        """Loss and gradient at (dim + 1, classes) coefficients."""
        slope = np.zeros_like(coefficients)
        loss = 0.0
        for start in range(0, len(self.labels), BLOCK):
            rows = slice(start, start + BLOCK)
            x, y, weight = self.values[rows], self.labels[rows], self.weights[rows]
            logits = x @ coefficients[:-1]
            logits += coefficients[-1]
            logits -= logits.max(axis=1, keepdims=True)
            own = logits[np.arange(len(y)), y].astype(np.float64)
            np.exp(logits, out=logits)
            total = logits.sum(axis=1)
            loss += float(weight @ (np.log(total) - own))
            logits *= (weight / total)[:, None]
            logits[np.arange(len(y)), y] -= weight
            slope[:-1] += x.T @ logits
            slope[-1] += logits.sum(axis=0)
        slope[:-1] += self.penalty * coefficients[:-1]
        return loss + 0.5 * self.penalty * float(np.vdot(coefficients[:-1], coefficients[:-1])), slope


def _covariance(values: Float32, weights: Float32) -> npt.NDArray[np.float64]:
    covariance = np.zeros((values.shape[1], values.shape[1]))
    root = np.sqrt(weights)[:, None]
    for start in range(0, len(values), BLOCK):
        part = values[start : start + BLOCK] * root[start : start + BLOCK]
        covariance += part.T @ part
    return covariance


def _inverse_start(covariance: npt.NDArray[np.float64], classes: int, penalty: float) -> Float32:
    """Inverse of share * covariance + penalty: the Hessian of one class where all are equally likely."""
    dim = len(covariance)
    hessian = covariance * ((classes - 1) / classes**2)
    hessian[np.diag_indices(dim)] += penalty + 1e-6 * float(np.trace(hessian)) / dim
    return np.linalg.inv(hessian).astype(np.float32)


def _sample(labels: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Positions of about ``most`` images, each class in its share and none missing; all where there are fewer."""
    each = max(1, len(labels) // most)
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    return np.sort(order[rank % each == 0])


def _minimise(
    problem: _Problem, start: Float32, inverse: Float32, steps: int, tolerance: float, tell: Callable[[int], None]
) -> Float32:
    classes = start.shape[1]

    def first_guess(direction: Float32) -> Float32:
        moved = np.empty_like(direction)
        moved[:-1] = inverse @ direction[:-1]
        moved[-1] = direction[-1] * (classes**2 / (classes - 1))
        return moved

    point = start
    loss, slope = problem(point)
    kept: deque[tuple[Float32, Float32, float]] = deque(maxlen=MEMORY)
    for step in range(steps):
        tell(step)
        if float(np.abs(slope).max()) <= tolerance:
            break
        direction = _direction(slope, kept, first_guess)
        falling = float(np.vdot(slope, direction))
        if falling >= 0:  # rounding has spoilt the memory
            kept.clear()
            direction = -first_guess(slope)
            falling = float(np.vdot(slope, direction))
        length = 1.0
        while True:
            following = point + np.float32(length) * direction
            new_loss, new_slope = problem(following)
            if new_loss <= loss + ARMIJO * length * falling or length < SHORTEST:
                break
            length *= 0.5
        if not new_loss < loss:
            break
        moved, turned = following - point, new_slope - slope
        curvature = float(np.vdot(moved, turned))
        if curvature > 1e-10 * float(np.vdot(turned, turned)) ** 0.5:
            kept.append((moved, turned, 1 / curvature))
        point, loss, slope = following, new_loss, new_slope
    return point


def _direction(
    slope: Float32,
    kept: Sequence[tuple[Float32, Float32, float]],
    first_guess: Callable[[Float32], Float32],
) -> Float32:
    """The two loops of L-BFGS."""
    left = slope.copy()
    shares = []
    for moved, turned, inverse_curvature in reversed(kept):
        share = np.float32(inverse_curvature * float(np.vdot(moved, left)))
        left -= share * turned
        shares.append(share)
    direction = first_guess(left)
    for (moved, turned, inverse_curvature), share in zip(kept, reversed(shares), strict=True):
        direction += (share - np.float32(inverse_curvature * float(np.vdot(turned, direction)))) * moved
    return -direction


def fit_logistic(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    classes: int,
    *,
    held_out: tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]] | None = None,
    sample_weights: npt.NDArray[np.float64] | None = None,
    penalties: Sequence[float] = PENALTIES,
    steps: int = STEPS,
    tolerance: float = 1e-5,
    progress: Progress | None = None,
) -> LinearFit:
    """Logistic regression on standardised embeddings; the answer is in terms of the embeddings as they came.

    The penalty is per image, on coefficients of standardised numbers: scikit-learn's ``C`` is 1 / (n * penalty).
    Nothing is drawn at random, so there is no seed.

    Args:
        embeddings: float (n, dim).
        labels: (n,) positions in 0..classes-1.
        classes: how many.
        held_out: embeddings and labels of other images, which choose among the penalties: from the largest on, as long
            as they are predicted better. Without them it is `DEFAULT_PENALTY`, or the only one given.
        sample_weights: (n,) how much each image counts.
        penalties: falling.
        steps: at most, for each penalty.
        tolerance: the largest slope at which a fit is done.
        progress: called with the step and the steps at most.

    Raises:
        ValueError: shapes that do not fit, weights of which none is above 0, or numbers that are not finite.
    """
    weights = _checked(embeddings, labels, classes, sample_weights)
    scaled = _scaled(embeddings, weights)
    if not np.isfinite(scaled.mean).all() or (held_out is not None and not np.isfinite(held_out[0]).all()):
        raise ValueError("embeddings must be finite")
    if held_out is None or not len(held_out[1]):
        held_out = None
        penalties = (DEFAULT_PENALTY,) if len(penalties) != 1 else penalties
    whole = _Problem(scaled.values, labels, (weights / weights.sum()).astype(np.float32), DEFAULT_PENALTY)
    ahead = whole.part(_sample(labels, SAMPLE))
    last = LAST_STEPS if len(ahead.labels) < len(labels) else 0
    total = len(penalties) * steps + last
    fitting = _Fitting(scaled, classes, _covariance(ahead.values, ahead.weights), held_out, tolerance, progress, total)
    best: tuple[LinearFit, Float32, float] | None = None
    point = np.zeros((embeddings.shape[1] + 1, classes), np.float32)
    for number, penalty in enumerate(penalties):
        fitted, point = fitting.go(replace(ahead, penalty=penalty), point, steps, number * steps)
        if best is not None and not _better(fitted, best[0]):
            break
        best = fitted, point, penalty
    if best is None:
        raise ValueError("no penalty to try")
    fitted, point, penalty = best
    if last:
        fitted, _ = fitting.go(replace(whole, penalty=penalty), point, last, total - last)
    return fitted


def _checked(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    classes: int,
    sample_weights: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.float64]:
    """The weight of each image, where everything fits."""
    n = len(labels)
    if embeddings.shape[0] != n or n == 0 or not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"expected {len(embeddings)} labels in 0..{classes - 1}")
    weights = np.ones(n) if sample_weights is None else np.asarray(sample_weights, np.float64)
    if weights.shape != (n,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(f"expected {n} weights of 0 or more, some above 0")
    return weights


@dataclass(frozen=True)
class _Fitting:
    """What all fits of one call share."""

    scaled: _Scaled
    classes: int
    covariance: npt.NDArray[np.float64]
    held_out: tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]] | None
    tolerance: float
    progress: Progress | None
    total: int

    def go(self, problem: _Problem, point: Float32, steps: int, done: int) -> tuple[LinearFit, Float32]:
        """The fit from a point on, with its loss on the images held back, and where it ended."""

        def tell(step: int) -> None:
            if self.progress is not None:
                self.progress(done + step, self.total)

        inverse = _inverse_start(self.covariance, max(self.classes, 2), problem.penalty)
        point = _minimise(problem, point, inverse, steps, self.tolerance, tell)
        fitted = _unscaled(point, self.scaled, f"penalty {problem.penalty:g}")
        if self.held_out is None:
            return fitted, point
        logits = self.held_out[0].astype(np.float32) @ fitted.weight + fitted.bias
        return replace(fitted, held_out_loss=calibrated_loss(logits, self.held_out[1])), point


def _better(one: LinearFit, other: LinearFit) -> bool:
    return one.held_out_loss is not None and other.held_out_loss is not None and one.held_out_loss < other.held_out_loss


def _unscaled(coefficients: Float32, scaled: _Scaled, setting: str) -> LinearFit:
    weight = coefficients[:-1].astype(np.float64) / scaled.sd[:, None]
    bias = coefficients[-1] - scaled.mean.astype(np.float64) @ weight
    weight -= weight.mean(axis=1, keepdims=True)
    bias = bias - bias.mean()
    return LinearFit(weight.astype(np.float32), bias.astype(np.float32), setting)
