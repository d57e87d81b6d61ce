"""Vignettes and masks -> measures, the instrument's own ones exactly as VisualSpreadsheet gives them.

A mask may hold several objects, and every measure spans them all. Outlines run through pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from plankter.features.base import FeatureTable
from plankter.features.measures_table import MEASURE_NAMES, MEASURES
from plankter.features.morphology_grey import GreyMeasures
from plankter.features.visualspreadsheet import visualspreadsheet_derived
from plankter.types import ImageArray
from plankter.vignettes.masks import instrument_grey, own_mask

MORPHOLOGY = ("morphology", "1")

Column = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# VisualSpreadsheet's order of the 36 directions: of equal widths the first one gives its angle
_ANGLES = np.array([angle for step in range(18) for angle in (5 * step, 5 * step - 90)], dtype=np.float64)
_DIRECTIONS = np.stack((np.cos(np.deg2rad(_ANGLES)), -np.sin(np.deg2rad(_ANGLES))))  # y of an image points down
BATCH = 128  # particles measured together: more would not fit into the processor's cache

# What is measured on pixels, in the order of `_pixel_rows`; the rest of MEASURES is derived from it
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
    return _complete(_pixel_rows([(image, mask, origin_px)]), um_per_px, fringe_px)[0]


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
    parts: list[Column] = []
    numbered = enumerate(pairs)
    while chunk := list(islice(numbered, BATCH)):
        there: list[tuple[ImageArray, Mask, tuple[int, int] | None]] = []
        rows = np.full((len(chunk), len(_PIXEL_NAMES)), np.nan)
        for number, (image, mask) in chunk:
            if image is None:
                continue
            origin = None if origins_px is None else _origin(origins_px, number)
            there.append((image, own_mask(image) if mask is None else mask, origin))
        rows[[image is not None for _, (image, _) in chunk]] = _pixel_rows(there)
        parts.append(rows)
    pixels = np.concatenate(parts) if parts else np.zeros((0, len(_PIXEL_NAMES)))
    name, version = MORPHOLOGY
    return FeatureTable(name, version, MEASURE_NAMES, _complete(pixels, um_per_px, fringe_px))


def _origin(origins_px: npt.NDArray[Any], number: int) -> tuple[int, int] | None:
    if number >= len(origins_px):
        raise ValueError(f"origins_px has {len(origins_px)} rows, fewer than there are particles")
    x, y = float(origins_px[number][0]), float(origins_px[number][1])
    return (int(x), int(y)) if math.isfinite(x) and math.isfinite(y) else None


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


def _pixel_rows(particles: Sequence[tuple[ImageArray, Mask, tuple[int, int] | None]]) -> Column:
    """What is measured on pixels, (n, len(_PIXEL_NAMES)); of an empty mask 0 and NaN."""
    found = np.full((len(particles), len(_PIXEL_NAMES)), np.nan)
    found[:, :3] = 0.0  # areas and objects of an empty mask
    positions: list[int] = []
    shapes: list[tuple[float, ...]] = []
    hulls: list[npt.NDArray[Any]] = []
    grey_measures = GreyMeasures()
    for position, (image, mask, _) in enumerate(particles):
        if mask.shape != image.shape[:2] or mask.dtype != np.bool_:
            raise ValueError(f"expected a bool mask of shape {image.shape[:2]}, got {mask.dtype} {mask.shape}")
        grey = instrument_grey(image)
        bits = np.ascontiguousarray(mask).view(np.uint8)
        contours, _ = cv2.findContours(bits, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if not contours:
            continue
        outline = (contours[0] if len(contours) == 1 else np.concatenate(contours))[:, 0]
        hull = cv2.convexHull(outline)
        positions.append(position)
        shapes.append(_shape(bits, contours, hull))
        hulls.append(hull[:, 0])
        grey_measures.add(image, grey, bits, outline)
    if positions:
        shape = np.array(shapes)
        feret = _ferets(hulls, [particles[position][2] for position in positions])
        # area, filled area and objects come before the calliper widths, Hu's circularity last of all
        found[positions] = np.hstack((shape[:, :3], feret, shape[:, 3:-1], grey_measures.rows(), shape[:, -1:]))
    return found


def _shape(bits: ImageArray, contours: Sequence[npt.NDArray[Any]], hull: npt.NDArray[Any]) -> tuple[float, ...]:
    filled = cv2.drawContours(np.zeros(bits.shape, dtype=np.uint8), contours, -1, 1, cv2.FILLED)
    moments = cv2.moments(filled, binaryImage=True)
    _, _, width, height = cv2.boundingRect(hull)
    major, minor, angle, circularity_hu = _ellipse(moments)
    return (
        float(cv2.countNonZero(bits)),
        moments["m00"],
        float(len(contours)),
        math.fsum(cv2.arcLength(contour, True) for contour in contours),
        cv2.arcLength(hull, True),
        cv2.contourArea(hull),
        major,
        minor,
        angle,
        float(width),
        float(height),
        circularity_hu,
    )


def _ellipse(moments: Mapping[str, float]) -> tuple[float, float, float, float]:
    area = moments["m00"]
    xx, xy, yy = moments["mu20"] / area, moments["mu11"] / area, moments["mu02"] / area
    middle, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    angle = math.degrees(0.5 * math.atan2(-2 * xy, xx - yy))
    circularity_hu = min(1.0, area / (4 * math.pi * middle)) if middle > 0 else 1.0
    return 4 * math.sqrt(middle + spread), 4 * math.sqrt(max(0.0, middle - spread)), angle, circularity_hu


def _ferets(hulls: Sequence[npt.NDArray[Any]], origins_px: Sequence[tuple[int, int] | None]) -> Column:
    """Greatest, least and mean calliper width and the directions of the first two, (n, 5)."""
    points = np.array([len(hull) for hull in hulls])
    starts = np.concatenate(([0], np.cumsum(points)[:-1]))
    # one product a particle: the last bits of a product of all of them depend on how many they are
    along = np.concatenate(
        [
            hull @ _DIRECTIONS if origin is None else np.rint((hull + np.array(origin)) @ _DIRECTIONS)
            for hull, origin in zip(hulls, origins_px, strict=True)
        ]
    )
    widths = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts) + 1
    longest, shortest = widths.argmax(axis=1), widths.argmin(axis=1)
    each = np.arange(len(widths))
    return np.stack(
        (
            widths[each, longest], widths[each, shortest], widths.sum(axis=1) / len(_ANGLES), _ANGLES[longest],
            _ANGLES[shortest],
        ),
        axis=1,
    )  # fmt: skip
