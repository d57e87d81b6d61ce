"""The discrepancy beside a plain double sum; its false alarms; another class mix against other images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from plankter.classify.mmd import mmd_test, mmd_within_classes

FloatArray = npt.NDArray[np.float32]
CENTRES = np.random.default_rng(99).normal(0, 3, (4, 8))


def images(mix: list[float], n: int, seed: int, shift: float = 0.0) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    classes = rng.choice(4, n, p=np.array(mix) / sum(mix))
    return (CENTRES[classes] + rng.normal(shift, 1, (n, 8))).astype(np.float32), classes


def plain_mmd2(a: FloatArray, b: FloatArray) -> float:
    """Unbiased estimate, eq. 3 of Gretton et al. 2012, with the median of all pairs."""
    points = np.concatenate([a, b]).astype(np.float64)
    squares = ((points[:, None] - points) ** 2).sum(axis=2)
    median = np.median(squares[np.triu_indices(len(points), 1)])
    k = np.exp(-squares / (2 * median))
    m, n = len(a), len(b)
    np.fill_diagonal(k, 0)
    return float(k[:m, :m].sum() / (m * (m - 1)) + k[m:, m:].sum() / (n * (n - 1)) - 2 * k[:m, m:].mean())


def test_one_class_is_the_plain_unbiased_estimate() -> None:
    a, _ = images([1, 1, 1, 1], 40, 1)
    b, _ = images([1, 1, 1, 1], 30, 2, shift=0.8)
    assert mmd_test(a, b, 20).mmd2 == pytest.approx(plain_mmd2(a, b), rel=1e-3)


def test_within_classes_is_the_weighted_plain_sum() -> None:
    a, p = images([1, 1, 0, 0], 40, 3)
    b, q = images([3, 1, 0, 0], 30, 4, shift=0.5)
    found = mmd_within_classes(a, p, b, q, 10)
    points, classes = np.concatenate([a, b]).astype(np.float64), np.concatenate([p, q])
    squares = ((points[:, None] - points) ** 2).sum(axis=2)
    k = np.exp(-squares / (2 * np.median(squares[np.triu_indices(len(points), 1)])))
    expected = 0.0
    for c in (0, 1):
        for d in (0, 1):
            share = (q == c).mean() * (q == d).mean()
            means = []
            for side, other in ((0, 0), (1, 1), (0, 1)):
                rows = np.flatnonzero((classes == c) & ((np.arange(70) >= 40) == side))
                columns = np.flatnonzero((classes == d) & ((np.arange(70) >= 40) == other))
                block = k[np.ix_(rows, columns)]
                same = side == other and c == d
                means.append((block.sum() - np.trace(block)) / (len(rows) * (len(rows) - 1)) if same else block.mean())
            expected += share * (means[0] + means[1] - 2 * means[2])
    assert found.mmd2 == pytest.approx(expected, rel=1e-3)
    assert set(found.by_class) == {0, 1} and found.compared == 1


def test_false_alarms_are_as_rare_as_said() -> None:
    p = []
    for seed in range(150):
        a, c = images([1, 1, 1, 1], 60, 1000 + seed)
        b, d = images([4, 2, 1, 0.2], 60, 5000 + seed)
        p.append(mmd_within_classes(a, c, b, d, 60, seed).p)
    values = np.array(p)
    assert (values < 0.05).sum() <= 16 and (values < 0.01).sum() <= 6  # 7.5 and 1.5 expected
    assert 0.4 < values.mean() < 0.6


def test_another_mix_alarms_the_plain_test_and_not_the_one_within_classes() -> None:
    a, c = images([1, 1, 1, 1], 200, 5)
    b, d = images([6, 1, 1, 0.2], 200, 6)
    assert mmd_test(a, b, 200).p < 1e-4
    assert mmd_within_classes(a, c, b, d, 200).p > 0.05


def test_other_images_alarm_within_classes_under_another_mix() -> None:
    a, c = images([1, 1, 1, 1], 200, 7)
    b, d = images([6, 1, 1, 0.2], 200, 8, shift=0.5)
    found = mmd_within_classes(a, c, b, d, 200)
    assert found.p < 1e-4 and found.mmd2 > 0.005


def test_the_same_seed_gives_the_same_and_large_samples_are_drawn_from() -> None:
    a, _ = images([1, 1, 1, 1], 2500, 9)
    b, _ = images([1, 1, 1, 1], 1200, 10)
    assert mmd_test(a, b, 5, seed=3) == mmd_test(a, b, 5, seed=3)


def test_classes_with_one_image_on_a_side_are_left_out_and_counted() -> None:
    a, b = np.eye(6, dtype=np.float32), np.eye(6, dtype=np.float32)[::-1].copy()
    found = mmd_within_classes(a, np.array([0, 0, 0, 1, 2, 2]), b, np.array([0, 0, 1, 1, 2, 3]), 20)
    assert set(found.by_class) == {0} and found.compared == pytest.approx(1 / 3)
    nothing = mmd_within_classes(a, np.zeros(6, np.int64), b, np.ones(6, np.int64), 20)
    assert np.isnan(nothing.mmd2) and nothing.p == 1 and nothing.compared == 0


def test_what_cannot_be_compared_is_refused() -> None:
    a = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="two images on each side"):
        mmd_test(a, a[:1])
    with pytest.raises(ValueError, match="dim"):
        mmd_test(a, np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match="finite"):
        mmd_test(a, np.full((3, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="one class an image"):
        mmd_within_classes(a, np.zeros(2, np.int64), a, np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="permutation"):
        mmd_test(a, a, 0)
