"""Metrics against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter._errors import ReadError
from plankter.classify.evaluate import evaluate_predictions, expected_calibration_error, folder_classes

IDS = ("a", "b", "c", "d")
#             a    b    c    d        true  predicted
SCORES = np.array(
    [
        [0.7, 0.1, 0.1, 0.1],  # a -> a
        [0.2, 0.5, 0.2, 0.1],  # a -> b, a second (before c of the same score)
        [0.1, 0.6, 0.2, 0.1],  # b -> b
        [0.1, 0.2, 0.3, 0.4],  # b -> d, b third
        [0.4, 0.3, 0.2, 0.1],  # c -> a, c third
    ],
    np.float32,
)
TRUE = np.array([0, 0, 1, 1, 2])


def test_figures_by_hand() -> None:
    found = evaluate_predictions(TRUE, SCORES, IDS)
    assert (found.images, found.classes) == (5, 3)
    assert found.top1 == pytest.approx(2 / 5)
    assert found.top3 == found.top5 == 1.0
    f1 = {"a": 2 * 1 / (2 + 2), "b": 2 * 1 / (2 + 2), "c": 0.0}  # 2 TP / (predicted + support)
    assert found.macro_f1 == pytest.approx(sum(f1.values()) / 3)
    assert found.weighted_f1 == pytest.approx((2 * f1["a"] + 2 * f1["b"]) / 5)
    assert found.balanced_accuracy == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.log_loss == pytest.approx(-sum(map(math.log, (0.7, 0.2, 0.6, 0.2, 0.2))) / 5, rel=1e-6)
    # 15 bins: .7 right, .5 wrong, .6 right, and .4 twice wrong, in bins of their own
    assert found.ece == pytest.approx((0.3 + 0.5 + 0.4 + 0.8) / 5, rel=1e-6)
    np.testing.assert_array_equal(found.confusion, [[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_classes_by_hand() -> None:
    a, b, c, d = evaluate_predictions(TRUE, SCORES, IDS).per_class
    assert (a.precision, a.recall, a.f1, a.support, a.predicted) == (0.5, 0.5, 0.5, 2, 2)
    assert (b.precision, b.recall, b.f1, b.support, b.predicted) == (0.5, 0.5, 0.5, 2, 2)
    assert (c.precision, c.recall, c.f1, c.support, c.predicted) == (0.0, 0.0, 0.0, 1, 0)
    assert (d.class_id, d.precision, d.support, d.predicted) == ("d", 0.0, 0, 1)
    assert math.isnan(d.recall) and math.isnan(d.f1)


def test_ties_count_for_the_earlier_class() -> None:
    even = np.full((4, 4), 0.25, np.float32)
    found = evaluate_predictions(np.arange(4), even, IDS)
    assert (found.top1, found.top3, found.top5) == (0.25, 0.75, 1.0)


def test_certain_and_right_or_wrong() -> None:
    right = evaluate_predictions(np.arange(4), np.eye(4, dtype=np.float32), IDS)
    assert (right.top1, right.macro_f1, right.balanced_accuracy, right.ece, right.log_loss) == (1, 1, 1, 0, 0)
    wrong = evaluate_predictions(np.arange(4), np.roll(np.eye(4, dtype=np.float32), 1, axis=1), IDS)
    assert (wrong.top1, wrong.macro_f1, wrong.ece) == (0, 0, 1)
    assert wrong.log_loss == pytest.approx(-math.log(1e-7))


def test_calibration_error_bins_are_closed_above() -> None:
    # two bins: 0.5 belongs to the lower one, so (0.4, 0.5) share a bin and their errors cancel
    found = expected_calibration_error(np.array([0.4, 0.5, 0.9]), np.array([False, True, True]), bins=2)
    assert found == pytest.approx((abs(0.9 - 1) + abs(0.9 - 1)) / 3)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_invariants(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(classes), n)
    true = rng.integers(0, classes, n)
    found = evaluate_predictions(true, scores, [str(i) for i in range(classes)])
    assert 0 <= found.top1 <= found.top3 <= found.top5 <= 1 and 0 <= found.ece <= 1
    assert found.confusion.sum() == n and np.trace(found.confusion) == round(found.top1 * n)
    support = np.array([q.support for q in found.per_class])
    recall = np.array([q.recall for q in found.per_class])
    np.testing.assert_array_equal(support, np.bincount(true, minlength=classes))
    assert found.top1 == pytest.approx(np.nansum(recall * support) / n)  # accuracy is the weighted recall
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    assert found.top3 == pytest.approx(np.mean((order == true[:, None]).any(1)))


@pytest.mark.parametrize(
    ("true", "scores", "message"),
    [
        (np.zeros(0, int), np.zeros((0, 4)), "no images"),
        (np.zeros(2, int), np.zeros((2, 3)), r"scores must be \(2, 4\)"),
        (np.array([0, 4]), np.zeros((2, 4)), r"whole numbers in 0\.\.3"),
        (np.array([0, -1]), np.zeros((2, 4)), r"whole numbers in 0\.\.3"),
        (np.array([0.0, 1.0]), np.zeros((2, 4)), "whole numbers"),
        (np.array([0, 1]), np.full((2, 4), np.nan), "finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(true: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(true, scores, IDS)


def test_folders_find_their_classes(tmp_path: Path) -> None:
    for name in ("Egg+Cyst", "faecal pellet", "Tripos", "Whales", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "readme.txt").write_text("no folder", encoding="utf-8")
    matched, unknown = folder_classes(tmp_path, ["Egg+Cyst", "Faecal_pellet", "Tripos", "Tripos_fusus"])
    assert matched == {"Egg+Cyst": "Egg+Cyst", "faecal pellet": "Faecal_pellet", "Tripos": "Tripos"}
    assert unknown == ["Whales"]
    with pytest.raises(ReadError, match="expected a folder"):
        folder_classes(tmp_path / "nowhere", ["a"])
