"""Writes the coastline of the map of runs: python docs/make_coastline.py package/land-10m.json

The land is that of Natural Earth (1:10 million, public domain, naturalearthdata.com) as the npm package `world-atlas` 2.0.2 has it
(`npm pack world-atlas`, unpack). Lines are made simpler by Douglas and Peucker's method, small islands left out. The file has each
point as the step from the one before it, in 1/100 degree: all longitudes, then all latitudes, the sign in the last bit, low bytes
and high bytes by themselves, which is what compresses best.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

OUT = Path(__file__).parents[1] / "src" / "plankter" / "service" / "coastline.npz"
TOLERANCE_DEG, LEAST_DEG2, PER_DEG = 0.02, 0.002, 100  # 2 km; an island of 2 km by 10 km in the middle latitudes

Ring = npt.NDArray[np.float64]


def rings_of(path: Path) -> list[Ring]:
    """All rings of a TopoJSON file's land, (n, 2) longitude and latitude, the first point not repeated at the end."""
    topology = json.loads(path.read_text(encoding="utf-8"))
    scale, shift = (np.array(topology["transform"][name]) for name in ("scale", "translate"))
    arcs = [np.cumsum(np.array(arc, float), axis=0) * scale + shift for arc in topology["arcs"]]
    found = []
    for shape in topology["objects"]["land"]["geometries"]:
        for polygon in [shape["arcs"]] if shape["type"] == "Polygon" else shape["arcs"]:
            for ring in polygon:  # ~n is arc n backwards
                found.append(flat(np.concatenate([(arcs[n] if n >= 0 else arcs[~n][::-1])[:-1] for n in ring])))
    return found


def flat(ring: Ring) -> Ring:
    """On the sphere a ring may cross the date line or go around the pole; here its longitudes go on beyond 180 degrees, and
    what goes around the South Pole is closed along 90 degrees south."""
    longitude = np.unwrap(ring[:, 0], period=360)
    longitude -= 360 * np.round((longitude.min() + longitude.max()) / 720)
    found = np.column_stack([longitude, ring[:, 1]])
    if abs(longitude[0] - longitude[-1]) < 180:
        return found
    around = longitude[0] + math.copysign(360, longitude[-1] - longitude[0])
    return np.vstack([found, [around, ring[0, 1]], [around, -90.0], [longitude[0], -90.0]])


def area(ring: Ring) -> float:
    """In square degrees."""
    x, y = ring.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def simpler(ring: Ring, tolerance: float) -> Ring:
    """Without the points that lie within the tolerance of the line through those that are kept."""
    closed = np.vstack([ring, ring[:1]])
    far = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    kept = np.zeros(len(closed), bool)
    kept[[0, far]] = True
    todo = [(0, far), (far, len(ring))]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        along, away = closed[last] - closed[first], closed[first + 1 : last] - closed[first]
        length = np.hypot(*along)
        off = np.abs(away[:, 0] * along[1] - away[:, 1] * along[0]) / length if length else np.hypot(*away.T)
        worst = int(off.argmax())
        if off[worst] > tolerance:
            kept[first + 1 + worst] = True
            todo += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return ring[kept[:-1]]


def main(source: Path) -> None:
    """Reads the TopoJSON file and writes ours."""
    found = []
    for ring in rings_of(source):
        if area(ring) >= LEAST_DEG2:
            points = np.round(simpler(ring, TOLERANCE_DEG) * PER_DEG).astype(np.int64)
            points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
            if len(points) > 2:
                found.append(points)
    found.sort(key=len, reverse=True)
    every = np.concatenate(found)
    steps = np.diff(every, axis=0, prepend=np.zeros((1, 2), np.int64)).T
    steps = (steps + (1 << 15)) % (1 << 16) - (1 << 15)  # from ring to ring a step may leave the range: it wraps
    signed = np.where(steps < 0, -2 * steps - 1, 2 * steps)
    sizes = np.array([len(ring) for ring in found], "<u4")
    np.savez_compressed(OUT, low=(signed & 255).astype(np.uint8), high=(signed >> 8).astype(np.uint8), sizes=sizes)
    sys.stdout.write(f"{len(found)} rings, {len(every)} points, {OUT.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
