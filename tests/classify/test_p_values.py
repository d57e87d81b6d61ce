"""Against values from tables and against simulation."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from plankter.classify.p_values import (
    benjamini_hochberg,
    gamma_tail,
    holm,
    kolmogorov_tail,
    permutation_p,
)


@pytest.mark.parametrize(
    ("statistic", "freedom", "p"), [(3.841459, 1, 0.05), (18.307038, 10, 0.05), (135.806723, 100, 0.01)]
)
def test_half_a_chi_square_is_a_gamma(statistic: float, freedom: int, p: float) -> None:
    assert gamma_tail(freedom / 2, statistic / 2) == pytest.approx(p, rel=1e-6)


def test_gamma_tail_of_whole_shapes_is_a_poisson_sum() -> None:
    for shape, x in ((1, 0.3), (3, 2.0), (3, 9.0), (40, 25.0), (40, 90.0)):
        poisson = sum(math.exp(-x + k * math.log(x) - math.lgamma(k + 1)) for k in range(shape))
        assert gamma_tail(shape, x) == pytest.approx(poisson, rel=1e-10)
    assert (gamma_tail(2, 0), gamma_tail(2, math.inf)) == (1, 0)
    with pytest.raises(ValueError, match="above 0"):
        gamma_tail(0, 1)


def test_kolmogorov_tail_has_the_critical_values_of_the_tables() -> None:
    assert kolmogorov_tail(1.3581) == pytest.approx(0.05, abs=1e-4)
    assert kolmogorov_tail(1.6276) == pytest.approx(0.01, abs=1e-4)
    assert kolmogorov_tail(0) == 1 and kolmogorov_tail(9) < 1e-60


def test_permutations_are_counted_where_many_reach_the_value() -> None:
    assert permutation_p(0.5, np.linspace(0, 1, 199)) == pytest.approx(101 / 200)


def test_the_far_tail_continues_a_skewed_distribution() -> None:
    permuted = np.random.default_rng(1).gamma(4.0, 1.0, 20_000)
    for value in (16.0, 20.0):
        assert permutation_p(value, permuted) == pytest.approx(gamma_tail(4, value), rel=0.5)


def test_the_far_tail_of_symmetric_permutations_is_normal() -> None:
    permuted = np.array([NormalDist().inv_cdf((k + 0.5) / 500) for k in range(500)])
    assert permutation_p(5.0, permuted) == pytest.approx(NormalDist().cdf(-5.0), rel=0.1)
    assert permutation_p(1.0, np.full(99, 0.3)) == 0.01  # no spread to fit


def test_the_tail_is_never_0_nor_above_what_counting_allows() -> None:
    permuted = np.random.default_rng(2).normal(0, 1, 500)
    assert 0 < permutation_p(1e6, permuted) < 1e-100
    assert permutation_p(float(np.sort(permuted)[-5]), permuted) <= 11 / 501


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_benjamini_hochberg_by_hand() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert benjamini_hochberg([]) == []


def test_holm_holds_the_rate_of_any_false_alarm() -> None:
    draws = np.random.default_rng(3).random((2000, 12))
    rate = np.mean([min(holm(row)) < 0.1 for row in draws.tolist()])
    assert 0.07 < rate < 0.125
