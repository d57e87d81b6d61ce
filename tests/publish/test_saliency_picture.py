"""The picture is decoded again: it has the colours where the map says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from plankter.publish.saliency_picture import saliency_png


def decoded(fall: np.ndarray, **changes: object) -> np.ndarray:
    vignette = np.full(fall.shape, 160, np.uint8)
    data = saliency_png(vignette, fall, title="t $x^2$ <b>", best=[("a_class", 0.9), ("z" * 60, 0.05)], **changes)
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.int64)


def orange(image: np.ndarray) -> np.ndarray:
    """How much redder than blue, of the half with the heat map."""
    part = image[:, int(image.shape[1] * 0.33) : int(image.shape[1] * 0.7)]
    return np.asarray(part[:, :, 2] - part[:, :, 0])


def test_the_fall_is_orange_where_it_is_and_a_rise_is_purple() -> None:
    fall = np.zeros((60, 60), np.float32)
    fall[40:, 40:] = 0.5
    found = orange(decoded(fall))
    y = np.unravel_index(found.argmax(), found.shape)[0]
    assert found.max() > 60 and y > found.shape[0] / 2
    left_top = orange(decoded(np.roll(fall, (20, 20), axis=(0, 1))))
    assert np.unravel_index(left_top.argmax(), left_top.shape)[0] < y
    assert orange(decoded(-fall)).min() < -15


@pytest.mark.parametrize("shape", [(60, 60), (10, 400), (400, 10), (1, 1)])
def test_every_shape_of_vignette_fits(shape: tuple[int, int]) -> None:
    image = decoded(np.zeros(shape, np.float32), um_per_px=1.2)
    assert 80 < image.shape[0] < 1200 and 300 < image.shape[1] < 2000
    assert image.std() > 5


def test_the_same_map_gives_the_same_bytes_and_another_size_is_refused() -> None:
    fall = np.random.default_rng(0).normal(0, 0.1, (30, 40)).astype(np.float32)
    vignette = np.full((30, 40), 90, np.uint8)
    first, second = (saliency_png(vignette, fall, title="t", best=[]) for _ in range(2))
    assert first == second and first[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="does not fit"):
        saliency_png(vignette, fall.T, title="t", best=[])
