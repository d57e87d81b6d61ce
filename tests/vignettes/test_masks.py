"""Our own mask: what it keeps and drops, and the instrument's grey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plankter.vignettes.masks import border_pixels, instrument_grey, own_mask


def scene(side: int = 40, background: int = 180, noise: float = 2.0) -> np.ndarray:
    return np.random.default_rng(5).normal(background, noise, (side, side)).clip(0, 255).astype(np.uint8)


def test_every_object_is_kept_and_specks_are_dropped() -> None:
    image = scene(noise=0)
    image[5:15, 5:15] = 100
    image[25:30, 25:30] = 230  # lighter than the background
    image[35, 35] = 100  # one pixel
    mask = own_mask(image)
    expected = np.zeros_like(mask)
    expected[5:15, 5:15] = expected[25:30, 25:30] = True
    assert np.array_equal(mask, expected)


def test_small_gaps_are_closed_and_holes_stay() -> None:
    image = scene(noise=0)
    image[10:30, 10:30] = 90
    image[10:30, 15] = 180  # a gap of one pixel
    image[19:26, 19:26] = 180  # a hole of seven
    mask = own_mask(image)
    assert mask[12:28, 15].all() and not mask[20:25, 20:25].any() and mask.sum() == 400 - 49


def test_noise_alone_is_not_a_particle_where_one_is_seen() -> None:
    image = scene(noise=4)
    image[12:28, 12:28] = 90
    mask = own_mask(image)
    truth = np.zeros_like(mask)
    truth[12:28, 12:28] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.97


def test_faint_particles_are_found_by_their_strongest_pixels() -> None:
    image = scene(noise=0)
    image[10:20, 10:20] = 172  # 8 levels: under every threshold
    assert own_mask(image).sum() == 100
    tiny = scene(noise=0)
    tiny[20, 20] = 0
    assert own_mask(tiny).sum() == 1 and own_mask(tiny)[20, 20]


def test_a_mask_reaching_the_edge_does_not_grow_along_it() -> None:
    image = scene(noise=0)
    image[0:6, 10:20] = 60
    assert own_mask(image).sum() == 60


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_empty_only_where_nothing_differs(image: np.ndarray) -> None:
    mask = own_mask(image)
    assert mask.shape == image.shape and mask.dtype == np.bool_
    assert mask.any() == bool((image != int(np.median(border_pixels(image)))).any())


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, (13, 17)), st.integers(1, 3))
def test_turning_the_image_turns_the_mask(image: np.ndarray, quarters: int) -> None:
    turned = own_mask(np.ascontiguousarray(np.rot90(image, quarters)))
    assert np.array_equal(turned, np.rot90(own_mask(image), quarters))


@given(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)))
def test_grey_is_the_instruments_integer_arithmetic(bgr: tuple[int, int, int]) -> None:
    image = np.array([[bgr]], np.uint8)
    blue, green, red = bgr
    assert instrument_grey(image)[0, 0] == (4899 * blue + 9617 * green + 1868 * red + 8192) >> 14


def test_grey_of_grey_is_itself() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(instrument_grey(np.dstack([levels] * 3)), levels)
    assert instrument_grey(levels) is levels


@pytest.mark.parametrize("image", [np.zeros((3, 3)), np.zeros((3, 3, 4), np.uint8), np.zeros(3, np.uint8)])
def test_other_pixels_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        instrument_grey(image)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="with pixels"):
        own_mask(np.zeros((0, 4), np.uint8))
