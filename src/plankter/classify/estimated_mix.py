"""The class mix of a run estimated from the run itself, without labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plankter.classify.calibrate import adjust_mix, shares

PSEUDO_IMAGES = 20.0


def estimate_mix(
    scores: npt.NDArray[np.floating], training: npt.ArrayLike, *, pseudo_images: float = PSEUDO_IMAGES
) -> npt.NDArray[np.float64]:
    """Expected shares of the classes among images that belong together, such as those of one run.

    Classify and count (Forman 2008, Data Min. Knowl. Discov. 17:164), with ``pseudo_images`` dealt by the training shares so that no
    class becomes impossible. Counting best classes instead of adding up scores keeps classes that have a little of every
    image's score from growing: the sums of Saerens et al. 2002 did so with 88 classes (``docs/unseen_dates.md``).

    Args:
        scores: float (n, classes), calibrated under the training mix.
        training: (classes,) shares or counts of the training images.
        pseudo_images: weight of the training shares, in images.

    Returns:
        (classes,) shares, none of them 0.

    Raises:
        ValueError: training shares that are negative, all 0, or do not fit the classes.
    """
    prior = shares(training, scores.shape[1])
    counted = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
    return shares(counted + pseudo_images * prior, scores.shape[1])


def under_own_mix(scores: npt.NDArray[np.floating], training: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """float (n, classes) scores under the training mix -> under the mix that `estimate_mix` finds in them."""
    return adjust_mix(scores, training, estimate_mix(scores, training))
