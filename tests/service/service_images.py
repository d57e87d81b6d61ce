"""Made-up images for tests of the service."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np


def png(seed: int, side: int = 48) -> bytes:
    """A grey picture of a dark disk, as PNG."""
    image = np.full((side, side), 200, np.uint8)
    rng = np.random.default_rng(seed)
    cv2.circle(image, (side // 2, side // 2), int(rng.integers(6, side // 2 - 2)), int(rng.integers(0, 90)), -1)
    return bytes(cv2.imencode(".png", image)[1])


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def write_set(folder: Path, *, classes: int, images: int) -> Path:
    """A folder of images a class, the classes of different size."""
    for label in range(classes):
        (folder / f"class_{label}").mkdir(parents=True)
        for number in range(images):
            data = png(1000 * label + number, side=40 + 24 * label)
            (folder / f"class_{label}" / f"{number}.png").write_bytes(data)
    return folder
