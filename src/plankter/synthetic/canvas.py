"""What shapes are drawn on: transmitted light and silhouette at three times the final resolution."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

SHIFT = 4  # OpenCV draws at sub-pixel positions of 1/16 px


class Canvas:
    """Light transmitted by a particle lying along x, in units of half its length: x runs from -1 to 1.

    Attributes:
        light: float32 (h, w), 1 where nothing stands in the light, 0 where none comes through.
        solid: uint8 (h, w), 255 where the particle is.
    """

    def __init__(self, length_px: float, half_height: float) -> None:
        """``length_px`` is the particle's length in the final picture; shapes reach ``half_height`` up and down."""
        self.oversampling = 3 if length_px <= 160 else 2
        self.unit_px = length_px * self.oversampling / 2
        self._middle = np.array([1.12, half_height + 0.12]) * self.unit_px + 4
        width, height = (2 * self._middle).astype(int)
        self.light: FloatArray = np.ones((height, width), np.float32)
        self.solid: UInt8Array = np.zeros((height, width), np.uint8)

    def fill(self, points: Points, light: float, *, solid: bool = True) -> None:
        """A filled polygon of (n, 2) points that lets ``light`` (0..1) through."""
        corners = self._corners(points)
        cv2.fillPoly(self.light, [corners], (light,), cv2.LINE_8, SHIFT)
        if solid:
            cv2.fillPoly(self.solid, [corners], (255,), cv2.LINE_8, SHIFT)

    def line(self, points: Points, width: float, light: float, *, closed: bool = False, solid: bool = True) -> None:
        """A line of ``width`` units; solid ones never get thinner than a pixel of the final picture."""
        corners = self._corners(points)
        thickness = max(self.oversampling if solid else 1, round(width * self.unit_px))
        cv2.polylines(self.light, [corners], closed, (light,), thickness, cv2.LINE_8, SHIFT)
        if solid:
            cv2.polylines(self.solid, [corners], closed, (255,), thickness, cv2.LINE_8, SHIFT)

    def dots(self, centres: Points, radius: float, light: float, *, solid: bool = True) -> None:
        """Filled discs around (n, 2) centres."""
        for centre in self._corners(centres)[:, 0]:
            size = max(1 << SHIFT, round(radius * self.unit_px * (1 << SHIFT)))
            at = (int(centre[0]), int(centre[1]))
            cv2.circle(self.light, at, size, (light,), cv2.FILLED, cv2.LINE_8, SHIFT)
            if solid:
                cv2.circle(self.solid, at, size, (255,), cv2.FILLED, cv2.LINE_8, SHIFT)

    def texture(self, rng: np.random.Generator, strength: float, grain: float) -> None:
        """Makes what was drawn uneven: its darkness varies by ``strength`` in blotches of ``grain`` units."""
        noise = smooth_noise(rng, self.light.shape[0], self.light.shape[1], max(2.0, grain * self.unit_px))
        np.clip(1 - (1 - self.light) * (1 + strength * noise), 0.02, 1.6, out=self.light)

    def _corners(self, points: Points) -> npt.NDArray[np.int32]:
        pixels = np.asarray(points, np.float64).reshape(-1, 2) * self.unit_px + self._middle
        return np.rint(pixels * (1 << SHIFT)).astype(np.int32).reshape(-1, 1, 2)


def smooth_noise(rng: np.random.Generator, height: int, width: int, grain_px: float) -> FloatArray:
    """Noise of mean 0 and about unit spread in blotches of ``grain_px``; float32 (height, width)."""
    rows, columns = int(height / grain_px) + 3, int(width / grain_px) + 3
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def ellipse(x: float, y: float, a: float, b: float, n: int = 48) -> Points:
    """(n, 2) points of an ellipse with half axes a, b."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack((x + a * np.cos(angle), y + b * np.sin(angle)))


def superellipse(x: float, y: float, a: float, b: float, power: float = 4.0, n: int = 64) -> Points:
    """(n, 2) points of |x/a|^power + |y/b|^power = 1: a rectangle with rounded corners for power 4 and more."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    radius = (np.abs(cos) ** power + np.abs(sin) ** power) ** (-1 / power)
    return np.column_stack((x + a * radius * cos, y + b * radius * sin))


def wobble(rng: np.random.Generator, points: Points, amount: float, waves: int = 5) -> Points:
    """A closed outline with its distance from the centre varied by a few random waves."""
    centre = points.mean(axis=0)
    angle = np.linspace(0, 2 * np.pi, len(points), endpoint=False)
    change = np.zeros(len(points))
    for order in range(2, 2 + waves):
        change += rng.normal(0, amount / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(centre + (points - centre) * (1 + change[:, None]))


def turn(points: Points, angle: float, at: tuple[float, float] = (0.0, 0.0)) -> Points:
    """Points turned by ``angle`` (radians) around the origin, then moved to ``at``."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + np.asarray(at))


def curve(start: tuple[float, float], direction: float, length: float, bend: float, n: int = 20) -> Points:
    """(n, 2) points of an arc of ``length`` from ``start`` that turns by ``bend`` radians on its way."""
    angle = direction + bend * np.linspace(0, 1, n - 1)
    steps = np.column_stack((np.cos(angle), np.sin(angle))) * (length / (n - 1))
    return np.asarray(np.vstack(([start], np.asarray(start) + np.cumsum(steps, axis=0))))
