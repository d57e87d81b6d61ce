"""Calibration, class mix and thresholds on scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.calibrate import (
    NEVER,
    adjust_mix,
    fit_calibration,
    fit_thresholds,
    log_loss_of,
    shares,
    unsmoothed,
)
from plankter.classify.evaluate import expected_calibration_error
from plankter.classify.head import softmax

CLASSES = 4


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth: each label is drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, CLASSES))
    scores = softmax(logits.astype(np.float32).copy())
    labels = (scores.cumsum(1) > rng.random((n, 1))).argmax(1)
    return logits, labels


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    scores = softmax(logits.astype(np.float32).copy())
    return expected_calibration_error(scores.max(1), scores.argmax(1) == labels)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    logits, labels = drawn(20_000)
    found = fit_calibration(logits * temperature, labels, on="drawn")
    assert found.temperature == pytest.approx(temperature, rel=0.04)
    assert (found.images, found.on, found.bias) == (20_000, "drawn", None)
    assert ece(found.apply(logits * temperature), labels) < 0.01
    assert temperature == 1 or ece(logits * temperature, labels) > 0.05


def test_a_vector_takes_a_bias_back() -> None:
    logits, labels = drawn(20_000)
    moved = logits * 2 + np.array([1.5, 0.0, -1.0, 0.0])
    plain, vector = fit_calibration(moved, labels), fit_calibration(moved, labels, "vector")
    assert vector.bias is not None
    back = np.array(vector.bias) - vector.bias[1]
    np.testing.assert_allclose(back, [-1.5, 0.0, 1.0, 0.0], atol=0.15)
    assert log_loss_of(vector.apply(moved), labels) < log_loss_of(plain.apply(moved), labels) - 0.02


def test_few_images_move_no_bias_far() -> None:
    logits, labels = drawn(6)
    found = fit_calibration(logits, np.zeros(6, np.int64), "vector")
    assert found.bias is not None and max(abs(b) for b in found.bias) < 3
    assert len(labels) == 6


def test_calibration_needs_images_and_a_known_kind() -> None:
    with pytest.raises(ValueError, match="expected images"):
        fit_calibration(np.zeros((0, 2)), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="'platt'"):
        fit_calibration(np.zeros((1, 2)), np.zeros(1, np.int64), "platt")


def test_another_class_mix_is_bayes_rule() -> None:
    # equal likelihoods under a training mix of 1:3, expected 3:1
    found = adjust_mix(np.array([[0.25, 0.75]]), [1, 3], [3, 1])
    np.testing.assert_allclose(found, [[0.75, 0.25]], rtol=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_there_and_back_again(one: list[float], other: list[float]) -> None:
    scores = np.array([[0.2, 0.5, 0.3], [0.05, 0.9, 0.05]])
    np.testing.assert_allclose(adjust_mix(adjust_mix(scores, one, other), other, one), scores, atol=1e-5)
    np.testing.assert_allclose(adjust_mix(scores, one, one), scores, atol=1e-6)


@pytest.mark.parametrize("bad", [[1, -1], [0, 0], [1, np.nan], [1, 2, 3]])
def test_a_mix_that_is_none_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="a class mix needs 2 shares"):
        shares(bad, 2)


def test_a_class_the_mix_leaves_out_is_unlikely_not_impossible() -> None:
    assert shares([5, 0], 2)[1] > 0


def test_thresholds_give_the_precision_asked_for() -> None:
    logits, labels = drawn(40_000)
    scores = softmax(logits.astype(np.float32))
    names = ["a", "b", "c", "d"]
    found = fit_thresholds(scores, labels, names, target_precision=0.9)
    other_logits, truth = drawn(40_000, seed=5)
    other = softmax(other_logits.astype(np.float32))
    for c, name in enumerate(names):
        given_c = (other.argmax(1) == c) & (other.max(1) >= found[name])
        assert given_c.sum() > 1000 and np.mean(truth[given_c] == c) == pytest.approx(0.9, abs=0.02)


def test_a_class_that_is_never_right_is_never_given() -> None:
    scores = np.array([[0.9, 0.1]] * 40, np.float32)
    found = fit_thresholds(scores, np.ones(40, np.int64), ["a", "b"])
    assert found == {"a": NEVER, "b": NEVER}


def test_best_f1_leaves_wrong_low_scores_out() -> None:
    scores = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10, np.float32)
    labels = np.array([0] * 10 + [1] * 10)
    found = fit_thresholds(scores, labels, ["a", "b"], target_precision=None)
    assert found["a"] == pytest.approx(0.9, abs=1e-3) and found["b"] == 0.0


def test_smoothed_labels_are_undone() -> None:
    """A network that learnt smoothed labels perfectly: the floor under every class is taken away again."""
    logits, labels = drawn(20_000)
    truth = softmax(logits.astype(np.float32).copy())
    smoothed = np.log(0.9 * truth + 0.1 / CLASSES)
    np.testing.assert_allclose(softmax(unsmoothed(smoothed, 0.1).astype(np.float32)), truth, atol=1e-4)
    plain, undone = fit_calibration(smoothed, labels), fit_calibration(smoothed, labels, smoothing=0.1)
    assert undone.temperature == pytest.approx(1, abs=0.03)
    assert ece(undone.apply(smoothed), labels) < 0.01 < ece(plain.apply(smoothed), labels)
    np.testing.assert_array_equal(unsmoothed(logits, 0), logits)
    with pytest.raises(ValueError, match="label smoothing"):
        fit_calibration(logits, labels, smoothing=1.0)
