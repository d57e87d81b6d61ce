"""A made model that looks at one place only must give a map with its maximum there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.saliency import BATCH_BYTES, LARGEST_BATCH, occlusion_map, patch_starts


def corner_model(vignettes: np.ndarray) -> np.ndarray:
    """The second class by the darkness of the upper left 10 x 10 px, nothing else."""
    dark = 1 - vignettes[:, :10, :10].mean((1, 2)) / 255
    return np.stack((1 - dark, dark), axis=1)


def vignette(height: int = 60, width: int = 90) -> np.ndarray:
    image = np.full((height, width), 200, np.uint8)
    image[:10, :10] = 0
    image[30:50, 50:70] = 0  # dark too, but the model does not look there
    return image


def test_the_maximum_is_where_the_model_looks() -> None:
    found = occlusion_map(vignette(), corner_model, 1)
    assert found.fall.shape == (60, 90) and found.fall.dtype == np.float32 and found.score == 1
    y, x = np.unravel_index(found.fall.argmax(), found.fall.shape)
    assert y < 10 and x < 10
    assert found.fall.max() == pytest.approx(1 - (1 - 200 / 255), abs=1e-6)  # all of it covered by background
    assert np.abs(found.fall[30:, 40:]).max() == 0
    other = occlusion_map(vignette(), corner_model, 0)
    np.testing.assert_allclose(other.fall, -found.fall, atol=1e-6)


def test_a_model_blind_to_pixels_gives_a_flat_map() -> None:
    found = occlusion_map(vignette(), lambda v: np.full((len(v), 3), 1 / 3), 2)
    assert not found.fall.any() and found.score == pytest.approx(1 / 3)


def test_batches_hold_all_patches_once() -> None:
    sizes: list[int] = []

    def count(tried: np.ndarray) -> np.ndarray:
        sizes.append(len(tried))
        assert tried.nbytes <= BATCH_BYTES
        return np.ones((len(tried), 1))

    found = occlusion_map(vignette(100, 100), count, 0, patch_px=10)
    assert sizes[0] == 1 and sum(sizes[1:]) == found.covered == 31 * 31 and max(sizes) == LARGEST_BATCH


def test_colour_and_the_smallest_vignettes() -> None:
    grey = occlusion_map(vignette(), corner_model, 1)
    colour = occlusion_map(np.repeat(vignette()[:, :, None], 3, axis=2), corner_model, 1)
    np.testing.assert_allclose(colour.fall, grey.fall, atol=0.01)
    assert occlusion_map(np.zeros((1, 1), np.uint8), corner_model, 1).fall.shape == (1, 1)
    assert occlusion_map(vignette(8, 200), corner_model, 1).patch_px == 40


@given(st.integers(1, 300), st.integers(1, 80), st.integers(1, 80))
def test_patches_cover_a_side_without_leaving_it(length: int, patch: int, step: int) -> None:
    step = min(step, patch)
    starts = patch_starts(length, patch, step)
    covered = np.zeros(length, bool)
    for start in starts:
        covered[start : start + patch] = True
    assert covered.all() and starts == sorted(set(starts)) and starts[0] >= 0 and starts[-1] <= max(0, length - patch)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="with pixels"):
        occlusion_map(np.zeros((0, 5), np.uint8), corner_model, 0)
    with pytest.raises(ValueError, match="1 px or more"):
        occlusion_map(vignette(), corner_model, 0, patch_px=0)
    with pytest.raises(ValueError, match="do not fit"):
        occlusion_map(vignette(), corner_model, 2)
    with pytest.raises(ValueError, match="do not fit"):
        occlusion_map(vignette(), lambda v: np.zeros(2), 0)
