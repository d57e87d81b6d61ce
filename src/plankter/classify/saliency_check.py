"""Whether a saliency map tells the truth about its model: deletion and insertion (Petsiuk, Das & Saenko 2018, BMVC)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from plankter.classify.saliency import Scores, Vignettes, own_scores
from plankter.vignettes.letterbox import border_grey, to_grey

STEPS = 16
RANDOM_MAPS = 5
RANDOM_CELLS = 8


@dataclass(frozen=True)
class ErasureCheck:
    """Mean score of the class while pixels are covered (deletion) or uncovered (insertion) in the order of the map.

    Attributes:
        deletion: the lower the better the map: the score falls early.
        insertion: the higher the better.
        random_deletion, random_insertion: means over random smooth maps, what a map that knows nothing reaches.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def better_than_random(self) -> bool:
        """Whether the map does better than random ones both ways together."""
        return self.insertion - self.deletion > self.random_insertion - self.random_deletion


def erasure_check(
    vignette: Vignettes,
    score: Scores,
    class_position: int,
    fall: npt.NDArray[np.floating],
    *,
    steps: int = STEPS,
    random_maps: int = RANDOM_MAPS,
    seed: int = 0,
) -> ErasureCheck:
    """Covers and uncovers a vignette in the order of a map and of random maps, with the grey of the background.

    Args:
        vignette: uint8 (h, w) or with channels.
        score: uint8 (n, h, w) vignettes -> (n, classes) scores.
        class_position: column of the class that the map is about.
        fall: (h, w), the map; the largest value goes first.
        steps: equal shares of the pixels that are covered one after the other.
        random_maps: noise of about eight cells a side, as smooth as maps are, so that single pixels do not decide.
        seed: of the random maps.

    Raises:
        ValueError: a map of another size, or scores that do not fit.
    """
    grey = to_grey(vignette)
    if fall.shape != grey.shape:
        raise ValueError(f"the map {fall.shape} does not fit the vignette {grey.shape}")
    rng, (height, width) = np.random.default_rng(seed), grey.shape
    noise: list[npt.NDArray[np.floating]] = [
        np.asarray(
            cv2.resize(rng.normal(size=(RANDOM_CELLS, RANDOM_CELLS)), (width, height), interpolation=cv2.INTER_CUBIC),
            np.float64,
        )
        for _ in range(random_maps)
    ]
    own = _areas(grey, score, class_position, fall, steps)
    others = np.mean([_areas(grey, score, class_position, one, steps) for one in noise], axis=0)
    return ErasureCheck(*own, float(others[0]), float(others[1]))


def _areas(
    grey: Vignettes, score: Scores, position: int, order_by: npt.NDArray[np.floating], steps: int
) -> tuple[float, float]:
    background = border_grey(grey)
    order = np.argsort(-order_by.ravel(), kind="stable")
    ends = np.rint(np.linspace(0, len(order), steps + 1)).astype(np.int64)
    deleted = np.repeat(grey.reshape(1, -1), steps + 1, axis=0)
    inserted = np.full_like(deleted, background)
    for row, end in enumerate(ends.tolist()):
        deleted[row, order[:end]] = background
        inserted[row, order[:end]] = grey.ravel()[order[:end]]
    both = own_scores(score, np.concatenate([deleted, inserted]).reshape(-1, *grey.shape), position)
    first, second = both[: steps + 1], both[steps + 1 :]
    return float((first[:-1] + first[1:]).mean() / 2), float((second[:-1] + second[1:]).mean() / 2)
