"""Small runs for the archive."""

from __future__ import annotations

import numpy as np

from plankter.store.archive import Archive
from plankter.testing.examples import example_particles
from plankter.types import ImportedLabel, Run
from plankter.vignettes.codec import encode_mask, encode_vignette

COLUMNS = ("esd_um", "abd_area_um2", "grey_mean")


def png(index: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng([seed, index])
    return encode_vignette(rng.integers(0, 256, (5 + index % 4, 6 + index % 3), dtype=np.uint8))


def mask_png(index: int) -> bytes:
    return encode_mask(np.eye(5 + index % 4, 6 + index % 3, dtype=bool))


def features(n: int) -> np.ndarray:
    values = np.arange(3 * n, dtype=np.float32).reshape(n, 3) / 7
    values[np.arange(n) % 5 == 4] = np.nan
    return values


def write(
    archive: Archive,
    run: Run,
    n: int = 12,
    *,
    seed: int = 0,
    labels: tuple[ImportedLabel, ...] = (),
    pixels: bool = True,
) -> None:
    with archive.create(run.run_id) as writer:
        for index in range(n) if pixels else ():
            there = index % 5 != 4
            writer.add(
                index, png(index, seed) if there else None, mask_png(index) if there and index % 2 == 0 else None
            )
        writer.commit(run, example_particles(n), labels, "morphology", "1", COLUMNS, features(n), 0.25)
