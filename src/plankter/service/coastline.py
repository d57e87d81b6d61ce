"""The land in a map of a small part of the world, or of all of it, as the path of a picture.

`coastline.npz` beside this file is made from Natural Earth (public domain) by `docs/make_coastline.py`, which says how. Its lines
are made simpler by up to 2 km: enough to see where a station lies, nothing to navigate by.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

PER_DEG = 100
MARGIN_PX = 4.0  # drawn beyond the picture, so that no edge of the cut is seen
STEP_PX = 0.5  # in which a place is written
LEAST_PX = 1.5  # of coast from one point to the next; of an island
Points = npt.NDArray[np.float64]


@lru_cache(1)
def rings() -> tuple[tuple[Points, ...], Points]:
    """Every ring as (n, 2) longitude and latitude in degrees, and for each its (west, south, east, north)."""
    with np.load(Path(__file__).with_name("coastline.npz"), allow_pickle=False) as kept:
        signed = kept["low"].astype(np.int32) | kept["high"].astype(np.int32) << 8
        ends = np.cumsum(kept["sizes"], dtype=np.int64)
    steps = np.where(signed & 1, -(signed + 1) // 2, signed // 2)
    every = np.cumsum(steps, axis=1, dtype=np.int16).T / PER_DEG  # wraps as the steps do
    first = np.r_[0, ends[:-1]]
    boxes = np.hstack([np.minimum.reduceat(every, first), np.maximum.reduceat(every, first)])
    return tuple(np.split(every, ends[:-1])), boxes


@lru_cache(64)
def land(view: tuple[float, float, float, float], left: float, top: float, x_scale: float, y_scale: float) -> str:
    """The land as the `d` of an SVG path, empty where there is none.

    Args:
        view: west, south, east, north of the picture in degrees, the middle from -180 to 360.
        left, top: px of its corner in the north west.
        x_scale, y_scale: px of a degree of longitude and of latitude.
    """
    found, boxes = rings()
    margin = np.array([MARGIN_PX / x_scale, MARGIN_PX / y_scale])
    low, high = np.array(view[:2]) - margin, np.array(view[2:]) + margin
    scale, corner, shift = np.array([x_scale, -y_scale]), np.array([view[0], view[3]]), np.array([left, top])
    parts = []
    for turn in (-360.0, 0.0, 360.0, 720.0):  # a map across the date line may begin west of it or end east of it
        west, south, east, north = (boxes + np.array([turn, 0.0, turn, 0.0])).T
        near = (west <= high[0]) & (east >= low[0]) & (south <= high[1]) & (north >= low[1])
        large = np.maximum((east - west) * x_scale, (north - south) * y_scale) >= LEAST_PX
        for n in np.flatnonzero(near & large):
            points = found[n] + [turn, 0]
            whole = low[0] <= west[n] and east[n] <= high[0] and low[1] <= south[n] and north[n] <= high[1]
            if not whole:
                points = clipped(points, low, high)
            parts.append(_path((points - corner) * scale + shift))
    return "".join(parts)


def clipped(ring: Points, low: Points, high: Points) -> Points:
    """The part of a polygon inside a rectangle (Sutherland and Hodgman 1974, one edge after the other)."""
    for axis, limit, sign in ((0, low[0], 1), (0, high[0], -1), (1, low[1], 1), (1, high[1], -1)):
        if not len(ring):
            break
        before = np.roll(ring, 1, axis=0)
        inside = sign * (ring[:, axis] - limit) >= 0
        crosses = inside != np.roll(inside, 1)
        step = ring[:, axis] - before[:, axis]
        share = np.divide(limit - before[:, axis], step, out=np.zeros(len(ring)), where=crosses)
        met = before + share[:, None] * (ring - before)
        both = np.stack([met, ring], axis=1)  # where a line crosses the edge, the crossing comes before its end
        ring = both[np.stack([crosses, inside], axis=1)]
    return ring


def _path(ring: Points) -> str:
    """A closed line through points in px, without those that are too near the one before; empty where nothing is left."""
    if len(ring) < 3:
        return ""
    gone = np.cumsum(np.hypot(*np.diff(ring, axis=0, prepend=ring[:1]).T)) // LEAST_PX
    points = np.round(ring[np.diff(gone, prepend=-1) > 0] / STEP_PX).astype(np.int64)
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    if len(points) < 3:
        return ""
    x, y = points[0]
    steps = np.diff(points, axis=0).tolist()
    return f"M{x * STEP_PX:g} {y * STEP_PX:g}l" + " ".join(f"{a * STEP_PX:g} {b * STEP_PX:g}" for a, b in steps) + "z"
