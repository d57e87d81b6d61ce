"""Intervals against published values and against direct sums of Poisson probabilities; spectra by hand."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plankter.quantify.abundance import abundance, octave_edges, size_spectrum
from plankter.quantify.poisson import gamma_p, gamma_quantile, poisson_interval


def poisson_cdf(k: int, mean: float) -> float:
    """P(X <= k), summed in 60 digits."""
    getcontext().prec = 60
    lam = Decimal(mean)
    term = total = (-lam).exp()
    for i in range(1, k + 1):
        term = term * lam / i
        total += term
    return float(total)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904), (100, 81.3640, 121.6268)],
)
def test_interval_against_published_values(count: int, low: float, high: float) -> None:
    assert poisson_interval(count) == pytest.approx((low, high), abs=6e-5)


def test_interval_of_zero_is_known_in_closed_form() -> None:
    assert poisson_interval(0) == (0.0, pytest.approx(-math.log(0.025), rel=1e-11))
    assert poisson_interval(0, 0.9)[1] == pytest.approx(-math.log(0.05), rel=1e-11)


@given(st.integers(1, 600), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
@settings(max_examples=40, deadline=None)
def test_limits_leave_the_tails_they_should(count: int, confidence: float) -> None:
    low, high = poisson_interval(count, confidence)
    tail = (1 - confidence) / 2
    assert 1 - poisson_cdf(count - 1, low) == pytest.approx(tail, rel=1e-8)
    assert poisson_cdf(count, high) == pytest.approx(tail, rel=1e-8)


@pytest.mark.parametrize("count", [20_000, 3_000_000])
def test_large_counts_approach_the_normal_interval(count: int) -> None:
    low, high = poisson_interval(count)
    assert (count - low) / math.sqrt(count) == pytest.approx(1.95996, abs=0.02)
    assert (high - count) / math.sqrt(count) == pytest.approx(1.95996, abs=0.02)


def test_gamma_p_is_the_exponential_for_shape_one_and_continuous_between_its_two_methods() -> None:
    for x in (1e-6, 0.5, 1.9, 2.1, 30.0):
        assert gamma_p(1, x) == pytest.approx(1 - math.exp(-x), rel=1e-9)
    assert gamma_p(50, 51 - 1e-9) == pytest.approx(gamma_p(50, 51 + 1e-9), abs=1e-9)
    assert gamma_p(3, 0) == 0


@pytest.mark.parametrize("probability", [1e-9, 0.3, 1 - 1e-9])
@pytest.mark.parametrize("shape", [0.5, 1, 7.5, 400])
def test_quantile_inverts(probability: float, shape: float) -> None:
    assert gamma_p(shape, gamma_quantile(probability, shape)) == pytest.approx(probability, rel=1e-6)


def test_nonsense_is_refused() -> None:
    for bad in (-1, 2_000_000_000):
        with pytest.raises(ValueError, match="count"):
            poisson_interval(bad)
    with pytest.raises(ValueError, match="confidence"):
        poisson_interval(3, 1.0)
    with pytest.raises(ValueError, match="shape"):
        gamma_quantile(0.5, 0)
    with pytest.raises(ValueError, match="dilution_factor"):
        abundance(3, 1.0, dilution_factor=0)
    with pytest.raises(ValueError, match="volume_imaged_ml"):
        abundance(3, math.nan)


def test_abundance_of_concentrated_and_diluted_water() -> None:
    # 10 in 0.5 mL; 20 L filtered to 100 mL: 1 mL stands for 0.2 L; diluted twofold
    found = abundance(10, 0.5, 2.0, 100.0, 20.0)
    assert found.per_ml_imaged == 20
    assert (found.per_ml_low, found.per_ml_high) == pytest.approx((9.5908, 36.7808), abs=2e-4)
    assert found.per_l == pytest.approx(10 / 0.5 * 2 * 100 / 20)
    assert (found.low, found.high) == pytest.approx((95.908, 367.808), abs=2e-3)
    assert found.reason is None


def test_abundance_says_what_it_does_not_know() -> None:
    whole = abundance(3, 0.25)
    assert whole.per_l == pytest.approx(12_000) and "not concentrated" in (whole.reason or "")
    unknown = abundance(3, None, 2.0, 100.0, 20.0)
    assert (unknown.per_ml_imaged, unknown.per_l, unknown.low, unknown.high) == (None,) * 4
    assert unknown.reason == "the imaged volume is unknown"
    half = abundance(3, 1.0, None, 100.0, None)
    assert half.per_ml_imaged == 3 and half.per_l is None and "filtered" in (half.reason or "")
    assert "concentrated" in (abundance(3, 1.0, None, None, 5.0).reason or "")


def test_none_counted_still_has_an_upper_limit() -> None:
    found = abundance(0, 2.0)
    assert (found.per_ml_imaged, found.per_ml_low) == (0, 0)
    assert found.per_ml_high == pytest.approx(3.6889 / 2, abs=1e-4)


def test_spectrum_by_hand() -> None:
    found = size_spectrum([1.0, 1.5, 2.0, 5.0, np.nan, 9.0, -3.0], 0.5, [1, 2, 8])
    assert found.count.tolist() == [2, 2]
    assert found.left_out == 3  # no size, above the borders, not a size
    assert found.number_per_ml_um == pytest.approx([2 / 0.5 / 1, 2 / 0.5 / 6])
    assert found.mid_um == pytest.approx([math.sqrt(2), 4])
    sphere = math.pi / 6
    assert found.biovolume_um3_per_ml == pytest.approx([sphere * (1 + 3.375) / 0.5, sphere * (8 + 125) / 0.5])
    assert found.normalised_biovolume_per_ml == pytest.approx([(1 + 3.375) / 0.5 / 7, (8 + 125) / 0.5 / (512 - 8)])


def test_spectrum_without_volume_keeps_the_counts() -> None:
    found = size_spectrum([3.0, 4.0], None)
    assert found.count.sum() == 2
    assert np.isnan(found.number_per_ml_um).all() and np.isnan(found.normalised_biovolume_per_ml).all()


def test_spectrum_of_nothing() -> None:
    found = size_spectrum([np.nan, np.nan], 1.0)
    assert (len(found.edges_um), len(found.count), found.left_out) == (0, 0, 2)


@given(st.lists(st.floats(0.1, 3000), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_octaves_double_the_biovolume_and_hold_every_particle(sizes: list[float]) -> None:
    edges = octave_edges(sizes)
    assert (edges[1:] / edges[:-1]) ** 3 == pytest.approx(2, rel=1e-6)
    found = size_spectrum(sizes, 2.0)
    assert found.count.sum() == len(sizes) and found.left_out == 0
    assert found.biovolume_um3_per_ml.sum() == pytest.approx(math.pi / 6 * sum(d**3 for d in sizes) / 2, rel=1e-9)


def test_borders_that_fall_are_refused() -> None:
    with pytest.raises(ValueError, match="edges"):
        size_spectrum([3.0], 1.0, [4, 2])
