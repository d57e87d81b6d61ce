"""Random changes of a letterboxed vignette that leave its class alone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from plankter.vignettes.letterbox import UInt8Array, border_grey


@dataclass(frozen=True)
class Augmentation:
    """How far a vignette may be changed; every field is a probability, a share or grey levels."""

    rotate_p: float = 0.6
    scale: float = 0.2
    shift: float = 0.06
    contrast: float = 0.25
    brightness: float = 18.0
    noise_sd: float = 6.0
    noise_p: float = 0.3
    blur_p: float = 0.1
    cutout_p: float = 0.15
    cutout: float = 0.25


def augment(square: UInt8Array, size_px: int, rng: np.random.Generator, how: Augmentation) -> UInt8Array:
    """One random variant of a square vignette, brought to ``size_px`` in the same step.

    Args:
        square: uint8 (s, s), as `letterbox` makes it.
        size_px: side of the result.
        rng: source of randomness; the same state gives the same variant.
        how: limits of the changes.

    Returns:
        uint8 (size_px, size_px).
    """
    side = square.shape[0]
    background = border_grey(square)
    angle = rng.uniform(-180, 180) if rng.random() < how.rotate_p else 90.0 * rng.integers(4)
    zoom = (size_px / side) * rng.uniform(1 - how.scale, 1 + how.scale)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, zoom)
    matrix[:, 2] += (size_px - side) / 2 + rng.uniform(-how.shift, how.shift, 2) * size_px
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += size_px - 1
    source = cv2.GaussianBlur(square, (3, 3), 0) if rng.random() < how.blur_p else square
    out = cv2.warpAffine(
        source,
        matrix,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(background,),
    ).astype(np.float32)
    gain = 1 + rng.uniform(-how.contrast, how.contrast)
    out = (out - background) * gain + background + rng.uniform(-how.brightness, how.brightness)
    if rng.random() < how.noise_p:
        out += rng.standard_normal(out.shape, dtype=np.float32) * rng.uniform(0, how.noise_sd)
    if rng.random() < how.cutout_p:
        cut = int(how.cutout * size_px)
        top, left = rng.integers(0, size_px - cut, 2)
        out[top : top + cut, left : left + cut] = background
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)
