"""Drawn shapes as a training set, and a model of a tiny network to train on: the flagship takes seconds each time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from plankter.classify.head import save_head
from plankter.classify.models import write_model_json

SHAPES = ("disc", "rod", "star")
TINY = Path(__file__).with_name("tiny_backbone.onnx")  # by make_tiny_backbone.py


def drawn(shape: str, seed: int) -> np.ndarray:
    """A grey vignette of one shape, another one for each seed."""
    rng = np.random.default_rng((seed, len(shape)))
    image = np.full((44 + seed % 5, 50), 200, np.uint8)
    image += rng.integers(0, 8, image.shape, np.uint8)
    centre = (25 + int(rng.integers(-3, 4)), 22)
    if shape == "disc":
        cv2.circle(image, centre, int(rng.integers(9, 15)), 60, -1)
    elif shape == "rod":
        cv2.line(image, (6, 10 + seed % 9), (44, 30 - seed % 9), 70, 3)
    else:
        for angle in np.linspace(0, 2 * np.pi, 7)[:-1] + seed:
            tip = (int(25 + 18 * np.cos(angle)), int(22 + 18 * np.sin(angle)))
            cv2.line(image, (25, 22), tip, 90, 1)
    return image


def write_shapes(root: Path, shapes: Sequence[str], seeds: Sequence[int]) -> Path:
    """One folder a shape below ``root``, one image a seed."""
    for shape in shapes:
        (root / shape).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            cv2.imwrite(str(root / shape / f"{shape}{seed}.png"), drawn(shape, seed))
    return root


def tiny_model(folder: Path) -> str:
    """A model of `TINY` with a head that knows nothing, in ``folder``."""
    shutil.copy(TINY, folder / "backbone.onnx")
    save_head(folder / "head.npz", np.zeros((35, 2)), np.zeros(2))
    write_model_json(
        folder, name="tiny", backbone_name="tiny", dim=35, input_px=32, class_ids=("a", "b"), class_counts=(1, 1),
        temperature=1.0, card={},
    )  # fmt: skip
    return str(folder)
