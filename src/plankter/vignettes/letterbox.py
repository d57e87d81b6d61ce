"""Pixels as a network sees them: one function for training and for prediction alike."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

# The name is part of every model's preprocessing identity: change the pixels, change the name.
LETTERBOX_VERSION = "letterbox-1"
LOG_PX_SCALE = 5.0


def to_grey(image: UInt8Array) -> UInt8Array:
    """One grey channel of an image of 1, 3 (BGR) or 4 (BGRA) channels.

    Colour is dropped on purpose: in the training set the number of channels tells the year.

    Args:
        image: uint8, (h, w) or (h, w, channels).

    Returns:
        uint8 (h, w).

    Raises:
        ValueError: another number of channels or another type.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"expected uint8 pixels, got {image.dtype}")
    if image.ndim == 2:
        return image
    if image.ndim == 3 and image.shape[2] == 1:
        return image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    if image.ndim == 3 and image.shape[2] == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY), dtype=np.uint8)
    raise ValueError(f"expected an image of 1, 3 or 4 channels, got shape {image.shape}")


def border_grey(grey: UInt8Array) -> int:
    """Median grey of the outermost pixels: what the background of a vignette looks like."""
    border = np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
    middle = len(border) // 2  # the number of border pixels is even; np.median takes twice as long for so few
    border.partition((middle - 1, middle))
    return (int(border[middle - 1]) + int(border[middle])) // 2


class Fit(NamedTuple):
    """Where a vignette stands in its letterboxed square, px of the square of ``side`` px."""

    side: int
    top: int
    left: int
    height: int
    width: int


def letterbox_fit(height: int, width: int, size_px: int) -> Fit:
    """Where `letterbox` puts a vignette of ``height`` x ``width`` px in a square of ``size_px``."""
    scale = size_px / max(height, width)
    new_w, new_h = max(1, round(width * scale)), max(1, round(height * scale))
    return Fit(size_px, (size_px - new_h) // 2, (size_px - new_w) // 2, new_h, new_w)


def letterbox(image: UInt8Array, size_px: int) -> UInt8Array:
    """A square of ``size_px`` holding the whole vignette, aspect kept, padded with its border's grey.

    The longest side is resized to ``size_px`` (by area when it shrinks, linearly when it grows) and the
    rest filled with the median of the border pixels (as in Panaiotis et al. 2026, ESSD 18:945).

    Args:
        image: uint8 vignette of any size and 1, 3 or 4 channels.
        size_px: side of the square.

    Returns:
        uint8 (size_px, size_px).

    Raises:
        ValueError: an empty image, or pixels that are not uint8.
    """
    grey = to_grey(image)
    height, width = grey.shape
    if height == 0 or width == 0:
        raise ValueError(f"expected a vignette with pixels, got {width} x {height}")
    fit = letterbox_fit(height, width, size_px)
    method = cv2.INTER_AREA if size_px < max(height, width) else cv2.INTER_LINEAR
    resized = cv2.resize(grey, (fit.width, fit.height), interpolation=method)
    square = np.full((size_px, size_px), border_grey(grey), dtype=np.uint8)
    square[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = resized
    return square


def size_inputs(width_px: npt.ArrayLike, height_px: npt.ArrayLike) -> FloatArray:
    """What a network is told of the vignette's size, which the letterbox hides.

    Args:
        width_px, height_px: (n,) pixels; NaN or 0 where unknown.

    Returns:
        float32 (n, 3): log width and log height over ``LOG_PX_SCALE``, and 1 where both are known, else 0, 0, 0.
    """
    width = np.atleast_1d(np.asarray(width_px, dtype=np.float64))
    height = np.atleast_1d(np.asarray(height_px, dtype=np.float64))
    known = np.isfinite(width) & np.isfinite(height) & (width > 0) & (height > 0)
    inputs = np.zeros((len(width), 3), dtype=np.float32)
    inputs[known, 0] = np.log(width[known]) / LOG_PX_SCALE
    inputs[known, 1] = np.log(height[known]) / LOG_PX_SCALE
    inputs[known, 2] = 1.0
    return inputs
