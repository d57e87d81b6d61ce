"""The real vignettes that ship with the package, and how one is pasted into another run's light."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import cv2
import numpy as np
import numpy.typing as npt

from plankter.synthetic.canvas import FloatArray, UInt8Array
from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import border_grey

THRESHOLD = 15  # grey levels darker than the background; ThresholdDark of VisualSpreadsheet is 15 to 20
MIN_OBJECT_PX = 12
FEATHER_PX = 4


@dataclass(frozen=True)
class RealVignette:
    """One published image: its class as the publisher names it, and uint8 (h, w) grey pixels."""

    class_name: str
    name: str
    grey: UInt8Array


@cache
def real_vignettes() -> tuple[RealVignette, ...]:
    """The shipped images in order of class and name; see ATTRIBUTION.md for where they come from.

    Raises:
        ImageError: the package's own file is damaged.
    """
    data = files("plankter.synthetic").joinpath("vignettes.zip").read_bytes()
    found = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in sorted(archive.namelist()):
            class_name, _, name = member.partition("/")
            found.append(RealVignette(class_name, name, decode_image(archive.read(member), path=member, grey=True)))
    return tuple(found)


def threshold_mask(grey: UInt8Array) -> npt.NDArray[np.bool_]:
    """What is darker than the background, closed and filled as the instrument does it (CloseHoles).

    Args:
        grey: uint8 (h, w).

    Returns:
        bool (h, w); all objects of at least 12 px, or what Otsu's threshold finds where there is none.
    """
    smooth = cv2.GaussianBlur(grey, (3, 3), 0)
    mask = _objects(smooth.astype(np.int16) < border_grey(grey) - THRESHOLD)
    if not mask.any():
        level, _ = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        mask = smooth <= level
    return np.asarray(mask, np.bool_)


def _objects(dark: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    closed = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(closed, contours, -1, (1,), cv2.FILLED)
    n, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    kept = np.zeros(n, np.bool_)
    kept[1:] = stats[1:, cv2.CC_STAT_AREA] >= MIN_OBJECT_PX
    return np.asarray(kept[labels], np.bool_)


def reorient(rng: np.random.Generator, grey: UInt8Array) -> UInt8Array:
    """A quarter turn and a mirroring at random: no pixel is interpolated."""
    turned = np.rot90(grey, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


def paste(
    rng: np.random.Generator, grey: UInt8Array, mask: npt.NDArray[np.bool_], background: FloatArray
) -> UInt8Array:
    """A vignette in another run's light: its own background is brought to the new one and fades into it at the border.

    Args:
        rng: source of the noise.
        grey: uint8 (h, w).
        mask: bool (h, w); what belongs to the particle does not fade.
        background: float32 (h, w), the empty frame there.

    Returns:
        uint8 (h, w).
    """
    lit = cv2.GaussianBlur(grey, (0, 0), 0.4).astype(np.float32) * (background / max(1, border_grey(grey)))
    height, width = grey.shape
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    inside = np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x))
    keep = np.clip((inside + 0.5) / FEATHER_PX, 0, 1).astype(np.float32)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    keep = np.maximum(keep, cv2.GaussianBlur(near.astype(np.float32), (0, 0), 1.0))
    seen = lit * keep + background * (1 - keep)
    # the image brings its own noise, what faded needs the camera's
    noise = rng.standard_normal(grey.shape, dtype=np.float32) * (0.8 + 1.4 * (1 - keep))
    return np.asarray(np.clip(np.rint(seen + noise), 0, 255), np.uint8)
