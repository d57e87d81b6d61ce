"""The paired test against exact fractions; the comparison against hand-counted cases."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.paired_comparison import compare_models, holm, mcnemar


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial(b: int, c: int) -> None:
    n = b + c
    tail = Fraction(sum(comb(n, k) for k in range(min(b, c) + 1)), 2**n)
    assert mcnemar(b, c) == pytest.approx(min(1.0, float(2 * tail)), rel=1e-9)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 32)
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1
    assert 0 < mcnemar(40_000, 41_000) < 0.001
    with pytest.raises(ValueError, match="0 or more"):
        mcnemar(-1, 3)


def test_holm_by_hand() -> None:
    # smallest first: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04 raised to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


TRUE = np.array([0, 0, 0, 1, 1, 2])
FIRST = np.array([0, 0, 1, 1, 1, 0])
SECOND = np.array([0, 2, 0, 1, 2, 0])


def test_a_comparison_by_hand() -> None:
    found = compare_models(TRUE, FIRST, SECOND, 4, count=50)
    assert (found.images, found.both, found.only_first, found.only_second, found.neither) == (6, 2, 2, 1, 1)
    assert found.p == mcnemar(2, 1) == 1
    assert found.first["top1"] == pytest.approx(4 / 6) and found.second["top1"] == pytest.approx(3 / 6)
    assert found.top1.value == pytest.approx(1 / 6)
    assert found.macro_f1.value == pytest.approx(((4 / 6 + 4 / 5 + 0) - (4 / 6 + 2 / 3 + 0)) / 3)
    a, b, c = found.classes
    assert (a.position, a.images, a.only_first, a.only_second) == (0, 3, 1, 1)
    assert (b.position, b.images, b.only_first, b.only_second) == (1, 2, 1, 0)
    assert (b.first_f1, b.second_f1) == pytest.approx((4 / 5, 2 / 3))
    assert (c.first_f1, c.second_f1, c.p) == (0, 0, 1)


def test_a_model_beside_itself_differs_by_nothing() -> None:
    found = compare_models(TRUE, FIRST, FIRST, 3, count=30)
    assert found.p == 1 and found.only_first == found.only_second == 0
    assert (found.macro_f1.low, found.macro_f1.high, found.macro_f1.standard_error) == (0, 0, 0)


def test_swapping_the_models_turns_the_sign() -> None:
    one = compare_models(TRUE, FIRST, SECOND, 3, count=200)
    two = compare_models(TRUE, SECOND, FIRST, 3, count=200)
    assert one.macro_f1.value == -two.macro_f1.value and one.p == two.p
    assert (one.macro_f1.low, one.macro_f1.high) == pytest.approx((-two.macro_f1.high, -two.macro_f1.low))


def test_a_real_difference_is_seen_and_chance_is_not() -> None:
    rng = np.random.default_rng(3)
    true = np.repeat(np.arange(5), 100)

    def model(right: float) -> np.ndarray:
        return np.where(rng.random(500) < right, true, (true + 1) % 5)

    better = compare_models(true, model(0.9), model(0.75), 5, count=300)
    assert better.p < 1e-4 and better.macro_f1.low > 0
    same = compare_models(true, model(0.8), model(0.8), 5, count=300)
    assert same.p > 0.01 and same.macro_f1.low < 0.04 and same.macro_f1.high > -0.04


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        compare_models(TRUE, FIRST, SECOND[:3], 3)
    with pytest.raises(ValueError, match="same images"):
        compare_models(TRUE[:0], FIRST[:0], SECOND[:0], 3)
