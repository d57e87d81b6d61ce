"""Random changes of a vignette that leave its class alone: of squares for training, of whole images for copies."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from plankter.vignettes.letterbox import UInt8Array, border_grey

if TYPE_CHECKING:
    from cv2.typing import MatLike


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


# A copy is kept and trained on again: its size in px still means something, and nothing may be cut out of it for good.
COPIES = Augmentation(scale=0.1, shift=0.0, contrast=0.15, brightness=10.0, noise_sd=4.0, cutout_p=0.0)
_SMALLEST_PX = 2
# highest value of each setting; the lowest is 0
LIMITS = {
    "rotate_p": 1.0, "scale": 0.5, "shift": 0.3, "contrast": 0.8, "brightness": 80.0, "noise_sd": 40.0, "noise_p": 1.0,
    "blur_p": 1.0, "cutout_p": 1.0, "cutout": 0.5,
}  # fmt: skip
PRESETS: dict[str, Augmentation | None] = {
    "none": None,
    "gentle": Augmentation(scale=0.1, shift=0.03, contrast=0.12, brightness=9.0, noise_sd=3.0, blur_p=0.0, cutout_p=0.0),
    "normal": Augmentation(),
    "strong": Augmentation(
        rotate_p=0.9, scale=0.3, shift=0.1, contrast=0.4, brightness=30.0, noise_sd=10.0, noise_p=0.5, blur_p=0.2,
        cutout_p=0.3,
    ),
}  # fmt: skip


def augmentation_of(text: str) -> Augmentation | None:
    """How far vignettes are varied in training: a name of `PRESETS`, or settings like ``scale=0.1,cutout_p=0`` that
    differ from the normal ones.

    Raises:
        ValueError: another name, no such setting, or a value outside its limits.
    """
    if text in PRESETS:
        return PRESETS[text]
    given: dict[str, float] = {}
    for part in text.split(","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or name not in LIMITS:
            known = f"{', '.join(PRESETS)}, or NAME=NUMBER with {', '.join(LIMITS)}"
            raise ValueError(f"augmentation: expected {known}, got {part.strip()[:60]!r}")
        try:
            given[name] = float(value)
        except ValueError:
            raise ValueError(f"augmentation: {name}: expected a number, got {value[:60]!r}") from None
        if not 0 <= given[name] <= LIMITS[name]:
            raise ValueError(f"augmentation: {name}: expected 0 to {LIMITS[name]:g}, got {value[:60]}")
    return Augmentation(**given)


def augmentation_text(how: Augmentation | None) -> str:
    """The text that `augmentation_of` reads: the name where it is one of `PRESETS`."""
    for name, known in PRESETS.items():
        if how == known:
            return name
    assert how is not None
    return ",".join(f"{name}={value:g}" for name, value in asdict(how).items())


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
    angle = _angle(rng, how)
    zoom = (size_px / side) * rng.uniform(1 - how.scale, 1 + how.scale)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, zoom)
    matrix[:, 2] += (size_px - side) / 2 + rng.uniform(-how.shift, how.shift, 2) * size_px
    mirrored = _mirrored(matrix, size_px, rng)[0]
    return _changed(square, mirrored, (size_px, size_px), (background,), rng, how)


def augmented_copy(image: UInt8Array, rng: np.random.Generator, how: Augmentation = COPIES) -> tuple[UInt8Array, str]:
    """One random variant of a whole vignette: aspect and colour kept, nothing cut off where it is turned.

    Args:
        image: uint8 (h, w) grey or (h, w, 3) BGR.
        rng: source of randomness; the same state gives the same variant.
        how: limits of the changes.

    Returns:
        uint8 of the size that the turned image needs, filled up with the grey of its border; and what was done.

    Raises:
        ValueError: an image without pixels.
    """
    if not image.size:
        raise ValueError(f"expected a vignette with pixels, got shape {image.shape}")
    height, width = image.shape[:2]
    planes = [image] if image.ndim == 2 else [image[:, :, k] for k in range(image.shape[2])]
    background = tuple(border_grey(plane) for plane in planes)
    angle = _angle(rng, how)
    zoom = rng.uniform(1 - how.scale, 1 + how.scale)
    cosine, sine = abs(math.cos(math.radians(angle))) * zoom, abs(math.sin(math.radians(angle))) * zoom
    # rounded first: the cosine of 90 degrees is not quite 0
    new_w = max(_SMALLEST_PX, math.ceil(round(width * cosine + height * sine, 6)))
    new_h = max(_SMALLEST_PX, math.ceil(round(width * sine + height * cosine, 6)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
    matrix[0, 2] += (new_w - width) / 2 + rng.uniform(-how.shift, how.shift) * new_w
    matrix[1, 2] += (new_h - height) / 2 + rng.uniform(-how.shift, how.shift) * new_h
    matrix, mirrored = _mirrored(matrix, new_w, rng)
    done = f"turned {angle:.1f} degrees{', mirrored' if mirrored else ''}, scaled x {zoom:.3f}, greys varied"
    return _changed(image, matrix, (new_w, new_h), background, rng, how), done


def _angle(rng: np.random.Generator, how: Augmentation) -> float:
    return float(rng.uniform(-180, 180) if rng.random() < how.rotate_p else 90.0 * rng.integers(4))


def _mirrored(matrix: MatLike, width: int, rng: np.random.Generator) -> tuple[MatLike, bool]:
    """The same step followed by a mirror, every second time."""
    mirrored = bool(rng.random() < 0.5)
    if mirrored:
        matrix[0] = -matrix[0]
        matrix[0, 2] += width - 1
    return matrix, mirrored


def _changed(
    image: UInt8Array,
    matrix: MatLike,
    size: tuple[int, int],
    background: tuple[int, ...],
    rng: np.random.Generator,
    how: Augmentation,
) -> UInt8Array:
    """The image moved by ``matrix`` to width and height ``size``, then its greys, noise and sharpness varied."""
    source = cv2.GaussianBlur(image, (3, 3), 0) if rng.random() < how.blur_p else image
    out = cv2.warpAffine(
        source, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=background
    ).astype(np.float32)
    level = np.float32(background[0]) if image.ndim == 2 else np.array(background, np.float32)
    gain = np.float32(1 + rng.uniform(-how.contrast, how.contrast))
    out = (out - level) * gain + level + np.float32(rng.uniform(-how.brightness, how.brightness))
    if rng.random() < how.noise_p:
        out += rng.standard_normal(out.shape, dtype=np.float32) * rng.uniform(0, how.noise_sd)
    if rng.random() < how.cutout_p:
        cut = int(how.cutout * min(size))
        top, left = (int(rng.integers(0, max(1, side - cut))) for side in (size[1], size[0]))
        out[top : top + cut, left : left + cut] = level
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)
