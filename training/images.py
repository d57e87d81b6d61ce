"""Unpacked class folders -> one cached array of letterboxed vignettes with sizes and labels."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from plankter.vignettes.letterbox import letterbox


def validation_names(dated_csv: Path) -> set[str]:
    """Files of the dated archive that belong to the published validation split: never train on them."""
    with dated_csv.open(newline="", encoding="utf-8") as file:
        return {row["file"] for row in csv.DictReader(file) if row["split"] != "train"}


def read_class_folders(
    folders: list[Path], classes: list[str], size_px: int, cache: Path, leave_out: set[str]
) -> dict[str, np.ndarray]:
    """Letterbox every image below ``folders/CLASS/``; kept in ``cache`` (npz) for the next start."""
    if cache.exists():
        with np.load(cache) as kept:
            return {k: kept[k] for k in kept.files}
    files = [
        (path, label)
        for folder in folders
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir())
        if path.name not in leave_out
    ]
    pixels = np.zeros((len(files), size_px, size_px), np.uint8)
    sizes = np.zeros((len(files), 2), np.float32)
    unreadable: list[int] = []

    def one(i: int) -> None:
        image = cv2.imread(str(files[i][0]), cv2.IMREAD_GRAYSCALE)
        if image is None:
            unreadable.append(i)
            return
        pixels[i] = letterbox(image, size_px)
        sizes[i] = image.shape[1], image.shape[0]

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(one, range(len(files)), chunksize=256):
            pass
    keep = np.setdiff1d(np.arange(len(files)), unreadable)
    data = {
        "pixels": pixels[keep],
        "sizes": sizes[keep],
        "labels": np.array([label for _, label in files], np.int64)[keep],
        "names": np.array([path.name for path, _ in files])[keep],
    }
    print(f"{len(keep)} images, {len(unreadable)} unreadable", flush=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **data)
    return data
