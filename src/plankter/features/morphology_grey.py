"""What is measured on the grey of many particles at once.

One particle's arrays are so small that a call costs more than its work; so little is done a particle, and the rest over
all of them.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from plankter.types import ImageArray

Column = npt.NDArray[np.float64]
_LEVELS = np.arange(256, dtype=np.float64)


class GreyMeasures:
    """Takes particles one by one, then gives their measures together."""

    def __init__(self) -> None:
        self._counts: list[npt.NDArray[np.float32]] = []
        self._channels: list[tuple[float, ...]] = []
        self._gradients: list[npt.NDArray[np.int16]] = []
        self._border_grey: list[ImageArray] = []
        self._border_mask: list[ImageArray] = []
        self._border_px: list[int] = []

    def add(self, image: ImageArray, grey: ImageArray, bits: ImageArray, outline: npt.NDArray[Any]) -> None:
        """Adds one particle.

        Args:
            image: uint8 (h, w) or (h, w, 3) BGR.
            grey: its grey, uint8 (h, w).
            bits: its mask, uint8 (h, w) of 0 and 1, not empty.
            outline: int32 (k, 2), x and y of its outer contours.
        """
        self._counts.append(cv2.calcHist([grey], [0], bits, [256], [0, 256]).ravel())  # type: ignore[arg-type]
        self._channels.append(tuple(cv2.mean(image, bits)[:3]) if image.ndim == 3 else ())
        height, width = grey.shape
        at = outline[:, 1] * width + outline[:, 0]
        # both Sobel derivatives in one call
        self._gradients += [derivative.ravel().take(at) for derivative in cv2.spatialGradient(grey)]
        for planes, plane in ((self._border_grey, grey), (self._border_mask, bits)):
            planes += (plane[0], plane[-1], plane[1:-1, 0], plane[1:-1, -1])  # as `border_pixels`
        self._border_px.append(2 * width + 2 * max(height - 2, 0))

    def rows(self) -> Column:
        """float64 (n, 13): mean, sd, sum, least, greatest, median, skewness and kurtosis of the grey, mean red, green
        and blue, edge gradient, background."""  # fmt: skip
        if not self._counts:
            return np.zeros((0, 13))
        counts = np.stack(self._counts).astype(np.float64)
        n = counts.sum(axis=1)
        total = counts @ _LEVELS
        mean = total / n
        away = _LEVELS - mean[:, None]
        square = away * away
        weighted = counts * square
        variance = weighted.sum(axis=1) / n
        sd = np.sqrt(variance)
        present = counts > 0
        least, greatest = present.argmax(axis=1), 255 - present[:, ::-1].argmax(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            skewness = (weighted * away).sum(axis=1) / n / sd**3
            kurtosis = (weighted * square).sum(axis=1) / n / variance**2 - 3
        same = least == greatest
        skewness[same] = kurtosis[same] = np.nan
        blue, green, red = np.array(
            [bgr or (grey,) * 3 for bgr, grey in zip(self._channels, mean.tolist(), strict=True)]
        ).T
        columns = (mean, sd, total, least, greatest, _medians(counts), skewness, kurtosis, red, green, blue)
        return np.stack((*columns, self._edges(), self._background()), axis=1)

    def _edges(self) -> Column:
        points = np.array([len(part) for part in self._gradients[::2]])
        starts = np.concatenate(([0], np.cumsum(points)[:-1]))
        dx, dy = (np.abs(np.concatenate(self._gradients[first::2])) for first in (0, 1))
        return np.asarray(np.add.reduceat(np.minimum((dx + dy) / 2, 255), starts) / points, np.float64)

    def _background(self) -> Column:
        particle = np.repeat(np.arange(len(self._border_px)) * 256, self._border_px)
        outside = np.concatenate(self._border_mask) == 0
        found = (particle + np.concatenate(self._border_grey))[outside]
        return _medians(np.bincount(found, minlength=256 * len(self._border_px)).reshape(-1, 256))


def _medians(counts: npt.NDArray[Any]) -> Column:
    """The median level of each row of (n, 256) counts, NaN of an empty one."""
    reached = counts.cumsum(axis=1)
    n = reached[:, -1].astype(np.int64)
    low, high = ((reached <= middle[:, None]).sum(axis=1) for middle in ((n - 1) // 2, n // 2))
    return np.where(n > 0, (low + high) / 2, np.nan)
