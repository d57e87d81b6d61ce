"""Intervals against published examples, class mixes against sets that have the mix for real."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.evaluate import evaluate_predictions
from plankter.classify.resampling import (
    bootstrap,
    class_intervals,
    class_weights,
    figures_of,
    interval_of,
    resamples,
    stratified_share,
    weighted_confusion,
    wilson,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_holds_the_share_and_mirrors(right: int, wrong: int) -> None:
    n = right + wrong
    low, high = wilson(right, n)
    assert 0 <= low <= high <= 1
    assert n == 0 or low <= right / n <= high
    assert wilson(wrong, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_resamples_keep_the_class_mix_and_depend_on_the_seed_alone(labels: list[int], seed: int) -> None:
    true = np.array(labels)
    drawn = list(resamples(true, count=5, seed=seed))
    for rows in drawn:
        np.testing.assert_array_equal(true[rows], np.sort(true))
    for first, second in zip(drawn, resamples(true, count=5, seed=seed), strict=True):
        np.testing.assert_array_equal(first, second)


def test_resamples_draw_every_image_as_often_as_another() -> None:
    true = np.repeat([0, 1], [4, 16])
    times = np.bincount(np.concatenate(list(resamples(true, count=2000, seed=1))), minlength=20)
    assert times.sum() == 40_000
    assert np.abs(times / 2000 - 1).max() < 5 * math.sqrt(1 / 2000)


def test_bootstrap_of_a_share_agrees_with_its_formula() -> None:
    rng = np.random.default_rng(4)
    true, right = np.repeat([0, 1], [300, 100]), rng.random(400) < np.repeat([0.9, 0.6], [300, 100])
    (found,) = bootstrap(true, lambda rows: {"share": float(right[rows].mean())}).values()
    expected = stratified_share(true, right, [300, 100])
    assert found.value == pytest.approx(expected.value) == right.mean()
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.08)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_stratified_share_by_hand() -> None:
    true, right = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 1, 1, 0, 0, 1], bool)
    found = stratified_share(true, right, [1, 3, 4])  # no image of the third: 1/4 and 3/4 are left
    assert found.value == pytest.approx(0.25 * 0.75 + 0.75 * 0.5)
    error = math.sqrt(0.25**2 * 0.75 * 0.25 / 3 + 0.75**2 * 0.25 / 1)
    assert found.standard_error == pytest.approx(error)
    assert found.low == max(0, found.value - 1.959963984540054 * error) and found.high == 1
    single = stratified_share(np.array([0]), np.array([True]), [1.0])
    assert single.standard_error == 0.5


def test_the_interval_holds_the_true_share_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    p, counts, mix = np.array([0.95, 0.6, 0.8]), [60, 40, 50], np.array([5.0, 1.0, 2.0])
    truth, true = float(p @ mix / mix.sum()), np.repeat([0, 1, 2], counts)
    held = 0
    for _ in range(400):
        found = stratified_share(true, rng.random(150) < p[true], mix)
        held += found.low <= truth <= found.high
    assert 0.91 < held / 400 < 0.985


@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_weighting_is_the_same_as_repeating_images(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = rng.integers(1, 4, classes)
    true = np.concatenate([np.arange(classes), rng.integers(0, classes, 20)])
    predicted = rng.integers(0, classes, len(true))
    repeated = np.repeat(np.arange(len(true)), times[true])
    mix = np.bincount(true[repeated], minlength=classes)
    weighted = figures_of(weighted_confusion(true, predicted, classes, class_weights(true, mix)))
    plain = figures_of(weighted_confusion(true[repeated], predicted[repeated], classes))
    assert weighted == pytest.approx(plain)


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_figures_agree_with_the_evaluation(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, true = rng.dirichlet(np.ones(classes), n), rng.integers(0, classes, n)
    whole = evaluate_predictions(true, scores, [str(c) for c in range(classes)])
    found = figures_of(weighted_confusion(true, scores.argmax(axis=1), classes))
    assert found["top1"] == pytest.approx(whole.top1) == pytest.approx(found["weighted_recall"])
    assert found["macro_f1"] == pytest.approx(whole.macro_f1)
    assert found["weighted_f1"] == pytest.approx(whole.weighted_f1)
    assert found["macro_recall"] == pytest.approx(whole.balanced_accuracy)
    precision = [q.precision for q in whole.per_class if q.support]
    assert found["macro_precision"] == pytest.approx(np.mean(precision))


def test_class_weights_refuse_what_is_no_mix() -> None:
    true = np.array([0, 0, 1])
    np.testing.assert_allclose(class_weights(true, [1, 1]), [0.25, 0.25, 0.5])
    np.testing.assert_allclose(class_weights(true, [1, 0]), [0.5, 0.5, 0])
    with pytest.raises(ValueError, match="0 or more"):
        class_weights(true, [1, -1])
    with pytest.raises(ValueError, match="no share of a class with images"):
        class_weights(true, [0, 0, 7])


def test_an_interval_holds_its_figure() -> None:
    found = interval_of(0.9, np.linspace(0.1, 0.5, 100))
    assert found.high == 0.9 and found.low == pytest.approx(0.11) and found.standard_error > 0


def test_wilson_interval_of_the_textbook() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)


def test_intervals_of_a_class_hold_its_figures_and_shrink_with_images() -> None:
    rng = np.random.default_rng(4)
    true = np.repeat([0, 1, 3], [400, 40, 8])
    predicted = np.where(rng.random(len(true)) < 0.8, true, rng.integers(0, 4, len(true)))
    found, quality = (
        class_intervals(true, predicted, 4),
        evaluate_predictions(true, np.eye(4)[predicted], tuple("abcd")),
    )
    width = {}
    for c, (around, q) in enumerate(zip(found, quality.per_class, strict=True)):
        for name in ("precision", "recall", "f1"):
            low, high = around[f"{name}_interval"]
            width[name, c] = high - low
            assert 0 <= low <= high <= 1
            if c != 2:
                assert low <= getattr(q, name) <= high
    assert all(width[name, 0] < width[name, 1] < width[name, 3] for name in ("precision", "recall", "f1"))
    assert found[2]["recall_interval"] == found[2]["f1_interval"] == (0.0, 1.0)  # no image is of it
    assert found == class_intervals(true, predicted, 4)
