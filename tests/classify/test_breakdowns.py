"""Breakdowns of a small set that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.breakdowns import by_class_size, by_group, confused_pairs, count_decisions, in_top, worst_errors
from plankter.classify.evaluate import evaluate_predictions

#  a, a->b, b, c->a, c, c->a
TRUE = np.array([0, 0, 1, 2, 2, 2])
SCORES = np.array(
    [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.9, 0.0, 0.1], [0.1, 0.4, 0.5], [0.5, 0.1, 0.4]]
)


def test_class_sizes_by_hand() -> None:
    small, large = by_class_size(TRUE, SCORES, [12, 50, 5000])
    assert (small.low, small.high, small.classes, small.images) == (10, 50, 2, 3)
    assert (large.low, large.high, large.classes, large.images) == (801, None, 1, 3)
    assert small.top1 == pytest.approx(2 / 3) and large.top1 == pytest.approx(1 / 3)
    assert small.macro_f1 == pytest.approx((2 / 5 + 2 / 3) / 2)  # a: 1 right, 3 given; b: 1 right, 2 given
    assert small.top1_low < small.top1 < small.top1_high and small.top5 == 1


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_bins_add_up_to_the_whole(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, true = rng.dirichlet(np.ones(classes), n), rng.integers(0, classes, n)
    bins = by_class_size(true, scores, rng.integers(0, 2000, classes))
    whole = evaluate_predictions(true, scores, [str(c) for c in range(classes)])
    assert sum(b.images for b in bins) == n and sum(b.classes for b in bins) == whole.classes
    assert sum(b.top1 * b.images for b in bins) / n == pytest.approx(whole.top1)
    assert sum(b.macro_f1 * b.classes for b in bins) / whole.classes == pytest.approx(whole.macro_f1)
    assert in_top(true, scores, 3).mean() == pytest.approx(whole.top3)


def test_pairs_count_both_ways() -> None:
    confusion = np.array([[5, 2, 1], [3, 9, 0], [1, 0, 7]])
    first, second = confused_pairs(confusion)
    assert (first.first, first.second, first.first_as_second, first.second_as_first, first.images) == (0, 1, 2, 3, 5)
    assert (second.first, second.second, second.images) == (0, 2, 2)
    assert len(confused_pairs(confusion, most=1)) == 1
    assert confused_pairs(np.eye(3, dtype=int)) == ()


def test_worst_errors_are_the_surest() -> None:
    np.testing.assert_array_equal(worst_errors(TRUE, SCORES), [3, 1, 5])
    np.testing.assert_array_equal(worst_errors(TRUE, SCORES, most=1), [3])
    assert len(worst_errors(np.array([0]), np.array([[1.0, 0.0]]))) == 0


def test_groups_are_evaluated_apart() -> None:
    march, may = by_group(TRUE, SCORES, ["may", "march", "march", None, "may", "may"])
    assert (march.group, march.images, march.classes, march.top1) == ("march", 2, 2, 0.5)
    assert (may.group, may.images, may.classes) == ("may", 3, 2) and may.top1 == pytest.approx(2 / 3)
    assert may.mean_score == pytest.approx((0.8 + 0.5 + 0.5) / 3)
    rows = np.array([0, 4, 5])
    alone = evaluate_predictions(TRUE[rows], SCORES[rows], "abc")
    assert (may.macro_f1, may.balanced_accuracy, may.log_loss) == (
        alone.macro_f1, alone.balanced_accuracy, alone.log_loss,
    )  # fmt: skip


def test_decisions_are_counted_by_what_was_said() -> None:
    # classes a, b, c, and a group that holds a and b
    members = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    true, best = np.array([0, 0, 1, 2, 2, 1]), np.array([0, 1, 0, 0, 2, 0])
    outcome = np.array([0, 1, 3, 3, -1, -1])
    found = count_decisions(true, best, outcome, members)
    assert (found.class_right, found.class_wrong, found.group_right, found.group_wrong) == (1, 1, 1, 1)
    assert (found.unknown, found.unknown_right) == (2, 1)
