"""Which part of a vignette speaks for a class, read from the network: class activation maps."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from plankter.vignettes.letterbox import Fit


def activation_map(
    last_map: npt.NDArray[np.floating], weight: npt.NDArray[np.floating], class_position: int
) -> npt.NDArray[np.float32]:
    """Class activation map (Zhou et al. 2016, CVPR): the share of each place in a class's logit.

    Where the last map is averaged and a linear head follows, this is Grad-CAM (Selvaraju et al. 2017, ICCV) without its
    final cut at zero: the gradient of the logit is the head's weight. The mean weight over the classes is taken off,
    since what raises all logits alike changes no score; the mean of the map is then the image's part of the logit.

    Args:
        last_map: (features, h, w).
        weight: (features, classes) of the head.
        class_position: column of the class that is asked about.

    Raises:
        ValueError: shapes that do not fit.
    """
    if last_map.ndim != 3 or weight.ndim != 2 or len(last_map) != len(weight):
        raise ValueError(f"the map {last_map.shape} does not fit the weights {weight.shape}")
    if not 0 <= class_position < weight.shape[1]:
        raise ValueError(f"class {class_position} is none of {weight.shape[1]}")
    own = weight[:, class_position] - weight.mean(axis=1)
    return np.tensordot(own.astype(np.float64), last_map.astype(np.float64), 1).astype(np.float32)


def on_vignette(square: npt.NDArray[np.float32], fit: Fit, height: int, width: int) -> npt.NDArray[np.float32]:
    """A map of the letterboxed square, (h, w) of any size, -> float32 (height, width) of the vignette in it.

    ``fit``: where the vignette stands in the square, by `letterbox_fit`.
    """
    full = cv2.resize(square, (fit.side, fit.side), interpolation=cv2.INTER_LINEAR)
    inner = np.ascontiguousarray(full[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width])
    return np.asarray(cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
