"""Discriminant analysis: the same scores as scikit-learn, and sums that need no image twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.lda import (
    DEFAULT_SHRINKAGE,
    Statistics,
    combine,
    fit_lda,
    gather,
    load_statistics,
    save_statistics,
    solve,
)

CLASSES = ("a", "b", "c", "d")


def clouds(n: int = 400, dim: int = 12, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Four overlapping classes of unequal size, their numbers correlated."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, n, p=(0.5, 0.3, 0.15, 0.05))
    mixing = np.random.default_rng(9).normal(size=(dim, dim))
    centres = np.random.default_rng(8).normal(size=(4, dim)) * 3
    return (centres[labels] + spread * rng.normal(size=(n, dim)) @ mixing + 20).astype(np.float32), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("shrinkage", [0.0, 0.05, 0.5, 1.0])
def test_the_same_scores_as_scikit_learn(shrinkage: float) -> None:
    sklearn = pytest.importorskip("sklearn.discriminant_analysis")
    x, y = clouds()
    oracle = sklearn.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x.astype(np.float64), y)
    fitted = solve(gather(x, y, CLASSES), shrinkage)
    np.testing.assert_allclose(softmax(x @ fitted.weight + fitted.bias), oracle.predict_proba(x), atol=2e-4)


def test_balanced_priors_move_only_the_bias() -> None:
    found = gather(*clouds(), CLASSES)
    usual, balanced = solve(found, 0.2), solve(found, 0.2, balanced=True)
    np.testing.assert_array_equal(usual.weight, balanced.weight)
    shift = usual.bias - balanced.bias
    log_counts = np.log(found.counts)
    np.testing.assert_allclose(shift - shift.mean(), log_counts - log_counts.mean(), atol=1e-4)


def test_a_class_added_later_is_as_if_it_had_been_there() -> None:
    x, y = clouds(900)
    old, extra = (
        np.flatnonzero((y < 3) & (np.arange(900) % 3 > 0)),
        np.flatnonzero((y == 3) | (np.arange(900) % 3 == 0)),
    )
    first = gather(x[old], y[old], CLASSES[:3])
    second = gather(x[extra], 3 - y[extra], CLASSES[::-1])  # other order, one class more
    both, whole = combine(first, second), gather(x, y, CLASSES)
    assert both.class_ids == CLASSES
    np.testing.assert_array_equal(both.counts, whole.counts)
    np.testing.assert_allclose(both.means, whole.means, rtol=1e-6)
    np.testing.assert_allclose(both.scatter, whole.scatter, rtol=1e-4, atol=1e-2)
    a, b = solve(both, 0.1), solve(whole, 0.1)
    np.testing.assert_allclose(softmax(x @ a.weight + a.bias), softmax(x @ b.weight + b.bias), atol=1e-3)


def test_sums_do_not_lose_small_differences_on_a_large_mean() -> None:
    x, y = clouds(20_000)
    far = (x.astype(np.float64) + 200).astype(np.float32)
    expected = sum(
        (part := far[y == c].astype(np.float64) - far[y == c].astype(np.float64).mean(axis=0)).T @ part
        for c in range(4)
    )
    np.testing.assert_allclose(gather(far, y, CLASSES).scatter, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_shrinkage_is_chosen_on_images_held_back() -> None:
    few, labels = clouds(60, dim=40, seed=3)
    labels[:4] = range(4)
    other = clouds(400, dim=40, seed=4)
    found = gather(few, labels, CLASSES)
    fitted = fit_lda(found, other)
    assert fitted.held_out_loss is not None and "shrinkage" in fitted.setting
    for shrinkage in (0.01, 0.8):
        one = fit_lda(found, other, shrinkages=[shrinkage])
        assert one.held_out_loss is not None and fitted.held_out_loss <= one.held_out_loss
    assert f"shrinkage {DEFAULT_SHRINKAGE:g}" in fit_lda(found).setting


def test_one_image_a_class_gives_the_nearest_mean() -> None:
    x = np.array([[0.0, 0.0], [4.0, 0.0]], np.float32)
    fitted = solve(gather(x, np.array([0, 1]), ("a", "b")), 0.1)
    seen = np.array([[1.0, 9.0], [3.0, -5.0]], np.float32)
    assert (seen @ fitted.weight + fitted.bias).argmax(axis=1).tolist() == [0, 1]


def test_what_does_not_fit_is_refused() -> None:
    x, y = clouds()
    with pytest.raises(ValueError, match="labels"):
        gather(x, y[:-1], CLASSES)
    with pytest.raises(ValueError, match="labels"):
        gather(x, y, CLASSES[:2])
    with pytest.raises(ValueError, match="finite"):
        gather(np.where(np.arange(len(x))[:, None] == 7, np.nan, x), y, CLASSES)
    with pytest.raises(ValueError, match="'e' has no training image"):
        solve(gather(x, y, (*CLASSES, "e")), 0.1)
    with pytest.raises(ValueError, match="shrinkage"):
        solve(gather(x, y, CLASSES), 1.5)
    with pytest.raises(ValueError, match="12 and of 5"):
        combine(gather(x, y, CLASSES), gather(x[:, :5], y, CLASSES))
    with pytest.raises(ValueError, match="twice"):
        Statistics(("a", "a"), np.ones(2), np.zeros((2, 3)), np.eye(3))


def test_statistics_come_back_from_their_file(tmp_path: Path) -> None:
    found = gather(*clouds(), CLASSES)
    save_statistics(tmp_path / "s.npz", found)
    again = load_statistics(tmp_path / "s.npz")
    assert again.class_ids == CLASSES
    np.testing.assert_array_equal(again.means, found.means)
    np.testing.assert_allclose(again.scatter, found.scatter, rtol=1e-6)
    for content in (b"", b"PK\x03\x04 cut", b"no archive"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ModelError, match="statistics"):
            load_statistics(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", means=np.zeros((2, 3)))
    with pytest.raises(ModelError, match="statistics"):
        load_statistics(tmp_path / "other.npz")
