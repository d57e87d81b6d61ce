"""Sheets are decoded again and measured: scale bar, relative sizes, greys and colours."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.publish.contact_sheets import (
    WIDTH_PX,
    ContactSheet,
    before_after_sheet,
    contact_sheet,
    nice_length,
    spread,
)
from plankter.types import ImageArray

PAPER = 238


def plain(height: int, width: int, grey: int = 100) -> ImageArray:
    return np.full((height, width), grey, np.uint8)


def pixels(sheet: ContactSheet | None, flag: int = cv2.IMREAD_GRAYSCALE) -> ImageArray:
    assert sheet is not None
    head, _, data = sheet.data_uri.partition(",")
    assert head == "data:image/jpeg;base64"
    found = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), flag)
    assert found is not None and found.shape[:2] == (sheet.height, sheet.width)
    return np.asarray(found, np.uint8)


def bar_px(sheet: ContactSheet | None) -> int:
    foot = pixels(sheet)[-34:]
    row = foot[34 // 2 - 2]
    dark = np.flatnonzero(row < 120)
    gaps = np.flatnonzero(np.diff(dark) > 4)  # the label stands behind the bar
    return int(dark[gaps[0]] - dark[0] + 1) if len(gaps) else int(dark[-1] - dark[0] + 1)


def boxes(sheet: ContactSheet | None, grey: int) -> list[tuple[int, int]]:
    seen = np.abs(pixels(sheet)[:-34].astype(int) - grey) < 12
    _, _, stats, _ = cv2.connectedComponentsWithStats(seen.astype(np.uint8))
    return sorted((int(w), int(h)) for _, _, w, h, area in stats[1:] if area > 50)


def test_scale_bar_has_the_length_it_claims() -> None:
    # a square of 80 px at 2.5 um per px is 200 um wide
    sheet = contact_sheet([(0, plain(80, 80), 0.9)], 2.5)
    assert sheet is not None and sheet.scale_bar.endswith(" µm")
    ((width, height),) = boxes(sheet, 100)
    um_on_sheet = float(sheet.scale_bar.split()[0]) * width / 200
    assert bar_px(sheet) == pytest.approx(um_on_sheet, abs=2) and abs(width - height) <= 1


def test_without_a_scale_the_bar_counts_pixels() -> None:
    sheet = contact_sheet([(0, plain(440, 100), 0.9)], None)
    assert sheet is not None and sheet.scale_bar == "200 px"
    assert boxes(sheet, 100)[0] == pytest.approx((50, 220), abs=2)  # shown at half its size
    assert bar_px(sheet) == pytest.approx(100, abs=2)


def test_all_vignettes_share_one_scale() -> None:
    sheet = contact_sheet([(0, plain(300, 150, 100), 0.9), (1, plain(60, 90, 100), 0.8)], 1.0)
    (small, large) = boxes(sheet, 100)
    assert large[0] / small[0] == pytest.approx(150 / 90, rel=0.06)
    assert large[1] / small[1] == pytest.approx(300 / 60, rel=0.06)


def test_greys_and_colours_survive() -> None:
    grey = pixels(contact_sheet([(0, plain(50, 50, 60), 0.9)], 1.0), cv2.IMREAD_UNCHANGED)
    assert grey.ndim == 2 and abs(int(grey[40, 40]) - 60) <= 2
    blue = np.zeros((50, 50, 3), np.uint8)
    blue[:, :] = (220, 60, 30)
    colour = pixels(contact_sheet([(0, blue, 0.9), (1, plain(50, 50, 60), 0.8)], 1.0), cv2.IMREAD_COLOR)
    assert colour[40, 40].astype(int) == pytest.approx([220, 60, 30], abs=6)
    assert colour[40, 160].astype(int) == pytest.approx([60, 60, 60], abs=6)


def test_order_choice_and_width() -> None:
    many = [(100 + k, plain(100, 200), k / 100) for k in range(100)]
    sheet = contact_sheet(many, 1.0, n=5)
    assert sheet is not None and sheet.indices == (199, 174, 149, 125, 100)
    assert sheet.width <= WIDTH_PX and len(boxes(sheet, 100)) == 5


def test_a_vignette_wider_than_the_sheet_is_made_to_fit() -> None:
    sheet = contact_sheet([(0, plain(40, 4000), 0.9)], 0.5)
    assert sheet is not None and sheet.width <= WIDTH_PX
    assert boxes(sheet, 100)[0][0] > 900


def test_nothing_to_show() -> None:
    assert contact_sheet([], 1.0) is None
    assert contact_sheet([(0, np.empty((0, 5), np.uint8), 0.9)], 1.0) is None


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(0, 30))
def test_spread_falls_and_holds_both_ends(scores: list[float], n: int) -> None:
    chosen = spread(scores, n)
    assert len(chosen) == len(set(chosen)) == min(n, len(scores))
    picked = [scores[k] for k in chosen]
    assert picked == sorted(picked, reverse=True)
    if len(chosen) > 1:
        assert picked[0] == max(scores) and picked[-1] == min(scores)


def test_spread_puts_unknown_scores_last() -> None:
    assert spread([np.nan, 0.1, 0.9], 3) == [2, 1, 0]


@pytest.mark.parametrize(("longest", "nice"), [(160, 100), (50, 50), (49.9, 20), (0.3, 0.2), (1, 1), (1000, 1000)])
def test_nice_lengths(longest: float, nice: float) -> None:
    assert nice_length(longest) == pytest.approx(nice)


def test_before_and_after_stand_above_each_other_at_one_scale() -> None:
    sheet = before_after_sheet([(plain(60, 60, 40), plain(30, 30, 90))] * 7, [plain(20, 20, 140)])
    assert sheet.ndim == 3 and (sheet[:, :, 0] == sheet[:, :, 2]).all()
    for grey, count, side in ((40, 7, 150), (90, 7, 75), (140, 1, 80)):
        parts, _, stats, _ = cv2.connectedComponentsWithStats((sheet[:, :, 0] == grey).astype(np.uint8))
        found = [tuple(entry[2:4]) for entry in stats[1:parts] if entry[4] > 100]
        assert found == [(side, side)] * count, grey


def test_large_images_fit_their_cells_and_colour_is_shown() -> None:
    blue = np.zeros((900, 300, 3), np.uint8)
    blue[:, :, 0] = 200
    sheet = before_after_sheet([(blue, plain(900, 300, 10))])
    assert ((sheet == (200, 0, 0)).all(axis=2)).sum() == pytest.approx(150 * 50, rel=0.02)


def test_a_sheet_of_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        before_after_sheet([])
