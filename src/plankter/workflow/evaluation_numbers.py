"""What an evaluation found, as the objects that the command prints and the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ReadError
from plankter.classify.breakdowns import count_decisions, worst_errors
from plankter.classify.evaluate import evaluate_predictions
from plankter.classify.evaluation_summary import Evaluated, jsonable, summarise
from plankter.classify.models import MODEL_JSON, read_model_json, thresholds_of
from plankter.classify.paired_comparison import compare_models
from plankter.taxa.classes import shipped_class_list
from plankter.types import Model
from plankter.workflow.engine import Engine
from plankter.workflow.workspace import Workspace

FIGURES = ("top1", "top3", "top5", "macro_f1", "weighted_f1", "balanced_accuracy", "log_loss", "ece")
PAIR_PICTURES = 4


@dataclass(frozen=True)
class Scored:
    """One model's scores of the images it could read, all classes by column.

    ``with_context``: of how many any context was known, for a model that takes it.
    """

    engine: Engine
    names: list[str]
    true: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    outcome: npt.NDArray[np.int16]
    rows: npt.NDArray[np.int64]
    unknown: list[str]
    failures: dict[str, str]
    files: int
    classes: int
    seconds: float
    with_context: int = 0

    @property
    def model(self) -> Model:
        """The model that scored."""
        return self.engine.model


def in_brief(scored: Scored) -> dict[str, Any]:
    """The object of the architecture, its keys and no other; of a model that takes context also what was known of it."""
    quality = evaluate_predictions(scored.true, scored.scores, scored.model.class_ids)
    return {
        "model_id": scored.model.model_id,
        "precision": scored.engine.backbone.precision,
        "images": len(scored.true),
        "classes": scored.classes,
        "unknown_folders": scored.unknown,
        "failures": len(scored.failures),
        **{name: round(float(getattr(quality, name)), 5) for name in FIGURES},
        "seconds": round(scored.seconds, 3),
        "images_per_s": round(scored.files / max(scored.seconds, 1e-9), 1),
        **context_facts(scored),
    }


def context_facts(scored: Scored) -> dict[str, Any]:
    """What context the model takes and of how many images it was known; nothing for a model without."""
    if not scored.engine.context:
        return {}
    return {"context": {"columns": list(scored.engine.context), "images_known": scored.with_context}}


def training_images(model: Model) -> tuple[int, ...]:
    """Training images of each class of the model, 0 where its model.json does not say."""
    counts = read_model_json(model.folder).get("training_class_counts")
    given: Mapping[str, Any] = counts if isinstance(counts, dict) else {}
    return tuple(int(given[c]) if isinstance(given.get(c), int) else 0 for c in model.class_ids)


def compare(first: Scored, second: Scored) -> dict[str, Any]:
    """Both models on the images that both could read and whose class both know."""
    ids = list(first.model.class_ids) + [c for c in second.model.class_ids if c not in first.model.class_ids]
    place = {class_id: number for number, class_id in enumerate(ids)}
    moved = np.array([place[c] for c in second.model.class_ids], np.int64)
    there = {name: row for row, name in enumerate(second.names)}
    rows = np.array([row for row, name in enumerate(first.names) if name in there], np.int64)
    if not len(rows):
        raise ReadError("the two models know no class in common of these images")
    rows_2 = np.array([there[first.names[row]] for row in rows], np.int64)
    said = first.scores.argmax(axis=1)[rows], moved[second.scores.argmax(axis=1)[rows_2]]
    found = compare_models(first.true[rows], *said, len(ids))
    names = {"name": second.model.name, "model_id": second.model.model_id}
    data = asdict(found)
    duels = [{"class_id": ids[duel.pop("position")], **duel} for duel in data.pop("classes")]
    return dict(jsonable({"against": names, **data, "p": None, "per_class": duels}) | {"p": found.p})


def all_numbers(
    scored: Scored, workspace: Workspace | None, mix: npt.NDArray[np.float64] | None, mix_name: str,
    groups: Mapping[str, Sequence[str | None]], compared: dict[str, Any] | None, half: str, class_mix: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that ``numbers.json`` and the report of an evaluation say, ready for JSON."""
    model, facts = scored.model, read_model_json(scored.model.folder)
    given = Evaluated(scored.true, scored.scores, model.class_ids, training_images(model), mix, groups)
    found = summarise(given)
    thresholds = thresholds_of(facts, model.folder / MODEL_JSON)
    taxa = {taxon.class_id: taxon for taxon in (workspace.catalogue.taxa() if workspace else shipped_class_list())}
    for entry in found["per_class"]:
        taxon = taxa.get(entry["class_id"])
        entry["name"] = taxon.name if taxon else entry["class_id"]
        entry["own_threshold"] = jsonable(thresholds.by_class.get(entry["class_id"]))
    best = scored.scores.argmax(axis=1)
    decisions = None
    if thresholds.by_class or thresholds.distance is not None:
        members = scored.engine.predictor.taxonomy.members
        decisions = asdict(count_decisions(scored.true, best, scored.outcome.astype(np.int64), members))
    for pair in found["pairs"]:
        pair["pictures"] = _pair_pictures(scored, pair["first"], pair["second"])
    if found["reweighted"] is not None:
        found["reweighted"] = {"mix": Path(mix_name).name, **found["reweighted"]}
    return {
        "made_by": f"plankter {version('plankter')}",
        "model": {
            "name": model.name, "model_id": model.model_id, "precision": scored.engine.backbone.precision,
            "classes": len(model.class_ids),
        },
        "half": half,
        "class_mix": class_mix or "training",
        "unknown_folders": scored.unknown,
        "failures": [{"file": name, "reason": reason} for name, reason in scored.failures.items()],
        **found,
        "decisions": decisions,
        "worst_errors": [_error(scored, int(row)) for row in worst_errors(scored.true, scored.scores)],
        "comparison": compared,
    }  # fmt: skip


def _error(scored: Scored, row: int) -> dict[str, Any]:
    ids, scores, true = scored.model.class_ids, scored.scores[row], int(scored.true[row])
    return {
        "file": scored.names[row],
        "true": ids[true],
        "given": ids[int(scores.argmax())],
        "score": jsonable(scores.max()),
        "true_score": jsonable(scores[true]),
        "true_rank": int(np.sum(scores > scores[true])) + 1,
    }


def _pair_pictures(scored: Scored, first: str, second: str) -> dict[str, list[str]]:
    """Files to show of two confused classes: mistaken ones, surest first, and such that were recognised."""
    ids = list(scored.model.class_ids)
    a, b = ids.index(first), ids.index(second)
    best, top = scored.scores.argmax(axis=1), scored.scores.max(axis=1)

    def some(true: int, given: int) -> list[str]:
        rows = np.flatnonzero((scored.true == true) & (best == given))
        return [scored.names[k] for k in rows[np.argsort(-top[rows], kind="stable")][:PAIR_PICTURES]]

    return {
        "first_right": some(a, a), "first_as_second": some(a, b), "second_as_first": some(b, a),
        "second_right": some(b, b),
    }  # fmt: skip
