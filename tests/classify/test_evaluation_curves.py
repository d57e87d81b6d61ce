"""Curves against values worked out by hand and against the plainest loop that says the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.evaluate import evaluate_predictions, expected_calibration_error
from plankter.classify.evaluation_curves import (
    class_curve,
    coverage_curve,
    cut_off,
    reliability_bins,
    thresholded_confusion,
)

#             a    b    c           true
SCORES = np.array(
    [
        [0.90, 0.05, 0.05],  # a, right
        [0.80, 0.10, 0.10],  # b, taken for a
        [0.70, 0.20, 0.10],  # a, right
        [0.30, 0.60, 0.10],  # b, right
        [0.10, 0.45, 0.45],  # c, taken for b
    ]
)
TRUE = np.array([0, 1, 0, 1, 2])


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, classes = draw(st.integers(1, 50)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, classes, n), np.round(rng.dirichlet(np.ones(classes), n), 2)


def test_reliability_by_hand() -> None:
    bins = reliability_bins(SCORES.max(axis=1), SCORES.argmax(axis=1) == TRUE, bins=2)
    assert [(b.low, b.high, b.images) for b in bins] == [(0, 0.5, 1), (0.5, 1, 4)]
    assert (bins[0].mean_score, bins[0].right) == (0.45, 0)
    assert bins[1].mean_score == pytest.approx(0.75) and bins[1].right == 0.75
    empty = reliability_bins(np.array([0.9]), np.array([True]), bins=2)[0]
    assert empty.images == 0 and math.isnan(empty.mean_score) and math.isnan(empty.right)


@given(cases())
def test_the_bins_give_the_calibration_error(case: tuple[np.ndarray, np.ndarray]) -> None:
    true, scores = case
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == true
    bins = [b for b in reliability_bins(confidence, right) if b.images]
    error = sum(b.images * abs(b.mean_score - b.right) for b in bins) / len(true)
    assert error == pytest.approx(expected_calibration_error(confidence, right), abs=1e-12)
    assert sum(b.images for b in bins) == len(true)


def test_thresholded_confusion_by_hand() -> None:
    found = thresholded_confusion(TRUE, SCORES, 0.65)
    np.testing.assert_array_equal(found, [[2, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1]])


@given(cases(), st.floats(0, 1))
def test_nothing_is_lost_below_a_threshold(case: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    true, scores = case
    classes = scores.shape[1]
    found = thresholded_confusion(true, scores, threshold)
    np.testing.assert_array_equal(found.sum(axis=1), np.bincount(true, minlength=classes))
    assert found[:, -1].sum() == np.sum(scores.max(axis=1) < threshold)
    whole = evaluate_predictions(true, scores, [str(c) for c in range(classes)]).confusion
    np.testing.assert_array_equal(thresholded_confusion(true, scores, 0.0)[:, :-1], whole)
    assert (found[:, :-1] <= whole).all()


def test_class_curve_by_hand() -> None:
    found = class_curve(TRUE, SCORES, 0, (0.0, 0.75, 0.85, 0.95))
    np.testing.assert_array_equal(found.given, [3, 2, 1, 0])
    np.testing.assert_allclose(found.precision, [2 / 3, 1 / 2, 1, np.nan])
    np.testing.assert_allclose(found.recall, [1, 1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(found.f1, [4 / 5, 2 / 4, 2 / 3, 0])


def test_a_class_without_images_has_no_recall() -> None:
    found = class_curve(np.array([1, 1]), np.array([[0.8, 0.2], [0.3, 0.7]]), 0, (0.0,))
    assert found.precision[0] == 0 and np.isnan(found.recall[0]) and np.isnan(found.f1[0])


@given(cases())
def test_curves_start_at_the_unthresholded_figures(case: tuple[np.ndarray, np.ndarray]) -> None:
    true, scores = case
    whole = evaluate_predictions(true, scores, [str(c) for c in range(scores.shape[1])])
    for c, quality in enumerate(whole.per_class):
        curve = class_curve(true, scores, c)
        assert curve.given[0] == quality.predicted
        np.testing.assert_allclose((curve.recall[0], curve.f1[0]), (quality.recall, quality.f1))
        assert (np.diff(curve.given) <= 0).all()


def test_cut_off_by_hand() -> None:
    strict = cut_off(TRUE, SCORES, 0, 0.9)
    assert strict is not None
    assert (strict.score, strict.precision, strict.recall, strict.given) == (0.9, 1.0, 0.5, 1)
    loose = cut_off(TRUE, SCORES, 0, 0.6)
    assert loose is not None and (loose.score, loose.given, loose.recall) == (0.7, 3, 1.0)
    assert cut_off(TRUE, SCORES, 2, 0.1) is None  # never the best class
    assert cut_off(TRUE, np.roll(SCORES, 1, axis=1), 1, 1.1) is None


@given(cases(), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_a_cut_off_keeps_its_promise_and_is_the_lowest(case: tuple[np.ndarray, np.ndarray], target: float) -> None:
    true, scores = case
    best, top = scores.argmax(axis=1), scores.max(axis=1)
    for c in range(scores.shape[1]):
        reaching = []
        for t in np.unique(top[best == c]):
            kept = (best == c) & (top >= t)
            if np.mean(true[kept] == c) >= target:
                reaching.append(t)
        found = cut_off(true, scores, c, target)
        assert (None if found is None else found.score) == (min(reaching) if reaching else None)


def test_coverage_by_hand() -> None:
    all_of_them, some, none = coverage_curve(TRUE, SCORES, (0.0, 0.65, 0.95))
    assert (all_of_them.coverage, all_of_them.precision) == (1.0, 0.6)
    assert all_of_them.macro_precision == pytest.approx((2 / 3 + 1 / 2) / 2)  # c is never given
    assert some.coverage == 0.6 and some.precision == pytest.approx(2 / 3)
    assert none.coverage == 0 and math.isnan(none.precision) and math.isnan(none.macro_precision)
    (alone,) = coverage_curve(np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]]), (0.0,))
    assert alone.macro_precision == 1  # the second class has no images: its precision says nothing of it
