"""Which part of a vignette speaks for a class: cover it piece by piece and see how far the score falls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter.vignettes.letterbox import border_grey, to_grey

Vignettes = npt.NDArray[np.uint8]
Scores = Callable[[Vignettes], npt.NDArray[np.floating]]
STEPS_PER_PATCH = 3
PATCHES_PER_SIDE = 5
SMALLEST_PATCH_PX = 4
LARGEST_BATCH = 64
BATCH_BYTES = 64_000_000


@dataclass(frozen=True)
class OcclusionMap:
    """How much a class depends on each pixel.

    Attributes:
        fall: float32 (h, w); mean fall of the score over the patches that covered the pixel. Below 0 where the score rises
            when the pixel is covered: what stands there speaks for another class.
        score: of the class, nothing covered.
        patch_px: side of the patch.
        covered: patches tried.
    """

    fall: npt.NDArray[np.float32]
    score: float
    patch_px: int
    covered: int


def patch_starts(length: int, patch: int, step: int) -> list[int]:
    """Where patches begin along one side, so that every pixel is covered and the last one ends at the border."""
    last = max(0, length - patch)
    return sorted({*range(0, last, step), last})


def occlusion_map(
    vignette: Vignettes, score: Scores, class_position: int, *, patch_px: int | None = None
) -> OcclusionMap:
    """Occlusion sensitivity (Zeiler and Fergus 2014, ECCV, section 4.2), the patch in the grey of the background.

    It needs nothing of the model but its scores, so it holds for every kind of model.

    Args:
        vignette: uint8 (h, w) or with channels.
        score: uint8 (n, h, w) vignettes -> (n, classes) scores; called first with the whole vignette, then with batches of covered ones.
        class_position: column of the class that is asked about.
        patch_px: side of the patch; None takes a fifth of the longer side. A third of it is the step.

    Raises:
        ValueError: a vignette without pixels, a patch below 1 px, or scores that do not fit.
    """
    grey = to_grey(vignette)
    if grey.size == 0:
        raise ValueError("expected a vignette with pixels")
    height, width = grey.shape
    patch = max(SMALLEST_PATCH_PX, round(max(height, width) / PATCHES_PER_SIDE)) if patch_px is None else patch_px
    if patch < 1:
        raise ValueError(f"expected a patch of 1 px or more, got {patch}")
    step = max(1, patch // STEPS_PER_PATCH)
    places = [(y, x) for y in patch_starts(height, patch, step) for x in patch_starts(width, patch, step)]
    whole = own_scores(score, grey[None], class_position)[0]
    background = border_grey(grey)
    sums, times = np.zeros((height, width)), np.zeros((height, width))
    batch = batch_for(grey.size)
    for start in range(0, len(places), batch):
        part = places[start : start + batch]
        tried = np.repeat(grey[None], len(part), axis=0)
        for k, (y, x) in enumerate(part):
            tried[k, y : y + patch, x : x + patch] = background
        for own, (y, x) in zip(own_scores(score, tried, class_position), part, strict=True):
            sums[y : y + patch, x : x + patch] += whole - own
            times[y : y + patch, x : x + patch] += 1
    return OcclusionMap((sums / times).astype(np.float32), float(whole), patch, len(places))


def batch_for(pixels: int) -> int:
    """How many vignettes of so many pixels are tried at once."""
    return int(np.clip(BATCH_BYTES // max(pixels, 1), 1, LARGEST_BATCH))


def own_scores(score: Scores, tried: Vignettes, position: int) -> npt.NDArray[np.float64]:
    """The scores (n,) of one class.

    Raises:
        ValueError: scores of another shape than (n, classes), or no such class.
    """
    scores = np.asarray(score(tried), np.float64)
    if scores.ndim != 2 or len(scores) != len(tried) or not 0 <= position < scores.shape[1]:
        raise ValueError(f"scores {scores.shape} do not fit {len(tried)} vignettes and class {position}")
    return np.asarray(scores[:, position])
