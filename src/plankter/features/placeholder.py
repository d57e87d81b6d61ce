"""A backbone without weights: pixel statistics, for tests and for trying the machinery without a network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

GRID = 8


class PlaceholderBackbone:
    """Mean grey of 8 x 8 tiles, mean and standard deviation over all pixels, and the three sizes, in 0..1 or so."""

    dim = GRID * GRID + 5
    precision = "f32"
    thread_safe = True

    def embed(self, vignettes: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """uint8 (n, s, s) vignettes with s of at least 8, float32 (n, 3) sizes -> float32 (n, 69).

        Raises:
            ValueError: smaller or not square vignettes.
        """
        n, side = vignettes.shape[:2]
        if vignettes.shape != (n, side, side) or side < GRID or sizes.shape != (n, 3):
            raise ValueError(f"expected (n, s, s) with s >= {GRID} and (n, 3), got {vignettes.shape}, {sizes.shape}")
        grey = vignettes.astype(np.float32) / 255
        starts = np.arange(GRID) * side // GRID
        sums = np.add.reduceat(np.add.reduceat(grey, starts, axis=1), starts, axis=2)
        extent = np.diff(np.append(starts, side)).astype(np.float32)
        tiles = (sums / np.outer(extent, extent)).reshape(n, GRID * GRID)
        level = np.stack((grey.mean((1, 2)), grey.std((1, 2))), axis=1)
        return np.concatenate((tiles, level, sizes), axis=1).astype(np.float32)
