"""Matching: the same description changes nothing, another one is reached, and every image survives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plankter._errors import ImageError
from plankter.vignettes.codec import read_image
from plankter.vignettes.match import (
    GAIN_LIMIT,
    MAX_PIXELS,
    ImageStatistics,
    is_colour,
    match,
    measure_statistics,
    plan_matching,
)

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))
COLOUR = hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)))


def particles(background: int, grey: int, n: int = 12, size: int = 60, spread: int = 0) -> list[np.ndarray]:
    """Ellipses of one grey on one background, a little noise; backgrounds differ by ``spread`` between images."""
    rng = np.random.default_rng(background * 256 + grey)
    found = []
    for k in range(n):
        shift = int(rng.integers(-spread, spread + 1)) if spread else 0
        image = np.full((size, size + 3 * k), background + shift, np.uint8)
        axes = (size // 3, size // 4)
        cv2.ellipse(image, (size // 2, size // 2), axes, 15.0 * k, 0, 360, (grey + shift,), -1, cv2.LINE_AA)
        found.append(np.clip(np.rint(image + rng.normal(0, 1.5, image.shape)), 0, 255).astype(np.uint8))
    return found


def matched(images: list[np.ndarray], like: ImageStatistics, **sizes: float) -> list[np.ndarray]:
    plan = plan_matching(measure_statistics(images), like, **sizes)
    return [plan.apply(image)[0] for image in images]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(IMAGES, COLOUR), min_size=1, max_size=5))
def test_a_set_matched_to_itself_stays_as_it_is(images: list[np.ndarray]) -> None:
    of = measure_statistics(images)
    for image in images:
        once = match(image, of, of)
        assert np.array_equal(once, image) and np.array_equal(match(once, of, of), once)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(IMAGES, COLOUR), min_size=1, max_size=4), st.lists(IMAGES, min_size=1, max_size=4))
def test_any_image_becomes_uint8_pixels_and_always_the_same(here: list[np.ndarray], there: list[np.ndarray]) -> None:
    of, like = measure_statistics(here), measure_statistics(there)
    for image in here:
        kept = image.copy()
        out = match(image, of, like, um_per_px=2.0, like_um_per_px=1.0)
        assert out.dtype == np.uint8 and out.size and out.flags.c_contiguous
        assert np.array_equal(out, match(image, of, like, um_per_px=2.0, like_um_per_px=1.0))
        assert np.array_equal(image, kept)


@pytest.mark.parametrize(("background", "grey"), [(255, 190), (120, 80), (20, 90), (10, 200), (200, 20)], ids=str)
def test_background_contrast_and_polarity_are_reached(background: int, grey: int) -> None:
    like = measure_statistics(particles(175, 100))
    after = measure_statistics(matched(particles(background, grey), like))
    assert abs(after.background - like.background) <= 2
    assert after.contrast == pytest.approx(like.contrast, rel=0.1)
    assert after.dark_on_light and like.dark_on_light


def test_dark_field_is_reached_from_transmitted_light() -> None:
    like = measure_statistics(particles(12, 130))
    assert not like.dark_on_light
    after = measure_statistics(matched(particles(170, 100), like))
    assert not after.dark_on_light and abs(after.background - 12) <= 3
    assert after.contrast == pytest.approx(like.contrast, rel=0.1)


def test_matching_once_is_enough() -> None:
    like = measure_statistics(particles(175, 100, spread=20))
    once = matched(particles(240, 200), like)
    twice = matched(once, like)
    assert max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(once, twice, strict=True)) <= 8


def test_what_differs_between_images_still_differs() -> None:
    faint, dark = particles(255, 225, n=6), particles(255, 120, n=6)
    like = measure_statistics(particles(175, 90))
    out = matched(faint + dark, like)
    assert measure_statistics(out[:6]).contrast < 0.6 * measure_statistics(out[6:]).contrast


def test_dark_structure_is_not_clipped() -> None:
    image = particles(255, 90, n=1)[0]
    cv2.circle(image, (30, 30), 6, (45,), -1)
    of = measure_statistics(particles(255, 200))
    out = match(image, of, measure_statistics(particles(175, 110)))
    assert out[28:33, 28:33].mean() < out[28:33, 42:46].mean() - 10 and (out == 0).mean() < 0.01


def test_backgrounds_come_as_close_together_as_in_the_reference() -> None:
    like = measure_statistics(particles(170, 100))
    after = measure_statistics(matched(particles(150, 90, n=40, spread=30), like))
    assert like.background_spread < 2 and after.background_spread < 3


def test_colour_is_dropped_for_a_grey_reference_and_kept_for_a_coloured_one() -> None:
    grey = particles(175, 100)
    coloured = [np.dstack((image, image // 2, image // 3)) for image in particles(200, 120)]
    assert is_colour(coloured[0]) and not is_colour(np.dstack([grey[0]] * 3)) and not is_colour(grey[0])
    assert all(image.ndim == 2 for image in matched(coloured, measure_statistics(grey)))
    warm = [np.dstack((image // 2, image // 2, image)) for image in grey]
    like = measure_statistics(warm)
    after = measure_statistics(matched(coloured, like))
    assert after.in_colour and np.allclose(after.background_bgr, like.background_bgr, atol=3)
    assert all(image.ndim == 2 for image in matched(grey, like))  # colour cannot be made


def test_pixel_size_is_resampled_where_both_are_known() -> None:
    images = particles(175, 100)
    like = measure_statistics(images)
    assert matched(images, like, um_per_px=1.0, like_um_per_px=2.0)[0].shape == (30, 30)
    assert matched(images, like, um_per_px=1.5, like_um_per_px=1.0)[0].shape == (90, 90)
    assert matched(images, like, um_per_px=1.5)[0].shape == (60, 60)
    assert matched(images, replace(like, um_per_px=0.5), um_per_px=1.0)[0].shape == (120, 120)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pixel_size_must_be_above_0(wrong: float) -> None:
    of = measure_statistics(particles(175, 100))
    with pytest.raises(ValueError, match="pixel size"):
        plan_matching(of, of, um_per_px=wrong, like_um_per_px=1.0)


def test_resampling_is_bounded() -> None:
    of = measure_statistics(particles(175, 100))
    with pytest.raises(ImageError, match=f"{MAX_PIXELS:,}"):
        match(particles(175, 100)[0], of, of, um_per_px=1000.0, like_um_per_px=0.01)


@pytest.mark.parametrize("image", [np.zeros((0, 4), np.uint8), np.zeros((4, 4), np.float32)])
def test_what_is_no_image_is_refused(image: Any) -> None:
    of = measure_statistics(particles(175, 100))
    with pytest.raises(ImageError, match="expected uint8"):
        match(image, of, of)


def test_frames_and_bars_go_only_where_the_reference_has_none() -> None:
    plain = particles(175, 100)
    framed = [np.asarray(cv2.copyMakeBorder(i, 5, 5, 5, 5, cv2.BORDER_CONSTANT, value=(255,))) for i in plain]
    of, like = measure_statistics(framed), measure_statistics(plain)
    assert (of.frame_share, like.frame_share) == (1, 0) and of.background == like.background
    assert match(framed[0], of, like).shape == plain[0].shape
    assert match(framed[0], of, of).shape == framed[0].shape
    rare = replace(of, frame_share=0.02)
    assert match(framed[0], rare, like).shape == framed[0].shape


def test_wide_margins_are_cut_to_those_of_the_reference() -> None:
    tight, wide = particles(175, 100), [np.pad(i, 80, constant_values=175) for i in particles(175, 100)]
    like = measure_statistics(tight)
    after = measure_statistics(matched(wide, like))
    assert after.margin <= like.widest_margin + 0.05 < measure_statistics(wide).margin


def test_contrast_is_raised_within_limits() -> None:
    like = measure_statistics(particles(175, 20))
    plan = plan_matching(replace(measure_statistics(particles(175, 170)), contrast=1.0), like)
    assert plan.gain == GAIN_LIMIT


def test_statistics_of_known_images() -> None:
    found = measure_statistics(particles(180, 80, n=20))
    assert found.images == 20 and found.background == 180 and found.background_bgr == (180, 180, 180)
    assert found.contrast == pytest.approx(100, abs=6) and found.noise == pytest.approx(1.5, abs=0.5)
    assert (found.dark_share, found.colour_share, found.frame_share, found.scale_bar_share) == (1, 0, 0, 0)
    assert found.size_px[0] < found.size_px[2] < found.size_px[4] == pytest.approx(114.2, abs=1)


def test_statistics_survive_json_and_refuse_what_is_none() -> None:
    found = measure_statistics(particles(180, 80), um_per_px=0.55)
    assert ImageStatistics.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    good = found.to_dict()
    for name, wrong in (
        ("version", 2), ("version", None), ("images", 0), ("background", "180"), ("background", float("nan")),
        ("background", 300), ("background_bgr", [1, 2]), ("background_bgr", 7), ("dark_share", 1.5), ("margin", -1),
        ("widest_margin", -1), ("size_px", [1, 2, 3, 4, 0]), ("size_px", [1]), ("contrast", None), ("noise", True),
        ("um_per_px", 0), ("um_per_px", "1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected|must be"):
            ImageStatistics.from_dict({**good, name: wrong})
    for name in good:
        if name != "um_per_px":
            with pytest.raises(ValueError, match=r"expected|must be"):
                ImageStatistics.from_dict({k: v for k, v in good.items() if k != name})


@pytest.mark.parametrize("images", [[], [np.zeros((0, 3), np.uint8)]])
def test_nothing_cannot_be_measured(images: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="got none"):
        measure_statistics(images)


def test_real_instruments_are_told_apart_and_brought_together(shared_data: Path) -> None:
    labelled = shared_data / "labelled"
    flowcam = [read_image(p) for p in sorted((labelled / "flowcam_vliz_demo").rglob("*.jpg"))]
    scanner = [read_image(p) for p in sorted((labelled / "ecotaxa_ml_4class").rglob("*.jpg"))[::10]]
    other = [read_image(p) for p in sorted((labelled / "flowcam_pygsuia").rglob("*.png"))[::50]]
    like = measure_statistics(flowcam)
    assert 160 < like.background < 190 and like.dark_on_light and not like.in_colour and like.scale_bar_share == 0
    zooscan = measure_statistics(scanner)
    assert (zooscan.background, zooscan.scale_bar_share, zooscan.colour_share) == (255, 1, 0)
    assert measure_statistics(other).in_colour
    for images in (scanner, other):
        after = measure_statistics(matched(images, like))
        assert abs(after.background - like.background) < 12 and not after.in_colour and after.scale_bar_share == 0
        before = measure_statistics(images)
        assert abs(after.contrast - like.contrast) < abs(before.contrast - like.contrast)
