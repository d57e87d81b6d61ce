"""Which part of a vignette speaks for a class, by random covers: RISE (Petsiuk, Das & Saenko 2018, BMVC)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from plankter.classify.saliency import Scores, Vignettes, batch_for, own_scores
from plankter.vignettes.letterbox import border_grey, to_grey

MASKS = 1_000
CELLS = 7
KEPT = 0.5
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class RiseMap:
    """How much a class depends on each pixel.

    Attributes:
        fall: float32 (h, w); mean score of the masks that kept the pixel less that of those that covered it.
        score: of the class, nothing covered.
        masks: tried.
    """

    fall: npt.NDArray[np.float32]
    score: float
    masks: int


def rise_mask(height: int, width: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One mask, float32 (h, w) in 0..1: `CELLS` x `CELLS` cells, each kept with the chance `KEPT`, enlarged linearly and
    moved at random by up to a cell, so that no edge stands at the same place twice (section 3.2 of the paper)."""
    cell_h, cell_w = math.ceil(height / CELLS), math.ceil(width / CELLS)
    cells = (rng.random((CELLS + 1, CELLS + 1)) < KEPT).astype(np.float32)
    large = cv2.resize(cells, ((CELLS + 1) * cell_w, (CELLS + 1) * cell_h), interpolation=cv2.INTER_LINEAR)
    y, x = int(rng.integers(cell_h)), int(rng.integers(cell_w))
    return np.asarray(large[y : y + height, x : x + width], np.float32)


def rise_map(vignette: Vignettes, score: Scores, class_position: int, *, masks: int = MASKS, seed: int = 0) -> RiseMap:
    """RISE, covered by the grey of the background instead of black.

    The paper gives the mean score of masks that keep a pixel; less that of masks that cover it, a model that looks at no
    pixel gives zeros, and the unit is that of `occlusion_map`: how far the score falls.

    Args:
        vignette: uint8 (h, w) or with channels.
        score: uint8 (n, h, w) vignettes -> (n, classes) scores; called first with the whole vignette, then with batches.
        class_position: column of the class that is asked about.
        masks: how many; the noise of the map falls with their square root.
        seed: the same seed gives the same masks.

    Raises:
        ValueError: a vignette without pixels, fewer than 2 masks, or scores that do not fit.
    """
    grey = to_grey(vignette)
    if grey.size == 0:
        raise ValueError("expected a vignette with pixels")
    if masks < 2:
        raise ValueError(f"expected 2 masks or more, got {masks}")
    height, width = grey.shape
    whole = float(own_scores(score, grey[None], class_position)[0])
    background, rng = np.float32(border_grey(grey)), np.random.default_rng(seed)
    away = grey.astype(np.float32) - background
    kept, covered = np.zeros((height, width)), np.zeros((height, width))
    kept_weight, covered_weight = np.zeros((height, width)), np.zeros((height, width))
    batch = batch_for(grey.size)
    for start in range(0, masks, batch):
        part = np.stack([rise_mask(height, width, rng) for _ in range(min(batch, masks - start))])
        tried = np.rint(background + part * away).astype(np.uint8)
        # less the score of the whole: a model blind to pixels gives exact zeros, and float noise stays small
        own = own_scores(score, tried, class_position) - whole
        kept += np.tensordot(own, part, 1)
        covered += np.tensordot(own, 1 - part, 1)
        kept_weight += part.sum(axis=0)
        covered_weight += (1 - part).sum(axis=0)
    fall = kept / np.maximum(kept_weight, LEAST_WEIGHT) - covered / np.maximum(covered_weight, LEAST_WEIGHT)
    return RiseMap(fall.astype(np.float32), whole, masks)
