"""The columns of VisualSpreadsheet's list that follow from a mask and its pixels.

With c the scale in um/px and f the fringe in px, g(x) = c * max(x - f, x / 2): diameters, length and width are
g of the raw value in px (recomputed on 26,016 rows of real lists). circle_fit and symmetry, whose definitions are
not published, stand here with plausible ones of our own.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from plankter.synthetic.canvas import UInt8Array

# The 36 directions of a Feret diameter in the instrument's order: of equal widths the first gives its angle
ANGLES_DEG = np.array([angle for step in range(0, 90, 5) for angle in (step, step - 90)])
FRINGE_PX = 4.5
DECIMALS = 4

# y of an image points down, angles go counter-clockwise
_DIRECTIONS = np.vstack((np.cos(np.deg2rad(ANGLES_DEG)), -np.sin(np.deg2rad(ANGLES_DEG))))
Row = dict[str, float]


def raw_measures(mask: npt.NDArray[np.bool_], grey: UInt8Array, origin_px: tuple[int, int] = (0, 0)) -> Row:
    """The list's columns in px and grey levels.

    Args:
        mask: bool (h, w), at least one pixel.
        grey: uint8 (h, w).
        origin_px: the vignette's corner in the camera frame, where the instrument rounds its calliper spans.

    Raises:
        ValueError: an empty mask.
    """
    area = int(np.count_nonzero(mask))
    if area == 0:
        raise ValueError("expected a mask with pixels, got an empty one")
    bits = mask.astype(np.uint8)
    contours, _ = cv2.findContours(bits, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(bits)
    cv2.drawContours(filled, contours, -1, (1,), cv2.FILLED)
    edge = np.vstack(contours)[:, 0].astype(np.int32)
    hull = cv2.convexHull(edge)
    along = np.rint((hull[:, 0] + np.array(origin_px)) @ _DIRECTIONS)
    feret = along.max(axis=0) - along.min(axis=0) + 1
    row: Row = {
        "ppc": len(contours),
        "raw_area": area,
        "raw_filled_area": int(np.count_nonzero(filled)),
        "raw_feret_max": float(feret.max()),
        "raw_feret_min": float(feret.min()),
        "raw_feret_mean": float(feret.mean()),
        "feret_max_angle": float(ANGLES_DEG[feret.argmax()]),
        "feret_min_angle": float(ANGLES_DEG[feret.argmin()]),
        "raw_perimeter": sum(cv2.arcLength(contour, True) for contour in contours),
        "raw_convex_perimeter": cv2.arcLength(hull, True),
        "raw_convex_hull_area": cv2.contourArea(hull),
    }
    row |= _moments(filled.astype(np.bool_)) | _greys(mask, grey, area, edge) | _circle_fit(edge)
    return {name: round(float(value), DECIMALS) for name, value in row.items()}


def _moments(mask: npt.NDArray[np.bool_]) -> Row:
    y, x = np.nonzero(mask)
    area = len(x)
    dx, dy = x - x.mean(), y - y.mean()
    xx, yy, xy = (dx * dx).mean(), (dy * dy).mean(), (dx * dy).mean()
    root = math.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    middle = (xx + yy) / 2
    opposite = np.rint(2 * y.mean() - y).astype(int), np.rint(2 * x.mean() - x).astype(int)
    height, width = mask.shape
    within = (opposite[0] >= 0) & (opposite[0] < height) & (opposite[1] >= 0) & (opposite[1] < width)
    return {
        "raw_legendre_major": 4 * math.sqrt(middle + root),
        "raw_legendre_minor": 4 * math.sqrt(max(middle - root, 0)),
        "circularity_hu": min(1.0, area / (2 * math.pi * max(xx + yy, 1e-9))),
        "symmetry": np.count_nonzero(mask[opposite[0][within], opposite[1][within]]) / area,
    }


def _greys(mask: npt.NDArray[np.bool_], grey: UInt8Array, area: int, edge: npt.NDArray[np.int32]) -> Row:
    inside = grey[mask]
    slope = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    gradient = np.minimum(slope[edge[:, 1], edge[:, 0]] / 2, 255)
    total = int(inside.sum(dtype=np.int64))
    # VisualSpreadsheet weighs 0.114 R + 0.587 G + 0.299 B; of three equal channels that is the grey itself
    mean = total / area
    return {
        "intensity": mean,
        "sum_intensity": total,
        "sigma_intensity": float(inside.std()),
        "avg_red": mean,
        "avg_green": mean,
        "avg_blue": mean,
        "edge_gradient": float(gradient.mean()),
    }


def _circle_fit(edge: npt.NDArray[np.int32]) -> Row:
    radius = np.hypot(*(edge - edge.mean(axis=0)).T)
    return {"circle_fit": float(np.clip(1 - radius.std() / max(float(radius.mean()), 1e-9), 0, 1))}


def calibrated(raw: Row, um_per_px: float, fringe_px: float = FRINGE_PX) -> Row:
    """The columns in um and um2, and the ratios, from the raw ones as they are written (4 decimals)."""

    def g(px: float) -> float:
        return um_per_px * max(px - fringe_px, px / 2)

    filled, perimeter_px = raw["raw_filled_area"], raw["raw_perimeter"]
    abd = g(2 * math.sqrt(raw["raw_area"] / math.pi))
    fd = g(2 * math.sqrt(filled / math.pi))
    perimeter = um_per_px * perimeter_px
    convex = um_per_px * (raw["raw_convex_perimeter"] - fringe_px)
    half = perimeter_px / 4  # the rectangle of equal perimeter and area: L + B = perimeter / 2, L * B = area
    root = math.sqrt(half**2 - filled) if half**2 > filled else 0.0
    return {
        "abd_diameter": abd,
        "abd_area": math.pi / 4 * abd**2,
        "fd_diameter": fd,
        "filled_area": math.pi / 4 * fd**2,
        "length": g(raw["raw_feret_max"]),
        "width": g(raw["raw_feret_min"]),
        "esd_diameter": g(raw["raw_feret_mean"]),
        "perimeter": perimeter,
        "convex_perimeter": convex,
        "roughness": perimeter / convex if convex > 0 else 1.0,
        "compactness": max(1.0, perimeter_px**2 / (4 * math.pi * filled)),
        "elongation": (half + root) / (half - root) if root < half else 1.0,
    }
