"""What a network sees: aspect kept, border grey, sizes known or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plankter.vignettes.augment import Augmentation, augment
from plankter.vignettes.letterbox import LOG_PX_SCALE, border_grey, letterbox, size_inputs, to_grey

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 90), st.integers(1, 90)))


@settings(max_examples=60, deadline=None)
@given(IMAGES, st.sampled_from([8, 56, 80]))
def test_any_vignette_becomes_a_square_padded_with_its_border(image: np.ndarray, size: int) -> None:
    square = letterbox(image, size)
    assert square.shape == (size, size) and square.dtype == np.uint8
    if image.shape[0] * 2 < image.shape[1]:
        assert (square[0] == border_grey(image)).all() and (square[-1] == border_grey(image)).all()


@settings(max_examples=100, deadline=None)
@given(IMAGES)
def test_the_border_is_the_median_of_its_pixels(image: np.ndarray) -> None:
    border = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    assert border_grey(image) == int(np.median(border))


def test_aspect_is_kept() -> None:
    image = np.full((20, 60), 200, np.uint8)
    image[5:15, 20:40] = 30  # 20 wide, 10 high
    square = letterbox(image, 120)
    rows, columns = np.nonzero(square < 100)
    assert abs((np.ptp(columns) + 1) / (np.ptp(rows) + 1) - 2) < 0.1


def test_a_grey_image_in_three_channels_gives_the_same_pixels() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (31, 44), dtype=np.uint8)
    assert np.array_equal(letterbox(np.dstack([grey] * 3), 80), letterbox(grey, 80))
    assert np.array_equal(to_grey(np.dstack([grey, grey, grey, np.full_like(grey, 9)])), grey)


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5), np.uint8), np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8)]
)
def test_what_is_no_vignette_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        letterbox(image, 80)


def test_sizes_may_be_unknown() -> None:
    inputs = size_inputs([60, np.nan, 0], [30, 20, 20])
    assert np.allclose(inputs[0], [np.log(60) / LOG_PX_SCALE, np.log(30) / LOG_PX_SCALE, 1])
    assert not inputs[1:].any()


def test_augmentation_is_repeatable_and_brings_the_size() -> None:
    square = letterbox(np.random.default_rng(1).integers(0, 256, (50, 70), dtype=np.uint8), 80)
    one = augment(square, 56, np.random.default_rng(7), Augmentation())
    two = augment(square, 56, np.random.default_rng(7), Augmentation())
    other = augment(square, 56, np.random.default_rng(8), Augmentation())
    assert one.shape == (56, 56) and np.array_equal(one, two) and not np.array_equal(one, other)
