"""Embeddings for bench_drift.py: training images, unseen images, the same images altered, another instrument's."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from plankter.classify.evaluate import folder_classes
from plankter.features.backbones import OpenVinoBackbone
from plankter.types import ImageArray
from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import letterbox, size_inputs
from plankter.workflow.predict import image_files
from plankter.workflow.workspace import find_model

Change = Callable[[ImageArray], ImageArray]
FloatArray = npt.NDArray[np.float32]


def _inverted(image: ImageArray) -> ImageArray:
    return np.asarray(255 - image, np.uint8)


def _blurred(image: ImageArray) -> ImageArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8)


def _very_blurred(image: ImageArray) -> ImageArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 4.0), np.uint8)


def _very_flat(image: ImageArray) -> ImageArray:
    return np.asarray(np.clip(0.2 * (image.astype(np.float32) - 200) + 200, 0, 255), np.uint8)


def _flat(image: ImageArray) -> ImageArray:
    """Contrast down to 60 % around the middle of a bright background."""
    return np.asarray(np.clip(0.6 * (image.astype(np.float32) - 200) + 200, 0, 255), np.uint8)


def _darker(image: ImageArray) -> ImageArray:
    """A lamp that gives 10 % less light: mild."""
    return np.asarray(0.9 * image.astype(np.float32), np.uint8)


def _zoomed(image: ImageArray) -> ImageArray:
    """Another objective: 1.5 times as many pixels a micrometre."""
    return np.asarray(cv2.resize(image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), np.uint8)


CHANGES: dict[str, Change] = {
    "inverted": _inverted,
    "blurred, 4 px": _very_blurred,
    "contrast 20 %": _very_flat,
    "blurred, 1.5 px": _blurred,
    "contrast 60 %": _flat,
    "light -10 %": _darker,
    "zoom 1.5": _zoomed,
}


def embed(files: Sequence[Path], backbone: OpenVinoBackbone, change: Change | None = None) -> FloatArray:
    """Embeddings of image files, optionally of the altered images."""
    out = []
    for start in range(0, len(files), 512):
        images = [decode_image(path.read_bytes(), grey=True) for path in files[start : start + 512]]
        images = [change(image) for image in images] if change else images
        pixels = np.stack([letterbox(image, backbone.input_px) for image in images])
        sizes = size_inputs([i.shape[1] for i in images], [i.shape[0] for i in images])
        out.append(backbone.embed(pixels, sizes))
    return np.concatenate(out)


def _files(
    folder: Path, class_ids: Sequence[str], per_class: int, seed: int
) -> tuple[list[Path], npt.NDArray[np.int64]]:
    matched, _ = folder_classes(folder, class_ids)
    rng = np.random.default_rng(seed)
    files: list[Path] = []
    labels: list[int] = []
    for name, class_id in sorted(matched.items()):
        found = image_files(folder / name)
        chosen = rng.permutation(len(found))[:per_class]
        files += [found[k] for k in chosen]
        labels += [class_ids.index(class_id)] * len(chosen)
    return files, np.array(labels)


def collect(train: Path, val: Path, dated: Path, other: Path, cache: Path) -> None:
    """Embeds everything once into ``cache`` (npz)."""
    model = find_model("flowcam")
    backbone = OpenVinoBackbone(model.folder / "backbone.onnx")
    kept: dict[str, npt.NDArray[np.generic]] = {}
    files, kept["train_labels"] = _files(train, model.class_ids, 60, 1)
    kept["train"] = embed(files, backbone).astype(np.float16)
    files, kept["val_labels"] = _files(val, model.class_ids, 100_000, 2)
    kept["val"] = embed(files, backbone).astype(np.float16)
    rows = np.sort(np.random.default_rng(3).permutation(len(files))[:2500])
    kept["changed_rows"] = rows
    for name, change in CHANGES.items():
        kept[f"changed {name}"] = embed([files[k] for k in rows], backbone, change).astype(np.float16)
    kept["other"] = embed(image_files(other), backbone).astype(np.float16)
    dates = {}
    with dated.with_suffix(".csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            dates[row["class"], row["file"]] = (row["split"], row["date"])
    files, labels = _files(dated, model.class_ids, 100_000, 4)
    marks = [dates.get((path.parent.name, path.name), ("", "")) for path in files]
    kept["dated"], kept["dated_labels"] = embed(files, backbone).astype(np.float16), labels
    kept["dated_split"], kept["dated_date"] = np.array([m[0] for m in marks]), np.array([m[1] for m in marks])
    np.savez(cache, **kept)
