"""Copies of whole vignettes: aspect and colour kept, repeatable, nothing cut off."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plankter.vignettes.augment import COPIES, Augmentation, augment, augmented_copy

STILL = Augmentation(
    rotate_p=0, scale=0, shift=0, contrast=0, brightness=0, noise_p=0, blur_p=0, cutout_p=0
)  # quarter turns and mirrors only


def shape(background: int = 180) -> np.ndarray:
    image = np.full((40, 70), background, np.uint8)
    cv2.rectangle(image, (2, 2), (67, 37), (30,), -1)
    return image


def turns(image: np.ndarray) -> list[bytes]:
    both = [image, image[:, ::-1]]
    return [np.rot90(one, k).tobytes() for one in both for k in range(4)]


def test_quarter_turns_and_mirrors_move_pixels_and_change_none() -> None:
    image = np.random.default_rng(3).integers(0, 256, (23, 31), dtype=np.uint8)
    seen = set()
    for seed in range(40):
        copy, _ = augmented_copy(image, np.random.default_rng(seed), STILL)
        assert copy.tobytes() in turns(image) and sorted(copy.shape) == [23, 31]
        seen.add(turns(image).index(copy.tobytes()))
    assert len(seen) == 8


def test_a_turned_particle_stays_whole() -> None:
    image = shape()
    inside = int((image < 100).sum())
    for seed in range(30):
        copy, done = augmented_copy(image, np.random.default_rng(seed), Augmentation(
            rotate_p=1, scale=0, shift=0, contrast=0, brightness=0, noise_p=0, blur_p=0, cutout_p=0))  # fmt: skip
        assert abs(int((copy < 105).sum()) - inside) < 0.05 * inside, done
        assert (copy[0, 0], copy[-1, -1]) == (180, 180) or copy.shape in ((40, 70), (70, 40))


def test_a_copy_is_repeatable_and_another_draw_is_another_copy() -> None:
    image = shape()
    one, said = augmented_copy(image, np.random.default_rng(5))
    two, said_again = augmented_copy(image, np.random.default_rng(5))
    other, _ = augmented_copy(image, np.random.default_rng(6))
    assert np.array_equal(one, two) and said == said_again
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_colour_and_its_background_are_kept() -> None:
    image = np.zeros((30, 50, 3), np.uint8)
    image[:] = (200, 150, 100)
    image[10:20, 10:40] = (30, 60, 90)
    copy, _ = augmented_copy(image, np.random.default_rng(0), Augmentation(
        rotate_p=1, contrast=0, brightness=0, noise_p=0, blur_p=0, cutout_p=0))  # fmt: skip
    assert copy.ndim == 3 and tuple(copy[0, 0]) == (200, 150, 100)


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 50), st.integers(1, 50))), st.integers(0, 2**32 - 1), st.booleans()
)
def test_any_image_has_copies(image: np.ndarray, seed: int, colour: bool) -> None:
    image = np.repeat(image[:, :, None], 3, axis=2) if colour else image
    for how in (COPIES, Augmentation()):
        copy, _ = augmented_copy(image, np.random.default_rng(seed), how)
        assert copy.dtype == np.uint8 and copy.ndim == image.ndim
        longest = max(image.shape[:2])
        assert max(copy.shape[:2]) <= np.hypot(*image.shape[:2]) * (1 + how.scale) + 2 and min(copy.shape[:2]) >= 2
        assert max(copy.shape[:2]) >= longest * (1 - how.scale) * 0.7 - 2


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="with pixels"):
        augmented_copy(np.zeros((0, 4), np.uint8), np.random.default_rng(0))


def test_training_draws_are_those_of_the_first_model() -> None:
    """What training sees must not change under a model that is being trained: order and number of the draws."""
    square = np.random.default_rng(1).integers(0, 256, (80, 80), dtype=np.uint8)
    rng, expected = np.random.default_rng(11), np.random.default_rng(11)
    how = Augmentation(noise_p=0, cutout_p=1)
    augment(square, 56, rng, how)
    rotated = expected.random() < how.rotate_p
    expected.uniform(-180, 180) if rotated else expected.integers(4)
    expected.uniform(0.8, 1.2)
    expected.uniform(-how.shift, how.shift, 2)
    for _ in range(2):  # mirror, blur
        expected.random()
    for limit in (how.contrast, how.brightness):
        expected.uniform(-limit, limit)
    for _ in range(2):  # noise, cut-out
        expected.random()
    expected.integers(0, 56 - 14, 2)
    assert rng.bit_generator.state == expected.bit_generator.state
