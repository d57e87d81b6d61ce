"""Which pixels are the particle: the instrument's grey, and a mask of our own where the instrument gave none."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from plankter.types import ImageArray

MASK_VERSION = "mask-1"

# VisualSpreadsheet's grey is OpenCV's fixed-point BT.601 of 14 bits with the channels taken in the wrong order: its
# weight of red lies on blue. Found by comparison with `intensity`, `sigma_intensity` and `edge_gradient` of real
# runs, which it gives exactly; OpenCV's own conversion of today works with 15 bits and gives 92-99 % of them.
# blue, green, red, and half of the smallest step, so that halves go up; sums of these are exact in float32
_WEIGHTS = np.array([[4899.0, 9617.0, 1868.0, 0.5]], dtype=np.float32) / np.float32(16384)

# The instrument compares with its calibration image, thresholds of 15 dark and 20 light being its usual settings.
# Without that image the background is the border's median, and a noisy border raises the threshold up to 20.
DARK_THRESHOLD = 15.0
NOISY_DARK_THRESHOLD = 20.0
LIGHT_EXTRA = 5.0
NOISE_FACTOR = 4.5
MIN_OBJECT_PX = 4
_SD_PER_MAD = 1.4826
_SQUARE = np.ones((3, 3), dtype=np.uint8)


def instrument_grey(image: ImageArray) -> ImageArray:
    """The grey that VisualSpreadsheet measures: ``round(0.299 blue + 0.587 green + 0.114 red)``.

    The weights of blue and red are swapped against BT.601, as in the instrument (see the comment above).

    Args:
        image: uint8 (h, w) grey, returned as it is, or (h, w, 3) BGR.

    Returns:
        uint8 (h, w).

    Raises:
        ValueError: another shape or another type.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"expected uint8 (h, w) or (h, w, 3), got {image.dtype} {image.shape}")
    if image.ndim == 2:
        return image
    if image.size == 0:
        return np.zeros(image.shape[:2], dtype=np.uint8)
    return np.asarray(cv2.transform(image, _WEIGHTS), dtype=np.uint8)


def border_pixels(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The outermost pixels of an (h, w) array, each once where h and w are 2 or more."""
    return np.concatenate((plane[0], plane[-1], plane[1:-1, 0], plane[1:-1, -1]))


def own_mask(image: ImageArray) -> npt.NDArray[np.bool_]:
    """A mask from the pixels alone, for a vignette that came without one.

    Background is the border's median grey; what is darker by 15 (up to 20 where the border is noisy) or lighter by
    5 more belongs to the particle; gaps of one or two pixels are closed, specks under 4 px dropped, and every other
    object kept. A particle too faint for that is cut by Otsu's threshold of its difference from the background.

    Args:
        image: uint8 (h, w) grey or (h, w, 3) BGR.

    Returns:
        bool (h, w); empty only where no pixel differs from the background.

    Raises:
        ValueError: another shape or type, or an image without pixels.
    """
    grey = instrument_grey(image)
    if grey.size == 0:
        raise ValueError(f"expected a vignette with pixels, got shape {image.shape}")
    border = border_pixels(grey).astype(np.int16)
    background = int(np.median(border))
    noise = _SD_PER_MAD * float(np.median(np.abs(border - background)))
    dark = min(max(NOISE_FACTOR * noise, DARK_THRESHOLD), NOISY_DARK_THRESHOLD)
    difference = grey.astype(np.int16) - background
    found = ((difference < -dark) | (difference > dark + LIGHT_EXTRA)).astype(np.uint8)
    mask = _without_specks(_closed(found))
    if mask.any():
        return mask
    return _faint(np.abs(difference).astype(np.uint8))


def _closed(mask: ImageArray) -> ImageArray:
    # padded, because OpenCV's closing would otherwise let objects grow together with the edge of the image
    padded = cv2.copyMakeBorder(mask, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _SQUARE)[2:-2, 2:-2], dtype=np.uint8)


def _without_specks(mask: ImageArray) -> npt.NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = stats[:count, cv2.CC_STAT_AREA] >= MIN_OBJECT_PX
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)


def _faint(difference: ImageArray) -> npt.NDArray[np.bool_]:
    strongest = int(difference.max())
    if strongest == 0:
        return np.zeros(difference.shape, dtype=np.bool_)
    threshold, _ = cv2.threshold(difference, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    found = difference > min(threshold, strongest - 1)
    mask = _without_specks(_closed(found.astype(np.uint8)))
    return mask if mask.any() else np.asarray(found, dtype=np.bool_)
