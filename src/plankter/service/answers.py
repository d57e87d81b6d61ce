"""Predictions as the JSON objects that every door hands out: the API, DEEPaaS, OSCAR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plankter.service.predicting import Batcher, Prediction, unread
from plankter.types import Taxon


def as_object(
    file: str, found: Prediction, batcher: Batcher, taxa: Mapping[str, Taxon], top: int, scores: bool
) -> dict[str, Any]:
    """A prediction as `ImagePrediction`."""
    class_ids = batcher.engine.model.class_ids
    best = []
    for place, score in zip(found.best[:top].tolist(), found.scores[:top].tolist(), strict=True):
        taxon = taxa.get(class_ids[place])
        best.append(
            {"class_id": class_ids[place], "name": taxon.name if taxon else class_ids[place],
             "aphia_id": taxon.aphia_id if taxon else None, "score": round(score, 6)}
        )  # fmt: skip
    every = None
    if scores and len(found.best):
        places, values = found.best.tolist(), found.scores.tolist()
        every = {class_ids[place]: round(score, 6) for place, score in zip(places, values, strict=True)}
    return {
        "file": file, "top": best, "scores": every, "decision": found.decision or None,
        "reason": found.reason or None, "uncertainty": uncertainty(found), "failure": found.failure,
    }  # fmt: skip


def uncertainty(found: Prediction) -> float | None:
    """Entropy of the scores over that of equal ones: 0 where one class has all, 1 where all have the same."""
    if len(found.scores) < 2:
        return None
    share = found.scores.astype(np.float64)
    share = share[share > 0] / share.sum()
    return round(float(-(share * np.log(share)).sum() / np.log(len(found.scores))), 6)


def in_order(
    named: Sequence[tuple[str, bytes | str]], predicted: Sequence[Prediction]
) -> list[tuple[str, Prediction | str]]:
    """Images by name with what was predicted for those that could be read, in turn; the others keep the reason why not."""
    found = iter(predicted)
    return [(name, data if isinstance(data, str) else next(found)) for name, data in named]


def many_as_object(
    batcher: Batcher, named: Sequence[tuple[str, Prediction | str]], taxa: Mapping[str, Taxon], top: int, scores: bool
) -> dict[str, Any]:
    """Predictions by file name, or why there is none, as `PredictAnswer`."""
    images = [
        as_object(name, unread(found) if isinstance(found, str) else found, batcher, taxa, top, scores)
        for name, found in named
    ]
    model = batcher.engine.model
    return {
        "model": model.name, "model_id": model.model_id, "precision": batcher.engine.backbone.precision, "images": images,
    }  # fmt: skip


def as_deepaas(found: Prediction, batcher: Batcher, taxa: Mapping[str, Taxon], top: int) -> dict[str, Any]:
    """A prediction as the lists that the platform's page draws: ``labels`` and ``probabilities``, best first."""
    shown = as_object("", found, batcher, taxa, top, False)
    best = shown["top"]
    model = batcher.engine.model
    return {
        "status": "OK", "labels": [t["class_id"] for t in best], "probabilities": [t["score"] for t in best],
        "aphia_ids": [t["aphia_id"] for t in best], "decision": shown["decision"], "reason": shown["reason"],
        "model": model.name, "model_id": model.model_id,
    }  # fmt: skip
