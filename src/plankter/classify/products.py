"""Matrix products that stay on the thread that asks for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROWS = 32
SINGLE_THREADED = 250_000  # OpenBLAS spreads products of more multiplications than about this over threads


def product(rows: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 (n, d) @ (d, k), in blocks so small that none is spread over threads.

    Where all cores are busy with other workers, waiting for a second thread makes one of them 100 times slower.
    """
    dim, width = matrix.shape
    out = np.zeros((len(rows), width), np.float32)
    step = max(8, SINGLE_THREADED // (ROWS * width))
    for row in range(0, len(rows), ROWS):
        for start in range(0, dim, step):
            part = slice(start, min(start + step, dim))
            out[row : row + ROWS] += rows[row : row + ROWS, part] @ matrix[part]
    return out
