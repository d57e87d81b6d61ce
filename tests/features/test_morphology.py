"""Measures of shapes whose numbers are known, and what must not change them."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plankter.features.measures_table import MEASURE_NAMES, MEASURES
from plankter.features.morphology import BATCH, MORPHOLOGY, measure, measure_many
from plankter.features.visualspreadsheet import visualspreadsheet_derived

DOCS = Path(__file__).parents[2] / "docs"
IN_UM = {m.name for m in MEASURES if m.unit.startswith("um")}
TURNED = {"feret_max_angle_deg", "feret_min_angle_deg", "ellipse_angle_deg", "box_width_px", "box_height_px"}


def numbers(
    mask: np.ndarray, image: np.ndarray | None = None, um_per_px: float | None = 1.0, fringe_px: float = 0.0
) -> dict[str, float]:
    image = np.where(mask, 50, 200).astype(np.uint8) if image is None else image
    return dict(zip(MEASURE_NAMES, measure(image, mask, um_per_px, fringe_px).tolist(), strict=True))


def test_square() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 4:14] = True
    found = numbers(mask)
    assert found["area_px"] == found["filled_area_px"] == found["area_uncorrected_um2"] == 100
    assert found["perimeter_px"] == found["convex_perimeter_px"] == 36  # through the centres of the outermost pixels
    assert found["convex_area_px"] == 81
    assert found["solidity"] == pytest.approx(1)
    assert found["feret_min_px"] == pytest.approx(10)
    assert found["feret_max_px"] == pytest.approx(9 * math.sqrt(2) + 1)
    assert abs(found["feret_max_angle_deg"]) == 45 and found["feret_min_angle_deg"] in (0, -90)
    # mean over the 36 directions of 9 (|cos| + |sin|) + 1
    angles = np.deg2rad(np.arange(-90, 90, 5))
    assert found["feret_mean_px"] == pytest.approx(np.mean(9 * (abs(np.cos(angles)) + abs(np.sin(angles))) + 1))
    assert found["ellipse_major_px"] == pytest.approx(4 * math.sqrt(99 / 12))  # variance of 0..9 is (100 - 1) / 12
    assert found["eccentricity"] == pytest.approx(0, abs=1e-3)
    assert found["circularity_hu"] == pytest.approx(100 / (2 * math.pi * 2 * 99 / 12), rel=1e-6)
    assert (found["box_width_px"], found["box_height_px"], found["n_objects"]) == (10, 10, 1)
    # 18 squared is less than 4 x 100: no such rectangle, so the square of perimeter 36
    assert found["geodesic_length_um"] == found["geodesic_thickness_um"] == 9 and found["convexity"] == 1
    assert found["elongation"] == 1 and found["compactness"] == pytest.approx(36**2 / (4 * math.pi * 100))
    assert (found["grey_mean"], found["grey_sd"], found["grey_sum"]) == (50, 0, 5000)
    assert found["background_grey"] == 200
    assert math.isnan(found["grey_skewness"]) and math.isnan(found["grey_kurtosis"])


def test_disc() -> None:
    radius = 40
    mask = cv2.circle(np.zeros((101, 101), np.uint8), (50, 50), radius, 1, -1) > 0
    found = numbers(mask, um_per_px=2.0)
    diameter = 2 * radius + 1
    assert found["area_px"] == pytest.approx(math.pi / 4 * diameter**2, rel=0.03)
    for name in ("length_um", "width_um", "esd_um", "abd_um", "fd_um"):
        assert found[name] == pytest.approx(2 * diameter, rel=0.02), name
    assert found["volume_abd_um3"] == pytest.approx(math.pi / 6 * found["abd_um"] ** 3, rel=1e-5)
    assert found["volume_esd_um3"] == pytest.approx(math.pi / 6 * found["esd_um"] ** 3, rel=1e-5)
    assert found["circularity_hu"] == pytest.approx(1, abs=0.002) and found["aspect_ratio"] > 0.98
    assert found["solidity"] > 0.97 and abs(found["transparency"]) < 0.02
    assert found["ellipse_major_px"] == pytest.approx(diameter, rel=0.02)


@pytest.mark.parametrize("fringe", [0.0, 4.5])
def test_line(fringe: float) -> None:
    mask = np.zeros((9, 40), bool)
    mask[4, 5:35] = True
    found = numbers(mask, um_per_px=0.5, fringe_px=fringe)
    assert (found["area_px"], found["feret_max_px"], found["feret_min_px"]) == (30, 30, 1)
    assert found["perimeter_px"] == 58 and found["convex_area_px"] == 0 and found["solidity"] == pytest.approx(1)
    assert (found["feret_max_angle_deg"], found["feret_min_angle_deg"], found["ellipse_angle_deg"]) == (0, -90, 0)
    assert found["length_um"] == pytest.approx(0.5 * (30 - fringe))
    assert found["width_um"] == pytest.approx(0.5 * max(1 - fringe, 0.5))  # at least half of what it measures
    assert found["ellipse_minor_px"] == 0 and found["eccentricity"] == 1
    # L + B = 29, L B = 30
    assert found["elongation"] == pytest.approx((29 + math.sqrt(29**2 - 120)) / (29 - math.sqrt(29**2 - 120)), rel=1e-5)
    assert found["convex_perimeter_um"] == pytest.approx(0.5 * (58 - fringe))
    assert found["roughness"] == pytest.approx(58 / (58 - fringe))


def test_a_line_that_rises_to_the_right_has_a_positive_angle() -> None:
    found = numbers(np.eye(30, dtype=bool)[::-1])
    assert found["ellipse_angle_deg"] == pytest.approx(45) and found["feret_max_angle_deg"] == 45
    assert found["feret_min_angle_deg"] == -45


def test_ring() -> None:
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    full = numbers(mask)
    mask[10:20, 10:20] = False
    ring = numbers(mask)
    assert (ring["area_px"], ring["filled_area_px"], ring["hole_share"]) == (300, 400, 0.25)
    assert ring["abd_um"] == pytest.approx(2 * math.sqrt(300 / math.pi))
    assert ring["fd_um"] == pytest.approx(2 * math.sqrt(400 / math.pi)) and ring["filled_area_um2"] == pytest.approx(
        400
    )
    for name in ("perimeter_px", "feret_mean_px", "ellipse_major_px", "circularity_hu", "convexity", "n_objects"):
        assert ring[name] == full[name], name  # holes do not count
    mask[14:16, 14:16] = True  # an object inside the hole belongs to the area, not to the count
    assert numbers(mask)["n_objects"] == 1 and numbers(mask)["area_px"] == 304


def test_several_objects_are_measured_together() -> None:
    mask = np.zeros((20, 60), bool)
    mask[5:10, 2:7] = mask[5:10, 50:55] = True
    found = numbers(mask)
    assert (found["n_objects"], found["area_px"], found["feret_max_px"]) == (2, 50, pytest.approx(53.15, abs=0.1))
    assert (
        found["perimeter_px"] == 32
        and found["box_width_px"] == 53
        and found["solidity"] < 0.2
        and found["convexity"] < 0.3
    )
    mask[10, 7] = True  # joined by a corner is one object: 8-connected
    assert numbers(mask)["n_objects"] == 2


def test_grey_follows_the_instruments_weights_and_moments() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (31, 33, 3), dtype=np.uint8)
    mask = rng.random((31, 33)) < 0.3
    found = numbers(mask, image)
    blue, green, red = (image[:, :, k].astype(float) for k in range(3))
    grey = np.rint(0.114 * red + 0.587 * green + 0.299 * blue)[mask]
    assert found["grey_mean"] == pytest.approx(grey.mean(), abs=0.02)  # the instrument's weights have 14 bits
    assert found["grey_sd"] == pytest.approx(grey.std(), rel=1e-3)
    z = (grey - grey.mean()) / grey.std()
    assert found["grey_skewness"] == pytest.approx((z**3).mean(), abs=1e-2)
    assert found["grey_kurtosis"] == pytest.approx((z**4).mean() - 3, abs=1e-2)
    assert found["grey_median"] == pytest.approx(np.median(grey), abs=1)
    assert (found["grey_min"], found["grey_max"]) == (
        pytest.approx(grey.min(), abs=1),
        pytest.approx(grey.max(), abs=1),
    )
    for name, channel in (("avg_blue", blue), ("avg_green", green), ("avg_red", red)):
        assert found[name] == pytest.approx(channel[mask].mean(), rel=1e-6)


def test_edge_gradient_of_a_step() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    found = numbers(mask, np.where(mask, 100, 120).astype(np.uint8))
    # contour of 10 x 20 px: 56 points, of which the 20 beside the step see |Sobel x| = 4 * 20
    assert found["edge_gradient"] == pytest.approx(20 * 40 / 56)
    assert numbers(mask)["edge_gradient"] == pytest.approx(20 * 255 / 56)  # a step of 150: cut at 255


def test_grey_and_three_equal_channels_agree() -> None:
    rng = np.random.default_rng(4)
    grey = rng.integers(0, 256, (24, 20), dtype=np.uint8)
    mask = grey > 100
    assert np.array_equal(measure(grey, mask, 1.0, 0.0), measure(np.dstack([grey] * 3), mask, 1.0, 0.0))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(3, 30), st.integers(3, 30))), st.integers(1, 3), st.booleans())
def test_turning_and_flipping_change_nothing(image: np.ndarray, quarters: int, flipped: bool) -> None:
    mask = image > 120
    if not mask.any():
        mask[1, 1] = True
    other = np.rot90(image, quarters)
    other_mask = np.rot90(mask, quarters)
    if flipped:
        other, other_mask = np.fliplr(other), np.fliplr(other_mask)
    before, after = numbers(mask, image, 0.7, 1.0), numbers(other_mask, np.ascontiguousarray(other), 0.7, 1.0)
    for name in set(MEASURE_NAMES) - TURNED:
        assert after[name] == pytest.approx(before[name], rel=1e-4, abs=1e-3, nan_ok=True), name
    boxes = [(r["box_width_px"], r["box_height_px"]) for r in (before, after)]
    assert boxes[1] == (boxes[0] if quarters == 2 else boxes[0][::-1])


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.bool_, (12, 15)), st.floats(0.1, 10))
def test_scale_enters_by_its_power(mask: np.ndarray, um_per_px: float) -> None:
    mask[4:7, 4:9] = True
    one, scaled, none = (
        numbers(mask, None, 1.0, 4.5),
        numbers(mask, None, um_per_px, 4.5),
        numbers(mask, None, None, 4.5),
    )
    for item in MEASURES:
        power = {"um": 1, "um2": 2, "um3": 3}.get(item.unit, 0)
        assert scaled[item.name] == pytest.approx(one[item.name] * um_per_px**power, rel=1e-4, nan_ok=True), item.name
        if item.name in IN_UM:
            assert math.isnan(none[item.name])
        else:
            assert none[item.name] == pytest.approx(one[item.name], nan_ok=True), item.name


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_any_mask_of_any_size_is_measured(mask: np.ndarray) -> None:
    found = numbers(mask)
    assert found["area_px"] == mask.sum()
    if mask.any():
        unknown = {name for name, value in found.items() if math.isnan(value)}
        assert unknown <= {"grey_skewness", "grey_kurtosis", "background_grey", "roughness"}
        assert 0 < found["solidity"] <= 1 + 1e-6 and 0 < found["convexity"] <= 1 and 0 < found["circularity"] <= 1
        assert found["feret_min_px"] <= found["feret_mean_px"] <= found["feret_max_px"]
        assert not any(math.isinf(value) for name, value in found.items() if name != "elongation")
    else:
        assert math.isnan(found["feret_max_px"]) and found["n_objects"] == 0


def test_origin_rounds_in_the_camera_frame() -> None:
    mask = cv2.ellipse(np.zeros((40, 40), np.uint8), (20, 20), (15, 7), 33, 0, 360, 1, -1) > 0
    image = np.full((40, 40), 90, np.uint8)
    exact = dict(zip(MEASURE_NAMES, measure(image, mask, None, 0.0), strict=True))
    rounded = dict(zip(MEASURE_NAMES, measure(image, mask, None, 0.0, origin_px=(311, 57)), strict=True))
    for name in ("feret_max_px", "feret_min_px"):
        assert rounded[name] == round(rounded[name]) and abs(rounded[name] - exact[name]) <= 1
    assert abs(rounded["feret_mean_px"] - exact["feret_mean_px"]) < 0.3
    assert exact["feret_max_px"] != round(exact["feret_max_px"])


def test_many_keeps_order_and_marks_failures() -> None:
    mask = np.zeros((12, 12), bool)
    mask[3:8, 3:8] = True
    image = np.where(mask, 60, 200).astype(np.uint8)
    table = measure_many([(image, mask), (None, None), (image, None), (None, mask)], 0.5, 0.0)
    assert (table.name, table.version, table.columns) == (*MORPHOLOGY, MEASURE_NAMES)
    assert np.isnan(table.values).all(axis=1).tolist() == [False, True, False, True]
    assert table.column("area_px")[[0, 2]].tolist() == [25, 25]  # our own mask finds the same square
    assert np.array_equal(table.values[0], measure(image, mask, 0.5, 0.0), equal_nan=True)
    assert measure_many([], 0.5, 0.0).values.shape == (0, len(MEASURES))
    origins = np.array([[5.0, 7.0], [np.nan, np.nan]])
    placed = measure_many([(image, mask), (image, mask)], 0.5, 0.0, origins_px=origins)
    assert placed.column("feret_max_px").tolist() == [7.0, pytest.approx(4 * math.sqrt(2) + 1)]


def test_what_does_not_fit_is_refused() -> None:
    image = np.zeros((5, 6), np.uint8)
    with pytest.raises(ValueError, match="bool mask"):
        measure(image, np.ones((6, 5), bool), None, 0.0)
    with pytest.raises(ValueError, match="bool mask"):
        measure(image, np.full((5, 6), 255, np.uint8), None, 0.0)
    with pytest.raises(ValueError, match="uint8"):
        measure(image.astype(float), np.ones((5, 6), bool), None, 0.0)
    with pytest.raises(ValueError, match="origins_px has 1 rows"):
        measure_many([(image, None)] * 2, None, 0.0, origins_px=np.zeros((1, 2)))


def test_formulas_take_what_there_is() -> None:
    found = visualspreadsheet_derived({"raw_area": np.array([100.0, 9.0]), "ppc": np.array([1, 1])}, 2.0, 4.5)
    assert set(found) == {"abd_area", "abd_diameter", "volume_abd"}
    raw_diameter = 2 * math.sqrt(9 / math.pi)
    assert found["abd_diameter"][1] == pytest.approx(raw_diameter)  # 2 * half of it: below two fringes
    assert found["abd_diameter"][0] == pytest.approx(2 * (2 * math.sqrt(100 / math.pi) - 4.5))
    assert visualspreadsheet_derived({}, 1.0, 0.0) == {}


def test_table_is_complete_and_documented() -> None:
    assert len(set(MEASURE_NAMES)) == len(MEASURES)
    assert all(m.name and m.unit and m.definition and m.source for m in MEASURES)
    suffixes = {"um": "_um", "um2": "_um2", "um3": "_um3", "px": "_px", "degree": "_deg"}
    assert all(m.name.endswith(suffixes[m.unit]) for m in MEASURES if m.unit in suffixes)
    page = runpy.run_path(str(DOCS / "make_reference.py"))["measures_page"]()
    committed = (DOCS / "reference" / "measures.md").read_text(encoding="utf-8")
    assert committed == page, "stale: run python docs/make_reference.py"
    assert all(f"| `{name}` |" in committed for name in MEASURE_NAMES)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99)), min_size=1, max_size=9),
    st.booleans(),
)
def test_particles_measured_together_are_measured_as_alone(sizes: list[tuple[int, int, int]], placed: bool) -> None:
    rng = np.random.default_rng(len(sizes))
    pairs: list[tuple[np.ndarray | None, np.ndarray | None]] = []
    for height, width, share in sizes:
        shape = (height, width) if share % 2 else (height, width, 3)
        mask = rng.integers(0, 100, (height, width)) < share  # empty ones among them
        pairs.append((rng.integers(0, 256, shape, np.uint8), mask))
    origins = rng.integers(0, 900, (len(pairs), 2)).astype(float) if placed else np.full((len(pairs), 2), np.nan)
    together = measure_many(pairs, 0.5, 1.5, origins_px=origins).values
    for (image, mask), origin, row in zip(pairs, origins.tolist(), together, strict=True):
        place = (int(origin[0]), int(origin[1])) if placed else None
        assert np.array_equal(measure(image, mask, 0.5, 1.5, origin_px=place), row, equal_nan=True)


def test_more_particles_than_are_measured_together() -> None:
    rng = np.random.default_rng(1)
    pairs = [(rng.integers(0, 256, (5, 6), np.uint8), np.ones((5, 6), bool)) for _ in range(2 * BATCH + 3)]
    values = measure_many([*pairs[:200], (None, None), *pairs[200:]], 0.5, 0.0).values
    assert values.shape[0] == 2 * BATCH + 4 and np.isnan(values[200]).all()
    again = measure_many(reversed(pairs), 0.5, 0.0).values[::-1]
    assert np.array_equal(np.delete(values, 200, axis=0), again, equal_nan=True)
