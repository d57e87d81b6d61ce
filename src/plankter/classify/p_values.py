"""Tails of distributions, corrections for many tests, and the interval of a share: what the tests on drift need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_TINY, _RELATIVE, _MOST_TERMS = 1e-300, 1e-14, 100_000
FEW_ABOVE = 10  # permutations at or above the observed value from which on counting them is precise enough


def gamma_tail(shape: float, x: float) -> float:
    """Regularised upper incomplete gamma function Q(shape, x).

    The series of P below ``shape`` + 1, above it the continued fraction of Q by Lentz's method (Abramowitz & Stegun
    6.5.29 and 6.5.31).

    Raises:
        ValueError: a shape that is not above 0, or an x below 0.
    """
    if not shape > 0 or not x >= 0:
        raise ValueError(f"shape {shape} must be above 0, x {x} not below 0")
    if x == 0 or math.isinf(x):
        return 1.0 if x == 0 else 0.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        for n in range(1, _MOST_TERMS):
            term *= x / (shape + n)
            total += term
            if term < total * _RELATIVE:
                break
        return min(max(1 - front * total, 0.0), 1.0)
    b = x + 1 - shape
    c, d = 1 / _TINY, 1 / b
    fraction = d
    for n in range(1, _MOST_TERMS):
        a = -n * (n - shape)
        b += 2
        d, c = a * d + b, b + a / c
        d = 1 / (d if abs(d) > _TINY else _TINY)
        c = c if abs(c) > _TINY else _TINY
        fraction *= d * c
        if abs(d * c - 1) < _RELATIVE:
            break
    return min(max(front * fraction, 0.0), 1.0)


def kolmogorov_tail(x: float) -> float:
    """Probability that the Kolmogorov distribution is ``x`` or more: 2 sum (-1)^(k-1) exp(-2 k^2 x^2)."""
    if x < 0.2:  # 1 to 10 digits there, and the series converges badly
        return 1.0
    total = sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(max(2 * total, 0.0), 1.0)


def permutation_p(observed: float, permuted: npt.NDArray[np.floating]) -> float:
    """Share of permutations that reach the observed value, continued into the far tail.

    (1 + hits) / (1 + permutations) where hits are frequent. That can never be below 1 / (1 + permutations), which no
    correction for many runs leaves significant; where fewer than `FEW_ABOVE` reach it, the tail of a Pearson type III
    (shifted gamma) distribution with the mean, variance and skewness of the permutations is taken instead (Minas &
    Montana 2014, Statistics and Computing 24; Knijnenburg et al. 2009, Bioinformatics 25: i161, for the idea).
    """
    hits = int(np.count_nonzero(permuted >= observed))
    counted = (1 + hits) / (1 + len(permuted))
    sd = float(permuted.std())
    if hits >= FEW_ABOVE or sd <= _RELATIVE * abs(observed):
        return counted
    z = (observed - float(permuted.mean())) / sd
    skewness = float(np.mean(((permuted - permuted.mean()) / sd) ** 3))
    if skewness < 0.01:
        fitted = NormalDist().cdf(-z)
    else:
        shape = 4 / skewness**2
        fitted = gamma_tail(shape, max(shape + z * math.sqrt(shape), 0.0))
    return min(max(fitted, _TINY), (FEW_ABOVE + 1) / (1 + len(permuted)))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the chance of any false alarm (Holm 1979, Scand. J. Statist. 6: 65)."""
    n = len(p)
    out, most = [0.0] * n, 0.0
    for rank, k in enumerate(sorted(range(n), key=lambda k: p[k])):
        most = max(most, min(1.0, (n - rank) * p[k]))
        out[k] = most
    return out


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the expected share of false ones among the alarms (Benjamini & Hochberg 1995)."""
    n = len(p)
    out, least = [0.0] * n, 1.0
    for rank, k in enumerate(sorted(range(n), key=lambda k: -p[k])):
        least = min(least, p[k] * n / (n - rank))
        out[k] = least
    return out
