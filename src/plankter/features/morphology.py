"""Vignettes and masks -> measures, the instrument's own ones exactly as VisualSpreadsheet gives them.

A mask may hold several objects, and every measure spans them all. Outlines run through pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from plankter.features.base import FeatureTable
from plankter.features.measures_table import MEASURE_NAMES, MEASURES
from plankter.features.visualspreadsheet import visualspreadsheet_derived
from plankter.types import ImageArray
from plankter.vignettes.masks import border_pixels, instrument_grey, own_mask

MORPHOLOGY = ("morphology", "1")

Column = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# VisualSpreadsheet's order of the 36 directions: of equal widths the first one gives its angle
_ANGLES = np.array([angle for step in range(18) for angle in (5 * step, 5 * step - 90)], dtype=np.float64)
_DIRECTIONS = np.stack((np.cos(np.deg2rad(_ANGLES)), -np.sin(np.deg2rad(_ANGLES))))  # y of an image points down
_LEVELS = np.arange(256, dtype=np.float64)

# What is measured on pixels, in the order of `_pixel_row`; the rest of MEASURES is derived from it
_SHAPE = MEASURE_NAMES[: MEASURE_NAMES.index("box_height_px") + 1]
_GREY = MEASURE_NAMES[MEASURE_NAMES.index("grey_mean") :]
_PIXEL_NAMES = (*_SHAPE, *_GREY, "circularity_hu")
_INSTRUMENT_NAME = {measure.name: measure.instrument_column for measure in MEASURES}


def measure(
    image: ImageArray,
    mask: Mask,
    um_per_px: float | None,
    fringe_px: float,
    *,
    origin_px: tuple[int, int] | None = None,
) -> npt.NDArray[np.float32]:
    """One particle's measures.

    Args:
        image: uint8 (h, w) grey or (h, w, 3) BGR.
        mask: bool (h, w), all objects of the particle.
        um_per_px: None makes every measure in um, um2 and um3 NaN.
        fringe_px: the instrument's fringe correction, 0 where it has none.
        origin_px: x, y of the vignette's corner in the camera frame (`src_x`, `src_y`). The instrument rounds its
            calliper measures there; with it they agree exactly, without it they are not rounded.

    Returns:
        float32 (len(MEASURES),) in the order of `MEASURES`; of an empty mask areas and counts are 0, and NaN is all
        that needs an outline or a grey.

    Raises:
        ValueError: shapes that do not fit, or pixels that are not uint8.
    """
    return _complete(np.array([_pixel_row(image, mask, origin_px)]), um_per_px, fringe_px)[0]


def measure_many(
    pairs: Iterable[tuple[ImageArray | None, Mask | None]],
    um_per_px: float | None,
    fringe_px: float,
    *,
    origins_px: npt.NDArray[Any] | None = None,
) -> FeatureTable:
    """`measure` of one run's particles in order.

    Args:
        pairs: image and mask; no image gives a NaN row, no mask gets `own_mask`.
        um_per_px, fringe_px: as in `measure`.
        origins_px: (n, 2) x, y of each vignette in the camera frame, NaN where unknown.

    Returns:
        The feature set `MORPHOLOGY`, one row a pair.

    Raises:
        ValueError: shapes that do not fit, pixels that are not uint8, or fewer origins than pairs.
    """
    rows: list[list[float]] = []
    unknown = [math.nan] * len(_PIXEL_NAMES)
    for number, (image, mask) in enumerate(pairs):
        if image is None:
            rows.append(unknown)
            continue
        origin = None
        if origins_px is not None:
            if number >= len(origins_px):
                raise ValueError(f"origins_px has {len(origins_px)} rows, fewer than there are particles")
            x, y = float(origins_px[number][0]), float(origins_px[number][1])
            origin = (int(x), int(y)) if math.isfinite(x) and math.isfinite(y) else None
        rows.append(_pixel_row(image, own_mask(image) if mask is None else mask, origin))
    pixels = np.array(rows, dtype=np.float64).reshape(len(rows), len(_PIXEL_NAMES))
    name, version = MORPHOLOGY
    return FeatureTable(name, version, MEASURE_NAMES, _complete(pixels, um_per_px, fringe_px))


def _complete(pixels: Column, um_per_px: float | None, fringe_px: float) -> npt.NDArray[np.float32]:
    """Measured columns (n, len(_PIXEL_NAMES)) -> all measures, float32 (n, len(MEASURES))."""
    found = {name: pixels[:, position] for position, name in enumerate(_PIXEL_NAMES)}
    raw = {theirs: found[name] for name in _SHAPE if (theirs := _INSTRUMENT_NAME[name]) is not None}
    # lengths in px first: ratios do not need the scale
    derived = visualspreadsheet_derived(raw, 1.0, fringe_px)
    power = {"um": 1, "um2": 2, "um3": 3}
    values = np.empty((len(pixels), len(MEASURES)), dtype=np.float32)
    own = _own_ratios(found)
    scale = math.nan if um_per_px is None else um_per_px
    for position, item in enumerate(MEASURES):
        values_of = found if item.name in found else own
        column = values_of[item.name] if item.name in values_of else derived[str(item.instrument_column)]
        values[:, position] = column * scale ** power[item.unit] if item.unit in power else column
    return values


def _own_ratios(found: Mapping[str, Column]) -> dict[str, Column]:
    area, filled = found["area_px"], found["filled_area_px"]
    with np.errstate(divide="ignore", invalid="ignore"):
        # hull of the centres, grown by one pixel's square: adds half its breadth on each side
        hull = found["convex_area_px"] + found["box_width_px"] + found["box_height_px"] - 1
        minor_share = np.where(found["ellipse_major_px"] > 0, found["ellipse_minor_px"] / found["ellipse_major_px"], 1)
        return {
            "area_uncorrected_um2": area,
            "filled_area_uncorrected_um2": filled,
            "solidity": filled / hull,
            "eccentricity": np.where(np.isnan(hull), np.nan, np.sqrt(np.maximum(0, 1 - minor_share**2))),
            "hole_share": 1 - area / filled,
        }


def _pixel_row(image: ImageArray, mask: Mask, origin_px: tuple[int, int] | None) -> list[float]:
    if mask.shape != image.shape[:2] or mask.dtype != np.bool_:
        raise ValueError(f"expected a bool mask of shape {image.shape[:2]}, got {mask.dtype} {mask.shape}")
    grey = instrument_grey(image)
    bits = np.ascontiguousarray(mask).view(np.uint8)
    contours, _ = cv2.findContours(bits, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        row = [math.nan] * len(_PIXEL_NAMES)
        row[0] = row[1] = row[2] = 0.0
        return row
    outline = (contours[0] if len(contours) == 1 else np.concatenate(contours))[:, 0]
    filled = cv2.drawContours(np.zeros(bits.shape, dtype=np.uint8), contours, -1, 1, cv2.FILLED)
    moments = cv2.moments(filled, binaryImage=True)
    hull = cv2.convexHull(outline)
    _, _, width, height = cv2.boundingRect(hull)
    major, minor, angle, circularity_hu = _ellipse(moments)
    return [
        float(cv2.countNonZero(bits)),
        moments["m00"],
        float(len(contours)),
        *_feret(hull[:, 0], origin_px),
        math.fsum(cv2.arcLength(contour, True) for contour in contours),
        cv2.arcLength(hull, True),
        cv2.contourArea(hull),
        major,
        minor,
        angle,
        float(width),
        float(height),
        *_grey_row(image, grey, bits, outline),
        circularity_hu,
    ]


def _ellipse(moments: Mapping[str, float]) -> tuple[float, float, float, float]:
    area = moments["m00"]
    xx, xy, yy = moments["mu20"] / area, moments["mu11"] / area, moments["mu02"] / area
    middle, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    angle = math.degrees(0.5 * math.atan2(-2 * xy, xx - yy))
    circularity_hu = min(1.0, area / (4 * math.pi * middle)) if middle > 0 else 1.0
    return 4 * math.sqrt(middle + spread), 4 * math.sqrt(max(0.0, middle - spread)), angle, circularity_hu


def _feret(hull: npt.NDArray[Any], origin_px: tuple[int, int] | None) -> tuple[float, float, float, float, float]:
    along = hull @ _DIRECTIONS if origin_px is None else np.rint((hull + np.array(origin_px)) @ _DIRECTIONS)
    widths = along.max(axis=0) - along.min(axis=0) + 1
    longest, shortest = int(widths.argmax()), int(widths.argmin())
    return (
        float(widths[longest]),
        float(widths[shortest]),
        float(widths.sum()) / len(_ANGLES),
        float(_ANGLES[longest]),
        float(_ANGLES[shortest]),
    )


def _grey_row(image: ImageArray, grey: ImageArray, bits: ImageArray, outline: npt.NDArray[Any]) -> tuple[float, ...]:
    counts = cv2.calcHist([grey], [0], bits, [256], [0, 256]).ravel().astype(np.float64)
    n = float(counts.sum())
    total = float(counts @ _LEVELS)
    present = np.flatnonzero(counts)
    away = _LEVELS - total / n
    square = away * away
    weighted = counts * square
    variance = float(weighted.sum()) / n
    sd = math.sqrt(variance)
    varies = len(present) > 1
    blue, green, red = cv2.mean(image, bits)[:3] if image.ndim == 3 else (total / n,) * 3
    dx, dy = cv2.Sobel(grey, cv2.CV_16S, 1, 0), cv2.Sobel(grey, cv2.CV_16S, 0, 1)
    xs, ys = outline[:, 0], outline[:, 1]
    gradient = np.minimum((np.abs(dx[ys, xs]) + np.abs(dy[ys, xs])) / 2, 255)
    outside = border_pixels(grey)[border_pixels(bits) == 0]
    background = _median(np.bincount(outside, minlength=256)) if len(outside) else math.nan
    return (
        total / n,
        sd,
        total,
        float(present[0]),
        float(present[-1]),
        _median(counts),
        float(weighted @ away) / n / sd**3 if varies else math.nan,
        float(weighted @ square) / n / variance**2 - 3 if varies else math.nan,
        red,
        green,
        blue,
        float(gradient.sum()) / len(gradient),
        background,
    )


def _median(counts: npt.NDArray[Any]) -> float:
    reached = counts.cumsum()
    n = int(reached[-1])
    low, high = np.searchsorted(reached, ((n - 1) // 2, n // 2), side="right")
    return float(low + high) / 2
