"""Parametrised drawings of particles as a FlowCam sees them, each with its true mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from plankter.synthetic import kinds
from plankter.synthetic.canvas import Canvas, FloatArray, UInt8Array, smooth_noise

BORDER_PX = 5  # ImagePixelBorder of VisualSpreadsheet
NOISE_SD = 2.2  # grey levels of a real calibration frame, about
MIN_LENGTH_PX, MAX_LENGTH_PX = 14.0, 420.0


@dataclass(frozen=True)
class Kind:
    """One kind of particle: how it is drawn, how long it is (log-normal, um) and how often it comes."""

    draw: Callable[[np.random.Generator, float], Canvas]
    median_um: float
    sigma: float  # standard deviation of the natural logarithm of the length
    share: float


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "centric_valve": Kind(kinds.centric_valve, 38, 0.4, 1.2),
        "centric_girdle": Kind(kinds.centric_girdle, 34, 0.35, 0.8),
        "pennate": Kind(kinds.pennate, 45, 0.4, 1.0),
        "rhizosolenia_rod": Kind(kinds.rhizosolenia_rod, 110, 0.35, 0.8),
        "chaetoceros_chain": Kind(kinds.chaetoceros_chain, 75, 0.35, 1.0),
        "skeletonema_chain": Kind(kinds.skeletonema_chain, 70, 0.35, 0.9),
        "tripos": Kind(kinds.tripos, 95, 0.25, 0.5),
        "protoperidinium": Kind(kinds.protoperidinium, 40, 0.25, 0.6),
        "tintinnid": Kind(kinds.tintinnid, 60, 0.3, 0.5),
        "ciliate": Kind(kinds.ciliate, 32, 0.3, 0.6),
        "detritus": Kind(kinds.detritus, 35, 0.6, 2.5),
        "fibre": Kind(kinds.fibre, 100, 0.4, 0.4),
        "bubble": Kind(kinds.bubble, 36, 0.5, 0.3),
        "faecal_pellet": Kind(kinds.faecal_pellet, 55, 0.35, 0.5),
        "pollen": Kind(kinds.pollen, 30, 0.2, 0.3),
    }
)


@dataclass(frozen=True)
class Drawing:
    """A particle before it meets a background: light let through (float32, 1 = all) and true mask, both (h, w)."""

    light: FloatArray
    mask: npt.NDArray[np.bool_]


def draw_length_um(kind: str, rng: np.random.Generator) -> float:
    """A random length of this kind in um, from its log-normal distribution.

    Raises:
        KeyError: no such kind.
    """
    known = KINDS[kind]
    return float(known.median_um * np.exp(rng.normal(0, known.sigma)))


def draw(kind: str, rng: np.random.Generator, length_px: float) -> Drawing:
    """One particle of a kind, turned at random, cut to its mask and a border of a few px.

    Args:
        kind: a key of `KINDS`.
        rng: source of randomness; the same state gives the same drawing.
        length_px: longest extent before turning; kept within 14..420 px.

    Raises:
        KeyError: no such kind.
    """
    canvas = KINDS[kind].draw(rng, float(np.clip(length_px, MIN_LENGTH_PX, MAX_LENGTH_PX)))
    light, solid = _turned(canvas, rng.uniform(0, 360))
    mask = solid > 110
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    border = BORDER_PX + int(rng.integers(0, 4))
    box = (
        slice(max(0, rows[0] - border), rows[-1] + border + 1),
        slice(max(0, columns[0] - border), columns[-1] + border + 1),
    )
    # out of focus a little, and the bright line that diffraction draws along an edge
    focus = float(np.clip(0.75 * np.exp(rng.normal(0, 0.45)), 0.35, 2.2))
    light = cv2.GaussianBlur(light, (0, 0), focus).astype(np.float32)
    light += rng.uniform(0.1, 0.35) * (light - cv2.GaussianBlur(light, (0, 0), 2.5))
    return Drawing(np.clip(light[box], 0.02, 1.3), np.ascontiguousarray(mask[box]))


def _turned(canvas: Canvas, angle_deg: float) -> tuple[FloatArray, UInt8Array]:
    height, width = canvas.light.shape
    factor = canvas.oversampling
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, 1 / factor)
    cos, sin = abs(np.cos(np.deg2rad(angle_deg))), abs(np.sin(np.deg2rad(angle_deg)))
    size = (
        int((width * cos + height * sin) / factor) + 2 * BORDER_PX + 6,
        int((width * sin + height * cos) / factor) + 2 * BORDER_PX + 6,
    )
    matrix[:, 2] += np.array(size) / 2 - (width / 2, height / 2)
    soft = cv2.GaussianBlur(canvas.light, (0, 0), factor * 0.4)
    solid = cv2.GaussianBlur(canvas.solid, (0, 0), factor * 0.3)
    light = cv2.warpAffine(soft, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(1.0,))
    turned = cv2.warpAffine(solid, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(0,))
    return np.asarray(light, np.float32), np.asarray(turned, np.uint8)


def expose(rng: np.random.Generator, drawing: Drawing, background: npt.ArrayLike) -> UInt8Array:
    """What the camera writes: the drawing in front of a background, with the sensor's noise.

    Args:
        background: grey level, or float (h, w) of the drawing's shape.

    Returns:
        uint8 (h, w).
    """
    seen = np.asarray(background, np.float32) * drawing.light
    seen = seen + rng.standard_normal(drawing.light.shape, dtype=np.float32) * NOISE_SD
    return np.asarray(np.clip(np.rint(seen), 0, 255), np.uint8)


def draw_particle(
    kind: str, rng: np.random.Generator, um_per_px: float, *, length_um: float | None = None, background: float = 182.0
) -> tuple[UInt8Array, npt.NDArray[np.bool_]]:
    """One vignette and its true mask, ready to look at.

    Args:
        kind: a key of `KINDS`.
        um_per_px: scale.
        length_um: longest extent; from the kind's own distribution where None.
        background: grey level around the particle.

    Returns:
        uint8 (h, w) and bool (h, w).

    Raises:
        KeyError: no such kind.
    """
    length = draw_length_um(kind, rng) if length_um is None else length_um
    drawing = draw(kind, rng, length / um_per_px)
    return expose(rng, drawing, background), drawing.mask


def background_frame(rng: np.random.Generator, width_px: int, height_px: int) -> UInt8Array:
    """An empty camera frame: light that falls off to the corners, faint blotches, noise. uint8 (h, w)."""
    y, x = np.mgrid[-1 : 1 : height_px * 1j, -1 : 1 : width_px * 1j].astype(np.float32)
    tilt_x, tilt_y = rng.normal(0, 1.5, 2)
    frame = rng.uniform(176, 190) - 5 * (x**2 + y**2) + tilt_x * x + tilt_y * y
    frame += 0.8 * smooth_noise(rng, height_px, width_px, 60)
    frame += rng.standard_normal(frame.shape, dtype=np.float32) * 0.7  # the mean of several frames is calm
    return np.asarray(np.clip(np.rint(frame), 0, 255), np.uint8)
