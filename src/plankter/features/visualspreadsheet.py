"""The formulas by which VisualSpreadsheet turns its raw pixel columns into calibrated ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]


def visualspreadsheet_derived(
    raw: Mapping[str, npt.NDArray[Any]], cal_const: npt.ArrayLike, fringe: npt.ArrayLike
) -> dict[str, Column]:
    """VisualSpreadsheet's calibrated properties from its ``raw_`` columns.

    With c = ``cal_const``, f = ``fringe`` and k(d) = max(d - f, d/2): diameters, length and width are c k(d) of the
    raw ones, so they are not scaled pixel measures. Formulas recomputed on real lists of VisualSpreadsheet 3 and 4.

    Args:
        raw: any of raw_area, raw_filled_area, raw_feret_max, raw_feret_min, raw_feret_mean, raw_perimeter,
            raw_convex_perimeter, raw_convex_hull_area, raw_legendre_major and raw_legendre_minor, each (n,) in px;
            others are ignored.
        cal_const: um per px, a number or (n,).
        fringe: px, a number or (n,).

    Returns:
        float64 (n,) by the instrument's column names, those that ``raw`` suffices for; NaN where undefined. Columns
        of its export alone: volume_abd, volume_esd, transparency, circularity, convexity, geodesic_length,
        geodesic_thickness, aspect_ratio (version 3: width / length) and legendre_aspect_ratio (version 4).
    """
    c, f = np.asarray(cal_const, dtype=np.float64), np.asarray(fringe, dtype=np.float64)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in raw.items() if name.startswith("raw_")}
    out: dict[str, Column] = {}

    def corrected(name: str, diameter: Column) -> Column:
        out[name] = c * np.maximum(diameter - f, diameter / 2)
        return out[name]

    for name, diameter, area in (
        ("raw_area", "abd_diameter", "abd_area"),
        ("raw_filled_area", "fd_diameter", "filled_area"),
    ):
        if name in columns:
            out[area] = math.pi / 4 * corrected(diameter, 2 * np.sqrt(columns[name] / math.pi)) ** 2
    for name, length in (("raw_feret_max", "length"), ("raw_feret_min", "width"), ("raw_feret_mean", "esd_diameter")):
        if name in columns:
            corrected(length, columns[name])
    if "raw_perimeter" in columns:
        out["perimeter"] = c * columns["raw_perimeter"]
    if "raw_convex_perimeter" in columns:
        out["convex_perimeter"] = c * (columns["raw_convex_perimeter"] - f)
    if {"raw_perimeter", "raw_filled_area"} <= columns.keys():
        _add_rectangle(out, columns["raw_perimeter"], columns["raw_filled_area"], c)
    with np.errstate(divide="ignore", invalid="ignore"):
        if {"raw_filled_area", "raw_convex_hull_area"} <= columns.keys():
            out["convexity"] = np.minimum(1.0, columns["raw_filled_area"] / columns["raw_convex_hull_area"])
        if {"raw_legendre_major", "raw_legendre_minor"} <= columns.keys():
            major, minor = columns["raw_legendre_major"], columns["raw_legendre_minor"]
            out["legendre_aspect_ratio"] = np.where(major == 0, 1.0, minor / major)
    _add_ratios(out)
    return out


def _add_rectangle(out: dict[str, Column], perimeter: Column, filled_area: Column, c: Column) -> None:
    # the rectangle of this perimeter and area: length and breadth are the roots of x^2 - half x + filled_area;
    # where there is none (rounder than a square) the instrument takes the square of this perimeter
    half = perimeter / 2
    root = np.sqrt(np.maximum(half**2 - 4 * filled_area, 0.0))
    length, breadth = (half + root) / 2, (half - root) / 2
    out["geodesic_length"], out["geodesic_thickness"] = c * length, c * breadth
    with np.errstate(divide="ignore", invalid="ignore"):
        out["compactness"] = np.maximum(1.0, perimeter**2 / (4 * math.pi * filled_area))
        out["circularity"] = 1 / out["compactness"]
        out["elongation"] = np.where(root == 0, 1.0, length / breadth)


def _add_ratios(out: dict[str, Column]) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        if {"length", "width"} <= out.keys():
            out["aspect_ratio"] = out["width"] / out["length"]
        if {"perimeter", "convex_perimeter"} <= out.keys():
            convex = out["convex_perimeter"]
            out["roughness"] = np.where(convex > 0, out["perimeter"] / convex, np.nan)
        if {"abd_diameter", "esd_diameter"} <= out.keys():
            out["transparency"] = 1 - out["abd_diameter"] / out["esd_diameter"]
    for diameter, volume in (("abd_diameter", "volume_abd"), ("esd_diameter", "volume_esd")):
        if diameter in out:
            out[volume] = math.pi / 6 * out[diameter] ** 3
