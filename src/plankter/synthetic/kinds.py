"""The shapes of particles: what one kind looks like in transmitted light, drawn with random proportions.

Each function takes (rng, length_px) and returns a `Canvas`; they are schematic on purpose: as a FlowCam of low
magnification shows them, outline, opacity and gross structure, nothing that needs a microscope.
"""

from __future__ import annotations

import numpy as np

from plankter.synthetic.canvas import Canvas, curve, ellipse, superellipse, turn, wobble

Random = np.random.Generator


def _scatter(rng: Random, n: int, a: float, b: float) -> np.ndarray:
    angle, radius = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.uniform(0, 1, n))
    return np.column_stack((a * radius * np.cos(angle), b * radius * np.sin(angle)))


def centric_valve(rng: Random, length_px: float) -> Canvas:
    """Centric diatom lying on its valve: a disc with a rim and radial ribs."""
    height = rng.uniform(0.9, 1.0)
    c = Canvas(length_px, height)
    c.fill(ellipse(0, 0, 1, height), rng.uniform(0.55, 0.85))
    ribs, offset = int(rng.integers(6, 25)), rng.uniform(0, np.pi)
    for angle in offset + np.arange(ribs) * 2 * np.pi / ribs:
        ray = np.array([[0.2, 0.0], [0.95, 0.0]]) @ np.array([[np.cos(angle), np.sin(angle)], [0, 1]])
        c.line(ray * [1, height], 0.02, rng.uniform(0.45, 0.7), solid=False)
    c.dots(_scatter(rng, int(rng.integers(0, 14)), 0.7, 0.7 * height), rng.uniform(0.04, 0.1), 0.35, solid=False)
    c.dots(np.zeros((1, 2)), 0.12, rng.uniform(0.3, 1.0), solid=False)
    c.line(ellipse(0, 0, 0.97, 0.97 * height), rng.uniform(0.04, 0.09), 0.25, closed=True)
    c.texture(rng, 0.08, 0.15)
    return c


def centric_girdle(rng: Random, length_px: float) -> Canvas:
    """Centric diatom seen from the side: a short drum with a girdle band."""
    half = rng.uniform(0.4, 0.85)
    c = Canvas(length_px, half)
    c.fill(superellipse(0, 0, 1, half, 6), rng.uniform(0.6, 0.85))
    c.dots(_scatter(rng, int(rng.integers(8, 30)), 0.8, 0.8 * half), rng.uniform(0.05, 0.11), 0.35, solid=False)
    for x in (-0.25, 0.25):
        c.line(np.array([[x, -half], [x, half]]), 0.03, 0.45, solid=False)
    c.line(superellipse(0, 0, 0.97, half - 0.03, 6), 0.06, 0.25, closed=True)
    c.texture(rng, 0.11, 0.12)
    return c


def pennate(rng: Random, length_px: float) -> Canvas:
    """Pennate diatom: a narrow lens with a raphe and two chloroplasts."""
    half = rng.uniform(0.12, 0.32)
    c = Canvas(length_px, half)
    x = np.linspace(-1, 1, 40)
    upper = half * np.clip(1 - x**2, 0, 1) ** rng.uniform(0.6, 1.2)
    outline = np.vstack((np.column_stack((x, upper)), np.column_stack((x[::-1], -upper[::-1]))))
    c.fill(outline, rng.uniform(0.6, 0.85))
    for side in (-1, 1):
        c.fill(ellipse(side * 0.4, 0, 0.28, 0.6 * half), rng.uniform(0.25, 0.5), solid=False)
    c.line(np.array([[-0.9, 0.0], [0.9, 0.0]]), 0.015, 0.4, solid=False)
    c.line(outline, 0.035, 0.25, closed=True)
    c.texture(rng, 0.08, 0.09)
    return c


def rhizosolenia_rod(rng: Random, length_px: float) -> Canvas:
    """Rhizosolenia-like rod: a long glass tube with oblique tips, segments and small chloroplasts."""
    half = rng.uniform(0.04, 0.09)
    c = Canvas(length_px, half)
    outline = np.array([[-1, -half], [-0.88, half], [0.88, half], [1, half], [0.9, -half]]) * [1, 1]
    c.fill(outline, rng.uniform(0.55, 0.75))
    for x in rng.uniform(-0.85, 0.85, int(rng.integers(2, 7))):
        c.line(np.array([[x, -half], [x + 0.03, half]]), 0.02, 0.4, solid=False)
    c.dots(_scatter(rng, int(rng.integers(10, 40)), 0.85, 0.7 * half), 0.03, 0.35, solid=False)
    c.line(outline, 0.02, 0.25, closed=True)
    return c


def chaetoceros_chain(rng: Random, length_px: float) -> Canvas:
    """Chaetoceros-like chain: cells with gaps between them and long setae."""
    cells, half = int(rng.integers(3, 9)), rng.uniform(0.09, 0.16)
    c = Canvas(length_px, 0.7)
    step = 1.8 / cells
    bend = rng.uniform(-0.25, 0.25)
    for x in -0.9 + step * (np.arange(cells) + 0.5):
        y = bend * (x**2 - 0.4)
        for end, side in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            start = (float(x + end * step * 0.42), float(y + side * half * 0.9))
            seta = curve(start, side * rng.uniform(0.9, 1.6), rng.uniform(0.35, 0.55), end * rng.uniform(-0.6, 0.6))
            c.line(np.clip(seta, [-1, -0.7], [1, 0.7]), 0.012, 0.45)
        cell = turn(superellipse(0, 0, step * 0.42, half, 5), 2 * bend * float(x), (float(x), float(y)))
        c.fill(cell, rng.uniform(0.5, 0.7))
        c.fill(ellipse(float(x), float(y), step * 0.25, half * 0.6), rng.uniform(0.25, 0.45), solid=False)
        c.line(cell, 0.025, 0.25, closed=True)
    return c


def skeletonema_chain(rng: Random, length_px: float) -> Canvas:
    """Skeletonema-like chain: many small cells on fine threads."""
    cells, half = int(rng.integers(6, 16)), rng.uniform(0.04, 0.08)
    c = Canvas(length_px, 0.35)
    bend = rng.uniform(-0.3, 0.3)
    x = np.linspace(-0.93, 0.93, cells)
    y = bend * (x**2 - 0.5)
    for shift in (-0.5, 0.5):
        c.line(np.column_stack((x, y + shift * half)), 0.01, 0.6)
    for cx, cy in zip(x.tolist(), y.tolist(), strict=True):
        cell = turn(superellipse(0, 0, 0.62 / cells, half, 4), 2 * bend * cx, (cx, cy))
        c.fill(cell, rng.uniform(0.3, 0.5))
        c.line(cell, 0.015, 0.2, closed=True)
    return c


def tripos(rng: Random, length_px: float) -> Canvas:
    """Tripos-like dinoflagellate: a small body, one horn ahead, two bent back."""
    c = Canvas(length_px, 0.6)
    spread, body = rng.uniform(0.25, 0.5), rng.uniform(0.15, 0.2)
    shade = rng.uniform(0.15, 0.35)
    c.line(curve((-0.5, 0.0), 0.0, 1.5, rng.uniform(-0.1, 0.1)), 0.06, shade)
    for side in (-1, 1):
        horn = curve((-0.6, side * 0.1), np.pi - side * 0.6, 0.5 + spread / 2, -side * rng.uniform(1.2, 2.4))
        c.line(np.clip(horn, [-1, -0.55], [1, 0.55]), 0.055, shade)
    c.fill(wobble(rng, ellipse(-0.5, 0, 0.22, body), 0.06), shade)
    c.fill(np.array([[-0.45, -body], [-0.45, body], [-0.1, 0.04], [-0.1, -0.04]]), shade)
    c.line(np.array([[-0.52, -body], [-0.5, body]]), 0.03, shade + 0.3, solid=False)
    c.texture(rng, 0.11, 0.105)
    return c


def protoperidinium(rng: Random, length_px: float) -> Canvas:
    """Protoperidinium-like dinoflagellate: a pentagon with an apical horn and two spines."""
    half, shade = rng.uniform(0.55, 0.8), rng.uniform(0.12, 0.4)
    c = Canvas(length_px, half)
    outline = np.array(
        [[1, -0.07], [1, 0.07], [0.6, 0.22], [0.05, half], [-0.55, half * 0.55], [-0.98, half * 0.38],
         [-0.6, 0.02], [-0.98, -half * 0.38], [-0.55, -half * 0.55], [0.05, -half], [0.6, -0.22]]
    )  # fmt: skip
    c.fill(outline, shade)
    c.fill(ellipse(-0.1, 0, 0.3, half * 0.5), shade * 0.6, solid=False)
    c.line(curve((0.08, -half), np.pi / 2 + 0.2, 2 * half, -0.4), 0.05, shade + 0.3, solid=False)
    c.line(outline, 0.04, shade * 0.7, closed=True)
    c.texture(rng, 0.14, 0.15)
    return c


def tintinnid(rng: Random, length_px: float) -> Canvas:
    """Tintinnid: a glassy lorica, open in front, with the ciliate inside."""
    half, shape = rng.uniform(0.25, 0.5), rng.uniform(0.35, 0.7)
    c = Canvas(length_px, half)
    x = np.linspace(-1, 1, 30)
    upper = half * (0.04 + 0.96 * np.clip((x + 1) / 2, 0, 1) ** shape)
    outline = np.vstack((np.column_stack((x, upper)), np.column_stack((x[::-1], -upper[::-1]))))
    c.fill(outline, rng.uniform(0.7, 0.85))
    c.fill(wobble(rng, ellipse(0.25, 0, rng.uniform(0.35, 0.55), half * 0.55), 0.08), 0.25, solid=False)
    c.line(outline, 0.05, 0.3, closed=True)
    c.texture(rng, 0.17, 0.09)
    return c


def ciliate(rng: Random, length_px: float) -> Canvas:
    """Naked ciliate: a dark egg with a crown of cilia."""
    half = rng.uniform(0.5, 0.75)
    c = Canvas(length_px, half + 0.1)
    for angle in rng.uniform(-0.9, 0.9, 14):
        start = (0.55 + 0.1 * float(np.cos(angle)), float(np.sin(angle)) * half * 0.8)
        c.line(curve(start, angle * 0.8, 0.33, rng.uniform(-0.4, 0.4)), 0.02, 0.5, solid=False)
    c.fill(wobble(rng, ellipse(-0.12, 0, 0.86, half), 0.05), rng.uniform(0.15, 0.35))
    c.dots(_scatter(rng, 10, 0.6, half * 0.6), 0.09, rng.uniform(0.1, 0.5), solid=False)
    c.texture(rng, 0.17, 0.15)
    return c


def detritus(rng: Random, length_px: float) -> Canvas:
    """Detritus: an irregular, fractal clump of uneven opacity."""
    c = Canvas(length_px, 0.9)
    centres, radii = np.zeros((1, 2)), np.array([rng.uniform(0.15, 0.3)])
    for _ in range(int(rng.integers(18, 50))):  # each lump sticks to one already there, most are small
        parent, angle = int(rng.integers(len(radii))), rng.uniform(0, 2 * np.pi)
        radius = min(0.25, 0.04 + rng.exponential(0.06))
        at = centres[parent] + (radii[parent] + radius * 0.5) * np.array([np.cos(angle), np.sin(angle)])
        centres, radii = np.vstack((centres, at)), np.append(radii, radius)
    low, high = (centres - radii[:, None]).min(axis=0), (centres + radii[:, None]).max(axis=0)
    scale = min(2 / (high[0] - low[0]), 1.8 / (high[1] - low[1]))
    centres, radii = (centres - (low + high) / 2) * scale, radii * scale
    for (x, y), radius in zip(centres.tolist(), radii.tolist(), strict=True):
        blob = wobble(rng, ellipse(x, y, radius, radius, 24), 0.35)
        c.fill(np.clip(blob, [-1.1, -1.0], [1.1, 1.0]), rng.uniform(0.2, 0.75))
    c.texture(rng, 0.28, 0.075)
    return c


def fibre(rng: Random, length_px: float) -> Canvas:
    """Fibre: one long curved line, of even width."""
    c = Canvas(length_px, 0.6)
    angles = np.cumsum(rng.normal(0, 0.22, 40)) + rng.normal(0, 0.02) * np.arange(40)
    path = np.cumsum(np.column_stack((np.cos(angles), np.sin(angles))), axis=0)
    path -= (path.min(axis=0) + path.max(axis=0)) / 2
    path /= max(float(path[:, 0].max()), float(np.abs(path[:, 1]).max()) / 0.6)
    width = rng.uniform(0.015, 0.045)
    c.line(path, width, rng.uniform(0.15, 0.4))
    if width > 0.03:
        c.line(path, width * 0.35, 0.7, solid=False)
    return c


def bubble(rng: Random, length_px: float) -> Canvas:
    """Air bubble: a black disc with a bright centre."""
    c = Canvas(length_px, 1.0)
    c.fill(ellipse(0, 0, 1, 1, 72), rng.uniform(0.05, 0.15))
    c.dots(rng.normal(0, 0.03, (1, 2)), rng.uniform(0.04, 0.16), rng.uniform(0.8, 1.4), solid=False)
    return c


def faecal_pellet(rng: Random, length_px: float) -> Canvas:
    """Faecal pellet: an opaque sausage with a rough edge."""
    half = rng.uniform(0.22, 0.42)
    c = Canvas(length_px, half * 1.25)
    outline = wobble(rng, superellipse(0, 0, 0.97, half, 3, 96), 0.05, 14)
    outline[:, 1] += rng.uniform(-0.15, 0.15) * half * (outline[:, 0] ** 2 - 0.5)
    c.fill(outline, rng.uniform(0.08, 0.25))
    c.texture(rng, 0.08, 0.075)
    return c


def pollen(rng: Random, length_px: float) -> Canvas:
    """Pollen grain: round, with a thick wall and granules."""
    height = rng.uniform(0.85, 1.0)
    c = Canvas(length_px, height)
    wall = wobble(rng, ellipse(0, 0, 0.95, 0.95 * height), 0.02)
    c.fill(wall, rng.uniform(0.3, 0.55))
    c.dots(_scatter(rng, 40, 0.8, 0.8 * height), 0.06, rng.uniform(0.2, 0.7), solid=False)
    c.line(wall, 0.13, 0.15, closed=True)
    for x, y in (wall * 0.93)[:: int(rng.integers(12, 20))].tolist():
        c.dots(np.array([[x, y]]), 0.09, 0.6, solid=False)
    c.texture(rng, 0.11, 0.12)
    return c
