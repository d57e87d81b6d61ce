"""Frames, scale bars and margins: found where they are, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plankter.vignettes.codec import decode_image, read_image
from plankter.vignettes.overlays import (
    Box,
    find_frame,
    find_scale_bar,
    margin_share,
    particle_box,
    trimmed,
    without_frame,
    without_overlays,
    without_scale_bar,
)


def vignette(height: int = 60, width: int = 80, background: int = 170, seed: int = 0) -> np.ndarray:
    """A dark ellipse on a slightly noisy background."""
    image = np.full((height, width), background, np.uint8)
    cv2.ellipse(image, (width // 2, height // 2), (width // 4, height // 5), 20, 0, 360, (60,), -1, cv2.LINE_AA)
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def with_bar(image: np.ndarray, below: bool = True) -> np.ndarray:
    """A bar of 1 mm and its label in a strip of background, as EcoTaxa burns them in."""
    background = int(np.median(image[0]))
    strip = np.full((30, image.shape[1]), background, np.uint8)
    cv2.putText(strip, "1 mm", (8, 18), cv2.FONT_HERSHEY_PLAIN, 0.8, (0,), 1, cv2.LINE_8)
    strip[24:26, 6:56] = 0
    return np.vstack((image, strip) if below else (strip[::-1], image))


def as_jpeg(image: np.ndarray) -> np.ndarray:
    return decode_image(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("sides", [(3, 3, 3, 3), (12, 12, 0, 0), (0, 0, 9, 9), (0, 5, 0, 0)])
def test_a_frame_is_cut_off_to_the_pixel(grey: int, sides: tuple[int, int, int, int]) -> None:
    image = vignette()
    framed = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=(grey,))
    assert np.array_equal(without_frame(np.asarray(framed, np.uint8)), image)


def test_frames_survive_neither_jpeg_nor_colour() -> None:
    image = np.repeat(vignette()[:, :, None], 3, axis=2)
    framed = as_jpeg(cv2.copyMakeBorder(image, 16, 16, 16, 16, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    inner = without_frame(framed)
    assert inner.shape[2] == 3 and abs(inner.shape[0] - 60) <= 8 and abs(inner.shape[1] - 80) <= 8
    assert (inner[0] < 200).all() and (inner[:, 0] < 200).all()


def test_an_empty_margin_is_no_frame() -> None:
    image = np.full((70, 90), 255, np.uint8)
    image[20:50, 25:70] = vignette(30, 45)[:, :]
    cv2.ellipse(image, (45, 35), (30, 18), 0, 0, 360, (90,), -1)
    image[image > 160] = 255  # a particle cut out on white, as a scanner's software makes it
    assert find_frame(image) is None and without_frame(image) is image


@pytest.mark.parametrize("image", [np.full((30, 30), 255, np.uint8), np.zeros((5, 40), np.uint8), vignette()])
def test_plain_images_have_no_frame(image: np.ndarray) -> None:
    assert find_frame(image) is None


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("jpeg", [True, False])
def test_a_scale_bar_goes_with_its_label(below: bool, jpeg: bool) -> None:
    image = vignette(background=230)
    marked = with_bar(image, below)
    marked = as_jpeg(marked) if jpeg else marked
    bar, *label = find_scale_bar(marked)
    assert (bar.left, bar.right) == (6, 56) and bar.bottom - bar.top == 2 and label
    left = without_scale_bar(marked)
    assert left.shape[1] == 80 and 60 <= left.shape[0] < 80  # the strip is cut off above the label
    assert find_scale_bar(left) == () and left[:6].min() > 150 and left[-6:].min() > 150


def test_beside_a_particle_the_bar_is_painted_over() -> None:
    marked = with_bar(vignette(background=230))
    marked[60:88, 62:76] = 90  # reaches into the strip
    left = without_scale_bar(marked)
    assert left.shape == marked.shape and left[84:86, 6:56].min() > 200
    assert np.array_equal(left[60:88, 62:76], marked[60:88, 62:76])


def test_a_fibre_along_the_edge_is_no_scale_bar() -> None:
    image = vignette(background=230)
    sharp = image.copy()
    cv2.line(sharp, (6, 54), (60, 54), (0,), 2)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.2)  # optics
    assert find_scale_bar(np.asarray(blurred, np.uint8)) == ()
    slanted = image.copy()
    cv2.line(slanted, (6, 50), (60, 56), (0,), 2)
    assert find_scale_bar(slanted) == ()


def test_a_bar_within_a_frame_goes_too() -> None:
    image = vignette(background=200)
    framed = cv2.copyMakeBorder(with_bar(image), 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255,))
    left, had = without_overlays(np.asarray(framed, np.uint8))
    assert set(had) == {"frame", "scale bar"}
    assert np.array_equal(left[:60], image) and find_scale_bar(left) == () and find_frame(left) is None


def test_margins_are_cut_but_never_added() -> None:
    image = np.full((100, 200), 255, np.uint8)
    image[40:60, 50:90] = 30
    assert particle_box(image) == Box(49, 39, 91, 61)  # a pixel more than the particle: means of 3 x 3
    assert margin_share(image) == (49 + 39 + 109 + 39) / 4 / 42
    cut = trimmed(image, 0.1)
    assert cut.shape == (22 + 8, 42 + 8) and (cut[5:25, 5:45] == 30).all()
    assert trimmed(cut, 5.0).shape == cut.shape


def test_pale_parts_of_a_noisy_particle_are_no_margin() -> None:
    noise = np.random.default_rng(4).normal(0, 5, (80, 120))
    image = np.clip(170 + noise, 0, 255)
    image[30:50, 20:100] -= 12  # about twice the noise
    image[35:45, 50:60] -= 60
    box = particle_box(image.astype(np.uint8))
    assert box is not None and box.left <= 22 and box.right >= 98


def test_an_image_without_a_particle_keeps_its_size() -> None:
    image = np.full((20, 30), 99, np.uint8)
    assert particle_box(image) is None and np.isnan(margin_share(image)) and trimmed(image, 0.1) is image


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 60)), elements=st.sampled_from([0, 120, 255])),
    st.booleans(),
)
def test_cleaning_any_image_leaves_pixels_and_is_done_once(image: np.ndarray, colour: bool) -> None:
    image = np.repeat(image[:, :, None], 3, axis=2) if colour else image
    once, _ = without_overlays(image)
    assert once.size and once.dtype == np.uint8 and once.ndim == image.ndim
    assert trimmed(once, 0.05).size


def test_every_bar_of_the_zooscan_set_is_found_and_none_elsewhere(shared_data: Path) -> None:
    zooscan = sorted((shared_data / "labelled" / "ecotaxa_ml_4class").rglob("*.jpg"))[::8]
    for path in zooscan:
        image = read_image(path)
        left = without_scale_bar(image)
        assert find_scale_bar(image), path
        assert find_scale_bar(left) == () and left.shape[0] < image.shape[0], path
    for name, ending in (("flowcam_vliz_demo", "*.jpg"), ("flowcam_pygsuia", "*.png")):
        for path in sorted((shared_data / "labelled" / name).rglob(ending))[::7]:
            image = read_image(path)
            assert without_overlays(image)[1] == (), path
