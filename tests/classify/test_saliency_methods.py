"""RISE and class activation against models whose answer is known, and the check that tells good maps from bad ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plankter.classify.saliency import LARGEST_BATCH, occlusion_map
from plankter.classify.saliency_cam import activation_map, on_vignette
from plankter.classify.saliency_check import erasure_check
from plankter.classify.saliency_rise import KEPT, rise_map, rise_mask
from plankter.vignettes.letterbox import letterbox, letterbox_fit

BRIGHT = (slice(12, 24), slice(60, 78))


def bright_model(vignettes: np.ndarray) -> np.ndarray:
    """The second class by the brightness of one place, nothing else."""
    found = vignettes[:, BRIGHT[0], BRIGHT[1]].mean((1, 2)) / 255
    return np.stack((1 - found, found), axis=1)


def vignette() -> np.ndarray:
    image = np.full((60, 90), 40, np.uint8)
    image[BRIGHT] = 250
    image[40:55, 10:30] = 250  # as bright, but the model does not look there
    return image


def test_rise_finds_the_one_bright_feature() -> None:
    found = rise_map(vignette(), bright_model, 1, masks=600)
    assert found.fall.shape == (60, 90) and found.fall.dtype == np.float32
    assert found.score == pytest.approx(250 / 255)
    y, x = np.unravel_index(found.fall.argmax(), found.fall.shape)
    assert 10 <= y < 26 and 57 <= x < 81
    assert found.fall[BRIGHT].mean() > 4 * np.abs(found.fall[40:55, 10:30]).mean()
    # the score changes by 210 / 255; of a mask's variance 0.25 its soft edges leave (2 / 3) squared at a place
    assert 0.2 < found.fall.max() < 210 / 255 * 4 / 9 + 0.03
    np.testing.assert_allclose(rise_map(vignette(), bright_model, 0, masks=600).fall, -found.fall, atol=1e-6)


def test_rise_of_a_blind_model_is_flat_and_seeds_repeat() -> None:
    flat = rise_map(vignette(), lambda v: np.full((len(v), 3), 1 / 3), 2, masks=70)
    assert not flat.fall.any()
    first, again, other = (rise_map(vignette(), bright_model, 1, masks=70, seed=s).fall for s in (1, 1, 2))
    assert (first == again).all() and not (first == other).all()


def test_rise_tries_every_mask_once_in_batches() -> None:
    sizes: list[int] = []

    def count(tried: np.ndarray) -> np.ndarray:
        sizes.append(len(tried))
        return np.ones((len(tried), 1))

    rise_map(vignette(), count, 0, masks=150)
    assert sizes[0] == 1 and sum(sizes[1:]) == 150 and max(sizes) == LARGEST_BATCH


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 99))
def test_masks_have_the_size_of_the_vignette(height: int, width: int, seed: int) -> None:
    mask = rise_mask(height, width, np.random.default_rng(seed))
    assert mask.shape == (height, width) and mask.min() >= 0 and mask.max() <= 1


def test_masks_keep_their_share_of_every_pixel() -> None:
    rng = np.random.default_rng(0)
    mean = np.mean([rise_mask(30, 50, rng) for _ in range(800)], axis=0)
    assert np.abs(mean - KEPT).max() < 0.08


def test_activation_adds_up_to_the_logit() -> None:
    rng = np.random.default_rng(0)
    last, weight = rng.random((5, 4, 3)), rng.normal(size=(5, 7))
    found = activation_map(last, weight, 2)
    logits = last.mean((1, 2)) @ weight
    assert found.mean() == pytest.approx(logits[2] - logits.mean(), abs=1e-6)
    np.testing.assert_allclose(activation_map(last, weight + rng.normal(size=(5, 1)), 2), found, atol=1e-6)
    lit = np.zeros((2, 4, 3))
    lit[1, 3, 0] = 6.0
    own = activation_map(lit, np.array([[5.0, 0.0], [1.0, -1.0]]), 0)
    assert own[3, 0] == 6.0 and np.count_nonzero(own) == 1


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (7, 300), (30, 30)])
def test_a_map_of_the_square_comes_back_to_its_place(height: int, width: int) -> None:
    image = np.zeros((height, width), np.uint8)
    place = slice(height // 2, None), slice(0, width // 3)
    image[place] = 255
    square = letterbox(image, 96)
    found = on_vignette(square.astype(np.float32), letterbox_fit(height, width, 96), height, width)
    assert found.shape == (height, width)
    assert np.abs(found - image).mean() < 25


def test_good_maps_pass_the_check_and_bad_ones_do_not() -> None:
    image = vignette()
    truth = np.zeros(image.shape)
    truth[BRIGHT] = 1.0
    good = erasure_check(image, bright_model, 1, truth)
    assert good.better_than_random and good.deletion < good.random_deletion and good.insertion > good.random_insertion
    assert not erasure_check(image, bright_model, 1, -truth).better_than_random
    for found in (rise_map(image, bright_model, 1, masks=300), occlusion_map(image, bright_model, 1)):
        check = erasure_check(image, bright_model, 1, found.fall)
        assert check.deletion < check.random_deletion and check.insertion > check.random_insertion


def test_the_areas_are_those_of_the_curves() -> None:
    # a model that counts dark pixels: covering them one share after the other falls along a straight line
    image = np.full((20, 20), 200, np.uint8)
    image[:, 5:15] = 0
    order = np.tile(np.arange(20.0)[::-1], (20, 1)) * np.where(image == 0, 1, 0)

    def dark(v: np.ndarray) -> np.ndarray:
        return ((v == 0).mean((1, 2)) * 2)[:, None]

    found = erasure_check(image, dark, 0, order, steps=20)
    assert found.deletion == pytest.approx(0.25) and found.insertion == pytest.approx(0.75)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="with pixels"):
        rise_map(np.zeros((0, 5), np.uint8), bright_model, 0)
    with pytest.raises(ValueError, match="2 masks"):
        rise_map(vignette(), bright_model, 0, masks=1)
    with pytest.raises(ValueError, match="does not fit"):
        erasure_check(vignette(), bright_model, 0, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="does not fit"):
        activation_map(np.zeros((4, 2, 2)), np.zeros((3, 2)), 0)
    with pytest.raises(ValueError, match="none of 2"):
        activation_map(np.zeros((3, 2, 2)), np.zeros((3, 2)), 2)
