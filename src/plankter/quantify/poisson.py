"""The exact interval of a count, in pure Python."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

# far above any count of a run; the series below takes about 10 * sqrt(count) terms
MAX_COUNT = 1_000_000_000
_TINY = 1e-300
_RELATIVE = 1e-12


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval of the mean of a Poisson count.

    lower = chi2(alpha/2; 2 n) / 2, upper = chi2(1 - alpha/2; 2 n + 2) / 2, with alpha = 1 - confidence; the lower
    limit of a count of 0 is 0. Source: Garwood F. (1936), Fiducial limits for the Poisson distribution, Biometrika 28:
    437-442. It covers counting error only: neither patchiness between samples nor errors of a classifier.

    Args:
        count: particles counted, 0 or more.
        confidence: between 0 and 1.

    Returns:
        Lower and upper limit, in particles.

    Raises:
        ValueError: a count below 0 or above a thousand million, a confidence outside 0..1.
    """
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"a count must be 0 to {MAX_COUNT:,}, got {count}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return _interval(int(count), confidence)


@lru_cache(maxsize=4096)
def _interval(count: int, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    return (gamma_quantile(tail, count) if count else 0.0), gamma_quantile(1 - tail, count + 1)


def gamma_quantile(probability: float, shape: float) -> float:
    """The x at which the regularised incomplete gamma function P(shape, x) is ``probability``.

    Half a chi-square quantile of 2 * shape degrees of freedom. Starts from the cube-root normal approximation of
    Wilson & Hilferty (1931, PNAS 17: 684-688), then bisects to a relative 1e-12.

    Raises:
        ValueError: a probability outside 0..1 or a shape that is not above 0.
    """
    if not 0 < probability < 1 or not shape > 0:
        raise ValueError(f"probability {probability} must be between 0 and 1, shape {shape} above 0")
    ninth = 1 / (9 * shape)
    root = 1 - ninth + NormalDist().inv_cdf(probability) * math.sqrt(ninth)
    start = shape * max(root, 0.1) ** 3
    low, high, step = start, start, 0.01
    while gamma_p(shape, low) > probability and low > _TINY:
        low /= 1 + step
        step *= 2
    step = 0.01
    while gamma_p(shape, high) < probability:
        high *= 1 + step
        step *= 2
    while high - low > _RELATIVE * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if gamma_p(shape, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def gamma_p(shape: float, x: float) -> float:
    """Regularised lower incomplete gamma function P(shape, x): the series below ``shape`` + 1, above it 1 minus the
    continued fraction of Q by Lentz's method (Abramowitz & Stegun 6.5.29 and 6.5.31)."""
    if x <= 0:
        return 0.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        n = shape
        while term > total * 1e-17:
            n += 1
            term *= x / n
            total += term
        return min(front * total, 1.0)
    b = x + 1 - shape
    c, d = 1 / _TINY, 1 / b
    fraction, i, change = d, 0, 0.0
    while abs(change - 1) > 1e-15 and i < 10_000_000:
        i += 1
        a = -i * (i - shape)
        b += 2
        d = a * d + b
        d = 1 / (d if abs(d) > _TINY else _TINY)
        c = b + a / c
        c = c if abs(c) > _TINY else _TINY
        change = d * c
        fraction *= change
    return 1 - front * fraction
