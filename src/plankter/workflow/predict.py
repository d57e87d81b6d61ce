"""Predictions for folders of images, no workspace needed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ReadError, SettingsError
from plankter.classify.stream import StreamResult
from plankter.publish.predictions import check_predictions_path, write_predictions
from plankter.taxa.classes import shipped_class_list
from plankter.workflow.context import table_context
from plankter.workflow.engine import Engine, load_engine, read_files
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace, find_model

log = logging.getLogger(__name__)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


def image_files(folder: Path) -> list[Path]:
    """All images below a folder, sorted; links that leave it are not followed.

    Raises:
        ReadError: no such folder, or no image in it.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ReadError("expected a folder of images", path=folder)
    files = []
    for base, folders, names in os.walk(folder):
        folders.sort()
        written = "manifest.csv" in names  # by `plankter transform`, whose picture of the set is no image of it
        files += [
            Path(base) / name
            for name in sorted(names)
            if name.lower().endswith(IMAGE_SUFFIXES) and not (written and name == "preview.png")
        ]
    if not files:
        raise ReadError(f"no images found; expected {', '.join(IMAGE_SUFFIXES)}", path=folder)
    return files


def context_for(engine: Engine, table: Path | None, names: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """What a table says of images for a model that takes context; None without a table.

    Raises:
        ReadError: the table. SettingsError: the model takes no context, or a column is missing.
    """
    if table is None:
        if engine.context:
            log.warning(
                "model %s takes context (%s) and was given none: it is missing for all images",
                engine.model.name, ", ".join(engine.context),
            )  # fmt: skip
        return None
    if not engine.context:
        hint = "leave the context out, or name a model that was trained with --context"
        raise SettingsError(f"model {engine.model.name} takes no context", path=table, hint=hint)
    return table_context(table, names, engine.context)


def predict_files(
    engine: Engine,
    files: Sequence[Path],
    k: int,
    progress: Progress,
    context: npt.NDArray[np.floating] | None = None,
) -> tuple[StreamResult, dict[int, str], float]:
    """Predictions of images in files, the reasons of those that failed by their number, and the seconds it took.

    ``context``: (n, columns) in the order of ``engine.context``, NaN where missing.
    """
    started = time.monotonic()
    unread: dict[int, str] = {}
    result = engine.run(
        read_files(files, unread), len(files), k=k, keep_embeddings=False, context=context,
        progress=lambda done, total: progress("images", done, total),
    )  # fmt: skip
    seconds = time.monotonic() - started
    failures = {**unread, **result.failures}
    for number, reason in sorted(failures.items()):
        log.warning("%s: %s", files[number], reason)
    return result, failures, seconds


def predict(
    images: Path,
    out: Path,
    *,
    model: str = "flowcam",
    workspace: Workspace | None = None,
    precision: str = "auto",
    class_mix: str | None = None,
    context: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The five best classes of every image below ``images``, written to ``out`` (CSV or Parquet by its ending).

    ``context``: CSV with ``file`` and the columns that the model was trained with, for a model that takes context.

    Returns:
        The object that ``plankter predict --json`` prints.

    Raises:
        ReadError: no images. NotFound, ModelError: the model. SettingsError: the context. An unreadable image is a row with a failure.
    """
    check_predictions_path(out)
    chosen = find_model(model, workspace)
    files = image_files(images)
    engine = load_engine(chosen, workspace, precision=precision, class_mix=class_mix)
    names = [path.relative_to(images).as_posix() if path != images else path.name for path in files]
    known = context_for(engine, context, names)
    result, failures, seconds = predict_files(engine, files, 5, progress, known)
    k = result.best.shape[1]
    best = np.full((len(files), 5), -1, np.int16)
    scores = np.full((len(files), 5), np.nan, np.float32)
    best[result.index, :k], scores[result.index, :k] = result.best, result.scores
    words = [("", "")] * len(files)
    for number, outcome, reason in zip(
        result.index.tolist(), result.outcome.tolist(), result.reason.tolist(), strict=True
    ):
        words[number] = engine.predictor.words(outcome, reason)
    taxa = {taxon.class_id: taxon for taxon in (workspace.catalogue.taxa() if workspace else shipped_class_list())}
    write_predictions(
        out,
        names,
        chosen.class_ids,
        {c: taxa[c].name if c in taxa else c for c in chosen.class_ids},
        {c: taxa[c].aphia_id if c in taxa else None for c in chosen.class_ids},
        best,
        scores,
        [decision for decision, _ in words],
        [reason for _, reason in words],
        [failures.get(number) for number in range(len(files))],
    )
    return {
        "model_id": chosen.model_id,
        "precision": engine.backbone.precision,
        "files": len(files),
        "predicted": len(result.index),
        "failures": len(failures),
        "out": str(out),
        "seconds": round(seconds, 3),
        "images_per_s": round(len(files) / max(seconds, 1e-9), 1),
    }
