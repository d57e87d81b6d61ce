"""Maximum mean discrepancy: how far apart two clouds of embeddings lie, as a whole and within the classes.

Gretton et al. 2012 (JMLR 13: 723). The kernel is exp(-d^2 / (2 sigma^2)) with sigma the median distance between the
pooled images, so that it is neither 0 nor 1 everywhere; the discrepancy then lies between 0 and 2 and has no unit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from plankter.classify.p_values import permutation_p

PERMUTATIONS = 500
MAX_REFERENCE, MAX_NEW = 2_000, 1_000  # the kernel of both together stays below 40 MB
BLOCK = 512
MEDIAN_PAIRS = 40_000  # the median goes over all pairs where there are fewer
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class MmdResult(NamedTuple):
    """Unbiased squared discrepancy (around 0 without a difference, so that it may be negative) and its p-value."""

    mmd2: float
    p: float


class WithinResult(NamedTuple):
    """`mmd_within_classes`.

    Attributes:
        mmd2, p: as in `MmdResult`; NaN and 1 where no class could be compared.
        compared: share of the new images whose class could be compared.
        by_class: class -> squared discrepancy of its own images, for the classes compared.
    """

    mmd2: float
    p: float
    compared: float
    by_class: dict[int, float]


def mmd_test(
    reference: npt.NDArray[np.floating], new: npt.NDArray[np.floating], permutations: int = PERMUTATIONS, seed: int = 0
) -> MmdResult:
    """Whether two samples of embeddings come from one distribution, whatever their classes.

    Args:
        reference: float (m, dim); at most `MAX_REFERENCE` of them, drawn at random, are used.
        new: float (n, dim); at most `MAX_NEW` are used.
        permutations: of the membership, at least 1.
        seed: of the draws and permutations.

    Raises:
        ValueError: fewer than two images on a side, other numbers than finite ones, or widths that differ.
    """
    zeros = np.zeros(len(reference), np.int64), np.zeros(len(new), np.int64)
    found = mmd_within_classes(reference, zeros[0], new, zeros[1], permutations, seed)
    if not found.by_class:
        raise ValueError(f"expected two images on each side at least, got {len(reference)} and {len(new)}")
    return MmdResult(found.mmd2, found.p)


def mmd_within_classes(
    reference: npt.NDArray[np.floating],
    reference_classes: npt.NDArray[np.integer],
    new: npt.NDArray[np.floating],
    new_classes: npt.NDArray[np.integer],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    reference_squares: FloatArray | None = None,
) -> WithinResult:
    """Whether images of the same class look the same in both samples, however often each class occurs.

    The reference is weighted to the class mix of the new images, and membership is permuted within each class only:
    where no class looks different, every such permutation is as likely as what was observed, so that another class mix
    alone raises no alarm. A class needs two images on each side.

    Args:
        reference, new: float (m, dim) and (n, dim), drawn from as in `mmd_test`.
        reference_classes, new_classes: (m,) and (n,), found in the same way on both sides (by the same model).
        permutations: at least 1.
        seed: of the draws and permutations.
        reference_squares: (m, m) `squared_distances` of the reference with itself, where many runs share it.

    Raises:
        ValueError: arrays that do not fit, or numbers that are not finite.
    """
    _check(reference, reference_classes, new, new_classes, permutations)
    rng = np.random.default_rng(seed)
    a, b = _some(len(reference), MAX_REFERENCE, rng), _some(len(new), MAX_NEW, rng)
    counts = _counts(reference_classes[a], new_classes[b])
    usable = [c for c, (m, n) in counts.items() if m > 1 and n > 1]
    a, b = a[np.isin(reference_classes[a], usable)], b[np.isin(new_classes[b], usable)]
    if not usable:
        return WithinResult(float("nan"), 1.0, 0.0, {})
    classes = np.concatenate([reference_classes[a], new_classes[b]]).astype(np.int64)
    order = np.argsort(classes, kind="stable")
    is_new = np.concatenate([np.zeros(len(a), bool), np.ones(len(b), bool)])[order]
    squares = _joined(reference, new, a, b, reference_squares)[np.ix_(order, order)]
    starts = np.searchsorted(classes[order], [*usable, np.iinfo(np.int64).max])
    blocks = [slice(int(s), int(e)) for s, e in pairwise(starts)]
    sides = _permuted(is_new, blocks, permutations, rng)
    values, by_class = _statistic(_kernel(squares, rng), sides, blocks)
    compared = float(np.isin(new_classes, usable).mean())
    return WithinResult(
        float(values[0]),
        permutation_p(float(values[0]), values[1:]),
        compared,
        dict(zip(usable, by_class, strict=True)),
    )


def _check(
    reference: npt.NDArray[np.floating], reference_classes: npt.NDArray[np.integer], new: npt.NDArray[np.floating],
    new_classes: npt.NDArray[np.integer], permutations: int,
) -> None:  # fmt: skip
    if reference.ndim != 2 or new.ndim != 2 or reference.shape[1] != new.shape[1]:
        raise ValueError(f"expected (m, dim) and (n, dim), got {reference.shape} and {new.shape}")
    if reference_classes.shape != reference.shape[:1] or new_classes.shape != new.shape[:1]:
        raise ValueError("expected one class an image")
    if not (np.isfinite(reference).all() and np.isfinite(new).all()):
        raise ValueError("embeddings must be finite")
    if permutations < 1:
        raise ValueError(f"expected one permutation at least, got {permutations}")


def _some(n: int, most: int, rng: np.random.Generator) -> IntArray:
    return np.sort(rng.permutation(n)[:most]).astype(np.int64)


def _counts(reference: npt.NDArray[np.integer], new: npt.NDArray[np.integer]) -> dict[int, tuple[int, int]]:
    shared = np.intersect1d(reference, new)
    return {int(c): (int((reference == c).sum()), int((new == c).sum())) for c in shared}


def _joined(
    reference: npt.NDArray[np.floating], new: npt.NDArray[np.floating], a: IntArray, b: IntArray,
    known: FloatArray | None,
) -> FloatArray:  # fmt: skip
    """Squared distances of the chosen images of both sides, reference first."""
    m = len(a)
    out = np.empty((m + len(b), m + len(b)), np.float32)
    out[:m, :m] = squared_distances(reference[a], reference[a]) if known is None else known[np.ix_(a, a)]
    out[:m, m:] = squared_distances(reference[a], new[b])
    out[m:, :m] = out[:m, m:].T
    out[m:, m:] = squared_distances(new[b], new[b])
    return out


def squared_distances(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> FloatArray:
    """float32 (m, n) squared Euclidean distances of (m, dim) and (n, dim)."""
    centre = a.mean(axis=0, dtype=np.float64).astype(np.float32)  # smaller numbers keep their digits
    one, other = a.astype(np.float32) - centre, b.astype(np.float32) - centre
    out = np.empty((len(a), len(b)), np.float32)
    for start in range(0, len(a), BLOCK):
        rows = slice(start, start + BLOCK)
        np.matmul(one[rows], other.T, out=out[rows])
    out *= -2
    out += np.einsum("ij,ij->i", one, one)[:, None]
    out += np.einsum("ij,ij->i", other, other)
    np.maximum(out, 0, out=out)
    return out


def _kernel(squares: FloatArray, rng: np.random.Generator) -> FloatArray:
    """exp(-d^2 / (2 median^2)) with zeros on the diagonal, in place of the squared distances."""
    n = len(squares)
    one, other = np.triu_indices(n, 1) if n * n <= MEDIAN_PAIRS else rng.integers(0, n, (2, MEDIAN_PAIRS))
    median = float(np.median(squares[one, other][one != other]))
    squares *= np.float32(-0.5 / max(median, 1e-12))
    np.exp(squares, out=squares)
    np.fill_diagonal(squares, 0)
    return squares


def _permuted(
    is_new: npt.NDArray[np.bool_], blocks: list[slice], permutations: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """bool (N, 1 + permutations): who is new; the first column as it was, the others permuted within each class."""
    sides = np.repeat(is_new[:, None], permutations + 1, axis=1)
    for block in blocks:
        sides[block, 1:] = rng.permuted(sides[block, 1:], axis=0)
    return sides


def _statistic(
    kernel: FloatArray, sides: npt.NDArray[np.bool_], blocks: list[slice]
) -> tuple[npt.NDArray[np.float64], list[float]]:
    """Squared distance of the class-weighted mean embeddings, unbiased, for each column of ``sides``.

    Between classes an image never meets itself; within a class the means go over pairs of different images.
    """
    total = int(sides[:, 0].sum())
    weights = np.empty(sides.shape, np.float32)
    for block in blocks:
        n = int(sides[block, 0].sum())
        m = (block.stop - block.start) - n
        weights[block] = np.where(sides[block], 1 / total, -(n / total) / m)
    values = np.zeros(sides.shape[1])
    for start in range(0, len(kernel), BLOCK):
        rows = slice(start, start + BLOCK)
        values += np.einsum("ij,ij->j", kernel[rows] @ weights, weights[rows], dtype=np.float64)
    by_class = []
    for block in blocks:
        inner = kernel[block, block]
        new = sides[block].astype(np.float32)
        n = int(sides[block, 0].sum())
        m = len(new) - n
        with_new = inner @ new
        both = np.einsum("ij,ij->j", new, with_new, dtype=np.float64)
        cross = with_new.sum(axis=0, dtype=np.float64) - both
        neither = float(inner.sum(dtype=np.float64)) - both - 2 * cross
        share = n / total
        biased = both / n**2 + neither / m**2 - 2 * cross / (n * m)
        unbiased = both / (n * (n - 1)) + neither / (m * (m - 1)) - 2 * cross / (n * m)
        values += share**2 * (unbiased - biased)
        by_class.append(float(unbiased[0]))
    return values, by_class
