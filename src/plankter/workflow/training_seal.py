"""From fitted logits to a sealed model: calibrated on the tuning part, judged once on the judging part."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter.classify.calibrate import Calibration, fit_calibration, fit_thresholds
from plankter.classify.decide import Thresholds
from plankter.classify.evaluate import evaluate_predictions
from plankter.classify.head import softmax
from plankter.classify.models import CARD_FILE, load_model, write_model_json
from plankter.classify.novelty import fit_reference
from plankter.classify.resampling import class_intervals
from plankter.classify.splits import Split
from plankter.classify.training_set import TrainingSet
from plankter.publish.model_card import model_card
from plankter.types import Model
from plankter.workflow.training_data import TrainingImages
from plankter.workflow.training_fit import Fitted
from plankter.workflow.training_run import TrainingRun

CARD_FIGURES = tuple(f"{name}{end}" for name in ("precision", "recall", "f1") for end in ("", "_interval"))
METRICS = ("top1", "top3", "top5", "macro_f1", "weighted_f1", "balanced_accuracy", "log_loss", "ece")
FEWEST_TO_CALIBRATE = 10
FEWEST_FOR_THRESHOLDS = 200  # below, a threshold of a class would hang on a handful of images
FEWEST_OF_CLASS = 10
TARGET_PRECISION = 0.9
NOVEL_QUANTILE = 0.99
UNCERTAIN = 0.05  # half the width of the 95 % interval of top-1 from which on it is mentioned


@dataclass(frozen=True)
class Judged:
    """Calibration and thresholds from the tuning part, figures from the judging part."""

    calibration: Calibration
    thresholds: dict[str, float] | None
    metrics: dict[str, float | int | None]
    per_class: list[dict[str, Any]]
    confusion: list[list[int]]
    warnings: tuple[str, ...]


def judge(fitted: Fitted, data: TrainingSet, split: Split) -> Judged:
    """Calibrates on the tuning part and judges on the judging part; neither has met a weight."""
    labels, tune, warnings = data.labels, split.tune, []
    calibration = Calibration(1.0, None, 0, "not calibrated")
    if len(tune) >= FEWEST_TO_CALIBRATE:
        calibration = fit_calibration(
            fitted.logits[tune], labels[tune], on="the tuning part", smoothing=fitted.smoothing
        )
    else:
        warnings.append(f"{len(tune)} images to tune on are too few to calibrate: scores are not probabilities")
    thresholds = None
    if len(tune) >= FEWEST_FOR_THRESHOLDS:
        scores = _scores(fitted.logits[tune], calibration)
        thresholds = _thresholds(scores, labels[tune], data.class_ids)
    else:
        warnings.append(
            f"{len(tune)} images to tune on are too few for thresholds: the highest score decides, nothing is unknown"
        )
    rows = split.judge
    if len(rows) == 0:
        return Judged(calibration, thresholds, {"images": 0, "classes": 0}, [], [], tuple(warnings))
    metrics, per_class, confusion, uncertain = figures(
        labels[rows], _scores(fitted.logits[rows], calibration), data.class_ids
    )
    return Judged(calibration, thresholds, metrics, per_class, confusion, tuple(warnings + uncertain))


def figures(
    labels: npt.NDArray[np.int64], scores: npt.NDArray[np.floating], class_ids: tuple[str, ...]
) -> tuple[dict[str, float | int | None], list[dict[str, Any]], list[list[int]], list[str]]:
    """Metrics, quality of each class and confusion matrix of images that were held back, and what to doubt of them."""
    found, warnings = evaluate_predictions(labels, scores, class_ids), []
    spread = 1.96 * math.sqrt((found.top1 * (1 - found.top1) + 1 / len(labels)) / len(labels))
    if spread > UNCERTAIN:
        warnings.append(
            f"judged by {len(labels)} images only: top-1 is known to about {100 * spread:.0f} points either way"
        )
    metrics: dict[str, float | int | None] = {"images": found.images, "classes": found.classes}
    metrics |= {name: round(float(getattr(found, name)), 5) for name in METRICS}
    intervals = class_intervals(labels, scores.argmax(axis=1), len(class_ids))
    per_class = [
        {
            "class_id": q.class_id, "precision": _number(q.precision), "recall": _number(q.recall), "f1": _number(q.f1),
            "support": q.support, "predicted": q.predicted,
            **{name: [round(end, 4) for end in ends] for name, ends in around.items()},
        }
        for q, around in zip(found.per_class, intervals, strict=True)
    ]  # fmt: skip
    return metrics, per_class, found.confusion.tolist(), warnings


def _scores(logits: npt.NDArray[np.floating], calibration: Calibration) -> npt.NDArray[np.float32]:
    return softmax(calibration.apply(logits).astype(np.float32))


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _thresholds(
    scores: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], class_ids: tuple[str, ...]
) -> dict[str, float]:
    """Those of each class; a class that was predicted too seldom takes the one that holds for all images together."""
    found = fit_thresholds(scores, labels, class_ids, target_precision=TARGET_PRECISION)
    predicted = scores.argmax(axis=1)
    right = (predicted != labels).astype(np.int64)  # one class "right", one "wrong"
    top = scores.max(axis=1)
    both = np.stack([top, np.zeros_like(top)], axis=1)
    overall = fit_thresholds(both, right, ("right", "wrong"), target_precision=TARGET_PRECISION)["right"]
    seldom = np.bincount(predicted, minlength=len(class_ids)) < FEWEST_OF_CLASS
    return {c: min(overall, 1.0) if seldom[number] else found[c] for number, c in enumerate(class_ids)}


def seal(
    run: TrainingRun,
    name: str,
    fitted: Fitted,
    images: TrainingImages,
    split: Split,
    judged: Judged,
    *,
    mode: str,
    base: Model,
    seed: int,
    warnings: list[str],
) -> Model:
    """Writes the model's folder: network, head, reference, card, and ``model.json`` last."""
    folder, data = run.model_folder, images.data
    shutil.rmtree(folder, ignore_errors=True)  # what a killed training left
    folder.mkdir()
    fitted.write(folder)
    reference = fit_reference(
        fitted.embeddings[split.train], data.labels[split.train], len(data.class_ids), seed=seed
    )  # fmt: skip
    reference.save(folder)
    thresholds = None
    if judged.thresholds is not None:
        away = reference.distance(fitted.embeddings[split.tune])
        thresholds = Thresholds(judged.thresholds, distance=round(float(np.quantile(away, NOVEL_QUANTILE)), 4))
    counts = {
        part: np.bincount(data.labels[rows], minlength=len(data.class_ids)) for part, rows in split.parts().items()
    }
    facts = _card_facts(fitted, images, split, thresholds, mode, base)
    rows = _card_rows(images, counts, judged)
    problems = images.problems.listed()
    text = model_card(name, facts, judged.metrics, rows, warnings=warnings, problems=problems)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    card = {
        "source": "trained here", "data": images.source, "training_set": data.digest, "made": facts["made"],
        "mode": mode, "setting": fitted.setting, "grouped_by": split.grouped_by, "metrics": judged.metrics,
        "aphia_ids": images.aphia_ids, "warnings": warnings,
    }  # fmt: skip
    write_model_json(
        folder, name=name, backbone_name=fitted.backbone_name, dim=fitted.dim, input_px=fitted.input_px,
        class_ids=data.class_ids, class_counts=tuple(int(n) for n in counts["train"]), temperature=1.0, card=card,
        head_kind=fitted.head_kind, inputs=fitted.inputs or None, calibration=judged.calibration,
        thresholds=thresholds, threshold_target=f"precision {TARGET_PRECISION:g}" if thresholds else None,
        discriminant=asdict(fitted.discriminant) if fitted.discriminant else None,
    )  # fmt: skip
    return load_model(folder)


def _card_facts(
    fitted: Fitted, images: TrainingImages, split: Split, thresholds: Thresholds | None, mode: str, base: Model
) -> dict[str, str]:
    """How the model came to be, as its card tells it."""
    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "learnt from": f"{len(split.train):,} images of {images.source}, digest {images.data.digest}",
        "mode": f"{mode}; {fitted.setting}",
        "network": f"{fitted.backbone_name}, {fitted.input_px} px"
        + (f", of model {base.name}" if mode != "finetune" else ""),
        "classes in balance": f"{fitted.balance[0]} ({fitted.balance[1]})",
        "split": f"{len(split.train):,} train, {len(split.tune):,} tune, {len(split.judge):,} judge; "
        + (f"kept whole by {split.grouped_by}" if split.grouped_by else "image by image"),
        "thresholds": f"precision {TARGET_PRECISION:g} on the tuning part" if thresholds else "none",
        "licence": "that of the images; not stated here",
    }


def _card_rows(
    images: TrainingImages, counts: dict[str, npt.NDArray[np.int64]], judged: Judged
) -> list[dict[str, Any]]:
    """Each class with its images in every part, and how well it was told on the judging part."""
    quality = {q["class_id"]: q for q in judged.per_class}
    return [
        {
            "class_id": c, "aphia_id": images.aphia_ids.get(c), **{part: int(n[i]) for part, n in counts.items()},
            **{key: quality.get(c, {}).get(key) for key in CARD_FIGURES},
        }
        for i, c in enumerate(images.data.class_ids)
    ]  # fmt: skip
