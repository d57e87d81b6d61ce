"""Drawn particles and measures."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from plankter.synthetic.drawings import (
    BORDER_PX,
    KINDS,
    MAX_LENGTH_PX,
    background_frame,
    draw,
    draw_length_um,
    draw_particle,
)
from plankter.synthetic.measures import FRINGE_PX, calibrated, raw_measures

ROUND = ("centric_valve", "bubble", "pollen", "ciliate", "detritus")
LONG = ("rhizosolenia_rod", "pennate", "fibre", "faecal_pellet", "skeletonema_chain")


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_particle_is_darker_than_its_surroundings_and_lies_inside_its_mask(kind: str) -> None:
    for seed in range(4):
        image, mask = draw_particle(kind, rng(seed), 0.5, length_um=40, background=180)
        assert image.dtype == np.uint8 and mask.dtype == np.bool_ and image.shape == mask.shape
        assert image[mask].mean() < 180 - 12
        outside = ~cv2.dilate(mask.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)
        if np.count_nonzero(outside) > 20:
            assert abs(image[outside].mean() - 180) < 4


@pytest.mark.parametrize("kind", KINDS)
def test_mask_is_as_long_as_asked_and_has_a_border(kind: str) -> None:
    drawing = draw(kind, rng(), 100.0)
    rows, columns = np.nonzero(drawing.mask)
    height, width = drawing.mask.shape
    assert min(rows.min(), columns.min(), height - 1 - rows.max(), width - 1 - columns.max()) >= BORDER_PX
    longest = raw_measures(drawing.mask, np.zeros(drawing.mask.shape, np.uint8))["raw_feret_max"]
    assert 70 <= longest <= 135  # horns and setae reach beyond the axis, a clump is not as long as its box
    if kind in ("centric_valve", "rhizosolenia_rod", "pennate", "bubble"):
        assert longest == pytest.approx(100, abs=6)


def test_kinds_differ_in_shape() -> None:
    def aspect(kind: str) -> float:
        masks = [draw(kind, rng(seed), 120.0).mask for seed in range(5)]
        rows = [raw_measures(mask, np.zeros(mask.shape, np.uint8)) for mask in masks]
        return float(np.median([row["raw_feret_min"] / row["raw_feret_max"] for row in rows]))

    assert min(aspect(kind) for kind in ROUND) > 0.55
    assert max(aspect(kind) for kind in LONG) < 0.55


def test_bubble_has_a_bright_centre_in_a_dark_ring() -> None:
    image, mask = draw_particle("bubble", rng(1), 0.5, length_um=50)
    y, x = (round(float(v.mean())) for v in np.nonzero(mask))
    assert image[y, x] > 120
    assert np.median(image[mask]) < 40


def test_same_state_gives_same_drawing_and_another_does_not() -> None:
    first, _ = draw_particle("detritus", rng(9), 0.5)
    again, _ = draw_particle("detritus", rng(9), 0.5)
    other, _ = draw_particle("detritus", rng(10), 0.5)
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_lengths_are_log_normal_around_the_median() -> None:
    source = rng()
    lengths = np.log([draw_length_um("pennate", source) for _ in range(4000)])
    assert np.exp(np.median(lengths)) == pytest.approx(KINDS["pennate"].median_um, rel=0.04)
    assert lengths.std() == pytest.approx(KINDS["pennate"].sigma, rel=0.06)


def test_extreme_lengths_are_kept_within_a_camera_frame() -> None:
    assert max(draw("tripos", rng(), 1e6).mask.shape) < 1.6 * MAX_LENGTH_PX
    assert np.count_nonzero(draw("fibre", rng(), 0.1).mask) >= 12


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        draw("unicorn", rng(), 50)


def test_background_frame_is_calm_and_bright() -> None:
    frame = background_frame(rng(), 320, 240)
    assert frame.shape == (240, 320) and 160 < frame.mean() < 195 and frame.std() < 6


def test_measures_of_a_disc_and_a_rectangle() -> None:
    disc, bar = np.zeros((101, 101), np.uint8), np.zeros((60, 120), np.uint8)
    cv2.circle(disc, (50, 50), 40, (1,), cv2.FILLED)
    bar[20:40, 10:110] = 1
    grey = np.full((101, 101), 90, np.uint8)
    row = raw_measures(disc.astype(bool), grey)
    assert row["ppc"] == 1 and row["raw_area"] == row["raw_filled_area"] == np.count_nonzero(disc)
    assert row["raw_feret_max"] == pytest.approx(81, abs=1) and row["raw_feret_min"] == pytest.approx(81, abs=1)
    assert row["raw_convex_perimeter"] == pytest.approx(81 * math.pi, rel=0.02)
    assert row["raw_legendre_major"] == pytest.approx(81, abs=1.5)
    assert row["circularity_hu"] > 0.99 and row["symmetry"] > 0.99 and row["circle_fit"] > 0.98
    assert row["intensity"] == row["avg_red"] == 90 and row["sigma_intensity"] == 0
    assert row["sum_intensity"] == 90 * row["raw_area"]
    long = raw_measures(bar.astype(bool), np.full((60, 120), 10, np.uint8))
    assert (long["raw_area"], long["raw_feret_min"], long["feret_min_angle"]) == (2000, 20, -90)
    assert long["raw_feret_max"] == pytest.approx(math.hypot(99, 19) + 1, abs=1)
    assert abs(long["feret_max_angle"]) == 10
    assert long["raw_legendre_major"] / long["raw_legendre_minor"] == pytest.approx(5, rel=0.01)


def test_holes_and_several_objects() -> None:
    mask = np.zeros((40, 80), bool)
    mask[5:25, 5:25] = True
    mask[10:20, 10:20] = False
    mask[30:36, 60:70] = True
    row = raw_measures(mask, np.zeros((40, 80), np.uint8))
    assert (row["ppc"], row["raw_area"], row["raw_filled_area"]) == (2, 360, 460)
    assert row["raw_feret_max"] >= 65


def test_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        raw_measures(np.zeros((5, 5), bool), np.zeros((5, 5), np.uint8))


def test_calibrated_columns_of_a_real_row() -> None:
    """Row 4 of a real list (VisualSpreadsheet 4.19.3): its raw columns give its own other columns."""
    raw = {
        "raw_area": 205.0, "raw_filled_area": 205.0, "raw_feret_max": 19.0, "raw_feret_min": 14.0,
        "raw_feret_mean": 16.8056, "raw_perimeter": 50.0416, "raw_convex_perimeter": 49.6853,
    }  # fmt: skip
    expected = {
        "abd_area": 32.7967, "abd_diameter": 6.4620, "length": 8.0388, "width": 5.2668, "esd_diameter": 6.8222,
        "fd_diameter": 6.4620, "perimeter": 27.7431, "convex_perimeter": 25.0508, "compactness": 1.0,
        "elongation": 1.0, "roughness": 1.1075, "filled_area": 32.7967,
    }  # fmt: skip
    found = calibrated(raw, 0.5544, FRINGE_PX)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1.01e-4), name


def test_elongation_of_a_real_row() -> None:
    raw = {
        "raw_area": 85.0, "raw_filled_area": 85.0, "raw_feret_max": 17.0, "raw_feret_min": 8.0,
        "raw_feret_mean": 13.5, "raw_perimeter": 41.7990, "raw_convex_perimeter": 39.1845,
    }  # fmt: skip
    found = calibrated(raw, 0.5544, FRINGE_PX)
    assert found["elongation"] == pytest.approx(2.7788, abs=2e-4)
    assert found["compactness"] == pytest.approx(1.6357, abs=2e-4)
    assert found["width"] == pytest.approx(2.2176, abs=1e-4)  # a narrow one: half the width, not width minus fringe
