"""Vignettes measured a second on one core, beside the straightforward way (scikit-image, where it is installed).

python benchmarks/bench_morphology.py [--particles 3000] [--side 60]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from plankter.features.morphology import measure_many
from plankter.vignettes.masks import own_mask

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]


def made_up(particles: int, side_px: int, seed: int = 1) -> list[Pair]:
    """Dark ellipses with a hole or a neighbour on a noisy bright ground, and their masks."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(particles):
        mask = np.zeros((side_px, side_px), np.uint8)
        axes = (int(rng.integers(side_px // 6, side_px // 3)), int(rng.integers(side_px // 12, side_px // 4)))
        cv2.ellipse(mask, (side_px // 2, side_px // 2), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        cv2.circle(mask, (side_px // 2, side_px // 2), 2, 0, -1)
        cv2.circle(mask, (side_px // 8, side_px // 8), 3, 1, -1)
        image = rng.normal(180, 3, (side_px, side_px, 3)) - 60 * mask[:, :, None]
        pairs.append((image.clip(0, 255).astype(np.uint8), mask > 0))
    return pairs


def straightforward(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The same kind of numbers from scikit-image, all objects of the mask as one region.

    Raises:
        ImportError: scikit-image is not installed.
    """
    from skimage.measure import regionprops_table

    properties = (
        "area area_filled area_convex perimeter feret_diameter_max major_axis_length minor_axis_length orientation "
        "eccentricity solidity bbox euler_number moments_hu intensity_mean intensity_min intensity_max"
    )
    table: dict[str, Any] = regionprops_table(mask.astype(np.uint8), image, properties=tuple(properties.split()))
    return table


def per_second(work: Callable[[], object], count: int, repeat: int = 3) -> float:
    """Items a second, the best of ``repeat`` runs."""
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return count / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=3000)
    parser.add_argument("--side", type=int, default=60, help="side of a vignette, px")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    pairs = made_up(args.particles, args.side)
    n = len(pairs)
    print(f"{n} vignettes of {args.side} x {args.side} px, one core")
    print(f"measure_many       {per_second(lambda: measure_many(pairs, 0.5517, 4.5), n):9.0f} vignettes/s")
    print(f"own_mask           {per_second(lambda: [own_mask(image) for image, _ in pairs], n):9.0f} vignettes/s")
    few = pairs[: min(n, 200)]
    try:
        rate = per_second(lambda: [straightforward(image, mask) for image, mask in few], len(few), repeat=1)
    except ImportError:
        print("straightforward    scikit-image is not installed")
    else:
        print(f"straightforward    {rate:9.0f} vignettes/s (scikit-image regionprops_table)")


if __name__ == "__main__":
    main()
