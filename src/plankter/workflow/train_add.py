"""A class, or more images, added to a model later: from the statistics it keeps, without its old images."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.add_class import Recipe, joined, joined_reference, load_discriminant
from plankter.classify.calibrate import Calibration
from plankter.classify.decide import Thresholds
from plankter.classify.head import Head, load_head, save_head
from plankter.classify.lda import LinearFit, Statistics, gather, save_statistics
from plankter.classify.models import (
    BACKBONE_FILE,
    CARD_FILE,
    HEAD_FILE,
    MODEL_JSON,
    STATISTICS_FILE,
    load_model,
    read_model_json,
    thresholds_of,
    write_model_json,
)
from plankter.classify.novelty import Reference, load_reference
from plankter.classify.splits import Split
from plankter.publish.model_card import model_card
from plankter.taxa.classes import match_name
from plankter.types import Model
from plankter.workflow.context import images_context
from plankter.workflow.engine import load_engine
from plankter.workflow.mlflow_registry import log_training
from plankter.workflow.progress import Progress, silent
from plankter.workflow.train import Prepared, free_name, split_of
from plankter.workflow.training_data import TrainingImages, read_folder
from plankter.workflow.training_inputs import embed, usable
from plankter.workflow.training_run import TrainingRun, training_run
from plankter.workflow.training_seal import CARD_FIGURES, NOVEL_QUANTILE, figures
from plankter.workflow.workspace import Workspace, find_model, keep_model

Float32 = npt.NDArray[np.float32]
KEPT_PER_CLASS = 200  # new images of a class that the reference keeps
FORGOTTEN = 0.02  # share of old images taken for a new class from which on it is mentioned


@dataclass(frozen=True)
class _Joined:
    """The model before and after.

    Attributes:
        both: statistics of old and new images.
        old_head, head: without calibration of their own.
        reference, old_reference: of the novelty.
    """

    both: Statistics
    recipe: Recipe
    fit: LinearFit
    old_head: Head
    head: Head
    calibration: Calibration
    thresholds: Thresholds | None
    reference: Reference


def add_images(
    model: str,
    folder: Path,
    *,
    workspace: Workspace | None = None,
    table: Path | None = None,
    context: Path | None = None,
    out: Path | None = None,
    name: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """A new model that knows the classes of an old one and those of a folder; the old model stays as it is.

    The sums that the old model keeps (`Statistics`) and those of the new training images give the head that all images
    together would have given, at the shrinkage and scale that were chosen for the old one; its calibration and
    thresholds are kept, since its images are not there to fit them again. A new class takes the median threshold.

    Args:
        model: name, id or folder of a model of ``plankter train --mode head --head lda``.
        folder: holds one folder a class, of new classes or of such that the model knows.
        workspace: keeps the new model; None outside one.
        table: CSV of groups (and perhaps the split) beside ``folder``.
        context: CSV of context beside ``folder``, for a model that takes context.
        out: where the run folder is made, as for `train`.
        name: of the new model.
        seed: of the split of the new images.
        progress: told of every step.

    Returns:
        As `plankter.workflow.train.train`, with what was ``added``; ``evaluation`` is of new images only, which the
        statistics did not take in.

    Raises:
        PlankterError: no such model, one that keeps no statistics, no images, or context that does not fit.
    """
    started = time.monotonic()
    base = find_model(model, workspace)
    old, recipe = load_discriminant(base.folder)
    called = free_name(name, folder, "added", workspace)
    images = _new_images(base, folder, table, context, workspace, progress)
    engine = load_engine(base, workspace)
    values = images_context(images.context, engine.context, context)
    root = out or (workspace.folder if workspace else Path()) / "trainings"
    asked = {
        "added_to": base.model_id, "name": called, "images": images.data.digest, "seed": seed,
        "context": context.name if context else None, "groups": table.name if table else None,
    }  # fmt: skip
    with training_run(root, called, asked) as run:
        embeddings, failures = embed(engine, images, run.folder, progress)
        split = split_of(Prepared(images, base, engine, None), usable(images, failures), seed)
        run.write_split(images.data, split)
        run.write_curves(())
        found = _joined(base, old, recipe, embeddings, values, images, split)
        result = _finish(run, called, base, found, old, embeddings, values, images, split, workspace)
        result["seconds"] = round(time.monotonic() - started, 3)
        run.write_json("evaluation.json", result)
        run.log(f"added to {base.name} ({base.model_id}) in {result['seconds']:.1f} s")
    log_training(run.folder, name=called)
    return result


def _new_images(
    base: Model, folder: Path, table: Path | None, context: Path | None, workspace: Workspace | None, progress: Progress
) -> TrainingImages:
    """Images of a folder, one class is enough; classes called as the model calls them."""
    taxa = workspace.catalogue.taxa() if workspace else None
    images = read_folder(folder, table=table, context=context, taxa=taxa, fewest=1, progress=progress)
    return _named_as(base, images)


def _named_as(base: Model, images: TrainingImages) -> TrainingImages:
    """The same images, classes called as the model calls them where it knows them by another spelling."""
    found = tuple(match_name(c, base.class_ids) or c for c in images.data.class_ids)
    if len(set(found)) < len(found):
        found = images.data.class_ids
    aphia = {new: images.aphia_ids.get(was) for new, was in zip(found, images.data.class_ids, strict=True)}
    return replace(images, data=replace(images.data, class_ids=found), aphia_ids=aphia)


def _joined(
    base: Model, old: Statistics, recipe: Recipe, embeddings: Float32, values: npt.NDArray[np.float64] | None,
    images: TrainingImages, split: Split,
) -> _Joined:  # fmt: skip
    facts, old_head = read_model_json(base.folder), load_head(base.folder)
    encoder, columns = old_head.context, embeddings
    if encoder is not None:
        columns = np.concatenate([embeddings, encoder.features(values, len(embeddings))], axis=1)
    labels = images.data.labels
    both = joined(old, gather(columns[split.train], labels[split.train], images.data.class_ids))
    try:
        fit = recipe.head(both)
    except ValueError as error:
        raise ModelError(f"the head cannot be made: {error}", path=base.folder) from error
    calibration = _calibration(facts, len(both.class_ids))
    head = Head(
        fit.weight.astype(np.float16), fit.bias, calibration.temperature, context=encoder, class_bias=calibration.bias,
        smoothing=calibration.smoothing,
    )  # fmt: skip
    place = np.array([both.class_ids.index(c) for c in images.data.class_ids], np.int64)
    rows = _some_of_each(labels, split.train)
    before = load_reference(base.folder)
    reference = joined_reference(both, embeddings.shape[1], before, embeddings[rows], place[labels[rows]])
    thresholds = None
    if facts.get("thresholds") is not None:
        kept = thresholds_of(facts, base.folder / MODEL_JSON)
        thresholds = _thresholds(kept, both.class_ids, before, reference)
    return _Joined(both, recipe, fit, old_head, head, calibration, thresholds, reference)


def _calibration(facts: dict[str, Any], classes: int) -> Calibration:
    """That of the old model; a class that it did not know gets the mean bias."""
    kept = facts.get("calibration") or {"temperature": facts.get("temperature", 1.0)}
    bias = kept.get("bias")
    if bias is not None:
        bias = (*bias, *[round(float(np.mean(bias)), 5)] * (classes - len(bias)))
    known = {key: kept[key] for key in ("images", "on", "smoothing") if key in kept}
    return Calibration(float(kept["temperature"]), bias, **known)


def _thresholds(kept: Thresholds, class_ids: tuple[str, ...], before: Reference | None, after: Reference) -> Thresholds:
    """Those of the old classes; new ones take their median. The distance moves as that of the images kept of before."""
    middle = float(np.median(list(kept.by_class.values()))) if kept.by_class else None
    by_class = {c: kept.by_class.get(c, middle) for c in class_ids if c in kept.by_class or middle is not None}
    distance = kept.distance
    if distance is not None and before is not None and len(before.embeddings):
        sample = before.embeddings.astype(np.float32)
        was, now = (float(np.quantile(one.distance(sample), NOVEL_QUANTILE)) for one in (before, after))
        distance = round(distance * now / was, 4) if was > 0 else distance
    return Thresholds({c: float(t) for c, t in by_class.items() if t is not None}, kept.group, distance)


def _some_of_each(labels: npt.NDArray[np.int64], train: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Training rows, at most `KEPT_PER_CLASS` of a class, evenly through their order."""
    found = []
    for c in np.unique(labels[train]):
        mine = train[labels[train] == c]
        found.append(mine[:: -(-len(mine) // KEPT_PER_CLASS)])
    return np.sort(np.concatenate(found))


def _old_images(found: _Joined, old: Statistics, before: Reference | None) -> dict[str, Any] | None:
    """How the old and the new head name the images that the old model keeps a sample of; it has learnt from them."""
    if before is None or not len(before.embeddings):
        return None
    sample, truth = before.embeddings.astype(np.float32), before.labels.astype(np.int64)
    was, now = (head.scores(sample).argmax(axis=1) for head in (found.old_head, found.head))
    return {
        "images": len(truth),
        "right_before": round(float((was == truth).mean()), 5),
        "right_after": round(float((now == truth).mean()), 5),
        "taken_for_new": round(float((now >= len(old.class_ids)).mean()), 5),
    }


def _finish(
    run: TrainingRun, name: str, base: Model, found: _Joined, old: Statistics, embeddings: Float32,
    values: npt.NDArray[np.float64] | None, images: TrainingImages, split: Split, workspace: Workspace | None,
) -> dict[str, Any]:  # fmt: skip
    ids, mine = found.both.class_ids, images.data.class_ids
    place = np.array([ids.index(c) for c in mine], np.int64)
    rows = np.concatenate([split.tune, split.judge])
    warnings = [*images.warnings, *split.warnings, *_said(base, found, old)]
    metrics: dict[str, float | int | None] = {"images": 0, "classes": 0}
    per_class: list[dict[str, Any]] = []
    confusion: list[list[int]] = []
    if len(rows):
        scores = found.head.scores(embeddings[rows], None if values is None else values[rows])
        metrics, per_class, confusion, doubts = figures(place[images.data.labels[rows]], scores, ids)
        warnings += doubts
    kept = _old_images(found, old, load_reference(base.folder))
    if kept and kept["taken_for_new"] > FORGOTTEN:
        warnings.append(
            f"{100 * kept['taken_for_new']:.1f} % of the old images that are kept are now taken for a new class"
        )
    new = [c for c in mine if c not in old.class_ids]
    added = {
        "base": base.model_id, "classes": new, "more_of": [c for c in mine if c in old.class_ids],
        "images": len(split.train), "old_images": round(float(old.counts.sum())), "old_sample": kept,
    }  # fmt: skip
    model = _seal(run, name, base, found, images, split, metrics, per_class, warnings)
    if workspace is not None:
        keep_model(workspace, model)
    for text in warnings:
        run.log(f"warning: {text}")
    return {
        "model_id": model.model_id, "name": name, "mode": "head", "classes": len(ids),
        "images": sum(len(part) for part in split.parts().values()), "seconds": 0.0, "evaluation": metrics,
        "per_class": per_class, "confusion": confusion, "setting": f"lda, {found.fit.setting}",
        "balance": {"method": "loss" if found.recipe.balanced else "none", "reason": "as in the old model"},
        "split": {**{part: len(rows) for part, rows in split.parts().items()}, "grouped_by": split.grouped_by},
        "aphia_ids": _aphia(base, images), "added": added, "warnings": warnings, "problems": images.problems.listed(),
        "folder": str(run.folder), "model": str(run.model_folder), "resumed": run.resumed, "facts": {},
    }  # fmt: skip


def _said(base: Model, found: _Joined, old: Statistics) -> list[str]:
    new = len(found.both.class_ids) - len(old.class_ids)
    texts = [
        f"the figures are of the new images; how the {len(old.class_ids)} old classes do now, "
        "`plankter evaluate` tells on images of all classes",
        f"calibration and thresholds are those of {base.name}",
    ]
    if new and found.thresholds is not None and found.thresholds.by_class:
        texts.append(f"the new class{'es take' if new > 1 else ' takes'} the median threshold of the old ones")
    return texts


def _aphia(base: Model, images: TrainingImages) -> dict[str, int | None]:
    known = base.card.get("aphia_ids")
    return {**(known if isinstance(known, dict) else {}), **images.aphia_ids}


def _seal(
    run: TrainingRun, name: str, base: Model, found: _Joined, images: TrainingImages, split: Split,
    metrics: dict[str, float | int | None], per_class: list[dict[str, Any]], warnings: list[str],
) -> Model:  # fmt: skip
    folder, ids = run.model_folder, found.both.class_ids
    shutil.rmtree(folder, ignore_errors=True)  # what a killed training left
    folder.mkdir()
    shutil.copyfile(base.folder / BACKBONE_FILE, folder / BACKBONE_FILE)
    save_head(folder / HEAD_FILE, found.fit.weight, found.fit.bias, found.head.context)
    save_statistics(folder / STATISTICS_FILE, found.both)
    found.reference.save(folder)
    old_facts, data = read_model_json(base.folder), images.data
    aphia, quality = _aphia(base, images), {q["class_id"]: q for q in per_class}
    parts = {
        part: {
            data.class_ids[k]: int(n)
            for k, n in enumerate(np.bincount(data.labels[rows], minlength=len(data.class_ids)))
        }
        for part, rows in split.parts().items()
    }
    before = old_facts.get("training_class_counts") or {}
    counts = {c: int(before.get(c, 0)) + parts["train"].get(c, 0) for c in ids}
    made = datetime.now(UTC).strftime("%Y-%m-%d")
    facts = {
        "made": made,
        "learnt from": f"the statistics of {base.name} ({base.model_id}) and {len(split.train):,} images of {images.source}, "
        f"digest {data.digest}",
        "mode": f"head; lda, {found.fit.setting}",
        "network": f"{base.backbone}, {base.input_px} px",
        "licence": "that of the images; not stated here",
    }
    listed = [
        {
            "class_id": c, "aphia_id": aphia.get(c), "train": counts[c],
            **{part: parts[part].get(c, 0) for part in ("tune", "judge")},
            **{key: quality.get(c, {}).get(key) for key in CARD_FIGURES},
        }
        for c in ids
    ]  # fmt: skip
    text = model_card(name, facts, metrics, listed, warnings=warnings, problems=images.problems.listed())
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    card = {
        "source": "trained here", "added_to": base.model_id, "data": images.source, "training_set": data.digest, "made": made,
        "mode": "head", "setting": f"lda, {found.fit.setting}", "grouped_by": split.grouped_by, "metrics": metrics,
        "aphia_ids": aphia, "warnings": warnings,
    }  # fmt: skip
    write_model_json(
        folder, name=name, backbone_name=base.backbone, dim=found.head.dim, input_px=base.input_px, class_ids=ids,
        class_counts=tuple(counts.values()), temperature=1.0, card=card,
        inputs=old_facts.get("inputs") or None, calibration=found.calibration, thresholds=found.thresholds,
        threshold_target=(old_facts.get("thresholds") or {}).get("target"), discriminant=asdict(found.recipe),
    )  # fmt: skip
    return load_model(folder)
