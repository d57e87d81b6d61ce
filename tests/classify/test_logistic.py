"""Logistic regression: the same scores as scikit-learn, weights that balance, a penalty chosen on other images."""

from __future__ import annotations

import numpy as np
import pytest

from plankter.classify import logistic
from plankter.classify.logistic import fit_logistic
from plankter.classify.selection import calibrated_loss, class_weights, resampled_rows


def clouds(n: int = 600, dim: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, n, p=(0.55, 0.3, 0.1, 0.05))
    centres = np.random.default_rng(8).normal(size=(4, dim)) * 1.5
    mixing = np.random.default_rng(9).normal(size=(dim, dim))
    return (centres[labels] + rng.normal(size=(n, dim)) @ mixing + 5).astype(np.float32), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("penalty", [0.1, 0.003])
def test_the_same_scores_as_scikit_learn(balanced: bool, penalty: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = clouds()
    weights = class_weights(y, 4)[y] if balanced else np.ones(len(y))
    share = weights / weights.sum()
    mean = share @ x
    scaled = (x - mean) / np.sqrt(share @ (x - mean) ** 2)
    # its penalty is on the sum over images; sample weights that add up to n
    oracle = linear_model.LogisticRegression(C=1 / (len(y) * penalty), max_iter=5000, tol=1e-8)
    oracle.fit(scaled, y, sample_weight=share * len(y))
    fitted = fit_logistic(x, y, 4, sample_weights=weights, penalties=[penalty], steps=200, tolerance=1e-6)
    np.testing.assert_allclose(softmax(x @ fitted.weight + fitted.bias), oracle.predict_proba(scaled), atol=2e-3)


def test_few_steps_are_nearly_there() -> None:
    x, y = clouds(2000, 40)
    short = fit_logistic(x, y, 4, penalties=[0.001], steps=12)
    long = fit_logistic(x, y, 4, penalties=[0.001], steps=300, tolerance=1e-6)
    a, b = (softmax(x @ fitted.weight + fitted.bias)[np.arange(len(y)), y] for fitted in (short, long))
    assert -np.log(a).mean() < -np.log(b).mean() + 0.005


def test_the_penalty_is_chosen_on_images_held_back() -> None:
    x, y = clouds(80, 60, seed=2)
    y[:4] = range(4)
    other = clouds(800, 60, seed=3)
    chosen = fit_logistic(x, y, 4, held_out=other)
    assert chosen.held_out_loss is not None
    for penalty in (0.1, 0.01):
        one = fit_logistic(x, y, 4, held_out=other, penalties=[penalty])
        assert one.held_out_loss is not None and chosen.held_out_loss <= one.held_out_loss + 1e-3


@pytest.mark.parametrize("balanced", [False, True])
def test_a_share_that_goes_ahead_ends_where_all_images_do(monkeypatch: pytest.MonkeyPatch, balanced: bool) -> None:
    x, y = clouds(4000, 30)
    other = clouds(800, 30, seed=3)
    weights = class_weights(y, 4)[y] if balanced else None
    slow = fit_logistic(x, y, 4, held_out=other, sample_weights=weights, steps=200, tolerance=1e-6)
    monkeypatch.setattr(logistic, "SAMPLE", 900)
    told: list[tuple[int, int]] = []
    quick = fit_logistic(
        x, y, 4, held_out=other, sample_weights=weights, progress=lambda done, total: told.append((done, total))
    )
    assert quick.setting == slow.setting and slow.held_out_loss is not None
    assert quick.held_out_loss == pytest.approx(slow.held_out_loss, abs=0.003)
    assert told[-1][0] < told[-1][1] == 3 * 12 + 5 and [done for done, _ in told] == sorted(done for done, _ in told)
    with pytest.raises(ValueError, match="no penalty"):
        fit_logistic(x, y, 4, held_out=other, penalties=[])


def test_the_share_that_goes_ahead_holds_every_class() -> None:
    labels = np.repeat([0, 1, 3], [900, 90, 1])[np.random.default_rng(0).permutation(991)]
    rows = logistic._sample(labels, 99)
    assert np.bincount(labels[rows], minlength=4).tolist() == [90, 9, 0, 1]
    np.testing.assert_array_equal(logistic._sample(labels, 2000), np.arange(991))


def test_balancing_finds_more_of_the_rare_class() -> None:
    x, y = clouds(1500)
    other, truth = clouds(1500, seed=5)
    recall = []
    for weights in (None, class_weights(y, 4)[y]):
        fitted = fit_logistic(x, y, 4, sample_weights=weights)
        recall.append(((other @ fitted.weight + fitted.bias).argmax(axis=1) == truth)[truth == 3].mean())
    assert recall[1] > recall[0]


def test_numbers_that_never_vary_and_progress() -> None:
    x, y = clouds(200)
    x[:, 3] = 7
    told: list[tuple[int, int]] = []
    fitted = fit_logistic(x, y, 4, progress=lambda done, total: told.append((done, total)))
    assert np.isfinite(fitted.weight).all() and told[0] == (0, 12)
    plain = fit_logistic(np.delete(x, 3, axis=1), y, 4)
    np.testing.assert_allclose(
        softmax(x @ fitted.weight + fitted.bias),
        softmax(np.delete(x, 3, axis=1) @ plain.weight + plain.bias),
        atol=1e-3,
    )


def test_what_does_not_fit_is_refused() -> None:
    x, y = clouds(50)
    with pytest.raises(ValueError, match="labels"):
        fit_logistic(x, y, 2)
    with pytest.raises(ValueError, match="labels"):
        fit_logistic(x[:0], y[:0], 2)
    for weights in (np.ones(49), np.zeros(50), np.full(50, -1.0), np.full(50, np.nan)):
        with pytest.raises(ValueError, match="50 weights"):
            fit_logistic(x, y, 4, sample_weights=weights)
    with pytest.raises(ValueError, match="finite"):
        fit_logistic(x, y, 4, held_out=(np.full_like(x, np.nan), y))
    x[3, 3] = np.inf
    with pytest.raises(ValueError, match="finite"), np.errstate(all="ignore"):
        fit_logistic(x, y, 4)


def test_calibrated_loss_takes_the_best_temperature() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 1.5 * np.eye(3)[truth]
    loss = calibrated_loss(logits, truth)
    assert calibrated_loss(logits * 7, truth) == pytest.approx(loss, abs=2e-3)
    assert loss <= -np.log(softmax(logits)[np.arange(400), truth]).mean() + 2e-3
    assert calibrated_loss(np.full((2, 3), np.nan), truth[:2]) == np.inf == calibrated_loss(logits[:0], truth[:0])


def test_weights_and_resampling_make_classes_even() -> None:
    labels = np.repeat([0, 1, 3], [90, 9, 1])
    weights = class_weights(labels, 4)
    np.testing.assert_allclose(np.bincount(labels, weights[labels], 4), [100 / 3, 100 / 3, 0, 100 / 3])
    rows = resampled_rows(labels, 4, seed=1)
    assert np.bincount(labels[rows], minlength=4).tolist() == [33, 33, 0, 33]
    assert len(set(rows[labels[rows] == 0])) == 33 and len(set(rows[labels[rows] == 1])) == 9
    np.testing.assert_array_equal(rows, resampled_rows(labels, 4, seed=1))
    assert not np.array_equal(rows, resampled_rows(labels, 4, seed=2))
    assert len(resampled_rows(labels[:0], 4, seed=0)) == 0
