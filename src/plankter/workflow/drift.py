"""The runs of a workspace beside the training set of a model: from what the archive holds, nothing is embedded again."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError, NotFound
from plankter.classify.drift import (
    ALPHA,
    IMAGE_TOLERANCE,
    Baseline,
    Comparison,
    Finding,
    Verdict,
    baseline_of,
    compare,
    separate,
)  # fmt: skip
from plankter.classify.drift_series import Chart, Month, accuracy_by_month, control_chart
from plankter.classify.models import read_model_json
from plankter.classify.novelty import Reference, load_reference
from plankter.classify.predictor import Predictor, load_predictor
from plankter.publish.drift_report import DriftReport, DriftRow, MonthRow, render_drift_report
from plankter.store.base import RunRecord
from plankter.types import Annotation, ImageArray, Model, Source, standing_label
from plankter.types import Verdict as Said
from plankter.vignettes.codec import decode_image
from plankter.workflow.classify import select_runs
from plankter.workflow.drift_words import advice_for
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace, find_model

log = logging.getLogger(__name__)
MOST_IMAGES = 5_000  # of a run, drawn at random: more only cost time
NAMED, SHEET = 3, 24
NAMED_FROM = 0.02  # change of a class's share from which on it is named
MOST_SHEETS = 12


@dataclass(frozen=True)
class _Seen:
    """One run as it was compared. ``rows``: particles drawn, ``distances``: of these from the nearest class."""

    record: RunRecord
    comparison: Comparison
    mix: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]


def drift(
    workspace: Workspace,
    runs: Sequence[str] = (),
    *,
    model: str | None = None,
    report: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compares runs with what a model learnt from, and its predictions with the labels that people gave.

    The result is kept as ``reports/drift-MODEL_ID.json``, and written as a page where ``report`` is given.

    Args:
        runs: by run_id, name or sample_id; all where empty. Those without embeddings of the model are named in the
            warnings.
        model: name, id or folder; the workspace's own where None.
        report: HTML file to write.
        seed: of draws and permutations.

    Returns:
        The object that ``plankter drift --json`` prints.

    Raises:
        ModelError: the model keeps no sample of its training images, or its head needs more than embeddings.
        NotFound: no such run or model.
    """
    chosen = find_model(model or str(workspace.settings["classify.model"]), workspace)
    reference, predictor = _parts(chosen)
    baseline = baseline_of(
        reference.embeddings, reference.labels, reference.mix, predictor.scores(reference.embeddings.astype(np.float32))
    )
    records = sorted(select_runs(workspace, runs), key=_moment)
    warnings: list[str] = []
    seen = []
    for number, record in enumerate(records):
        progress("runs compared", number, len(records))
        found = _see(workspace, record, chosen, baseline, predictor, reference, seed, warnings)
        seen += [] if found is None else [found]
    progress("runs compared", len(records), len(records))
    findings = separate([one.comparison for one in seen])
    differences = [math.sqrt(max(one.comparison.mmd2, 0.0)) for one in seen]  # NaN stays NaN
    chart = control_chart(differences)
    months, expected = _months(workspace, records, chosen, warnings), _expected(chosen)
    by_month = accuracy_by_month([month for month, _ in months], np.array([hit for _, hit in months], bool), expected)
    rows = [
        _row(one, finding, bool(odd), difference, baseline, chosen.class_ids)
        for one, finding, odd, difference in zip(seen, findings, chart.alarms, differences, strict=True)
    ]
    result = _result(chosen, rows, seen, chart, by_month, expected, warnings)
    _keep(workspace.reports_folder / f"drift-{chosen.model_id}.json", json.dumps(result, indent=1, ensure_ascii=False))
    if report is not None:
        pictured = [_with_pictures(workspace, row, one) for row, one in zip(rows, seen, strict=True)]
        page = _page(chosen, pictured, len(reference.embeddings), chart, by_month, expected, warnings)
        _keep(report, render_drift_report(page))
        result["report"] = str(report)
    return result


def _parts(model: Model) -> tuple[Reference, Predictor]:
    reference = load_reference(model.folder)
    if reference is None:
        hint = "train it again with this version of plankter, or use a model that has a reference.npz"
        raise ModelError("the model keeps no sample of its training images", path=model.folder, hint=hint)
    if (read_model_json(model.folder).get("inputs") or {}).get("measures"):
        hint = "compare with a model whose head takes embeddings"
        raise ModelError("the head takes measures, which the reference does not hold", path=model.folder, hint=hint)
    return reference, load_predictor(model)


def _moment(record: RunRecord) -> tuple[bool, datetime, str]:
    started = record.run.started_at
    return started is None, started or datetime.max.replace(tzinfo=UTC), record.run.name


def _see(
    workspace: Workspace, record: RunRecord, model: Model, baseline: Baseline, predictor: Predictor,
    reference: Reference, seed: int, warnings: list[str],
) -> _Seen | None:  # fmt: skip
    run = record.run
    try:
        embeddings = workspace.archive.open(run.run_id).embeddings(model.backbone_hash)
    except NotFound:
        warnings.append(f"{run.name}: not compared, as this model has not seen it; run `plankter classify` first")
        return None
    if embeddings.shape[1] != baseline.embeddings.shape[1]:
        raise ModelError(f"the embeddings of {run.name} have {embeddings.shape[1]} numbers", path=model.folder)
    usable = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    rows = np.sort(np.random.default_rng(seed).permutation(usable)[:MOST_IMAGES])
    if not len(rows):
        warnings.append(f"{run.name}: not compared, as it has no usable image")
        return None
    drawn = embeddings[rows].astype(np.float32)
    scores = predictor.scores(drawn)
    classes = scores.argmax(axis=1)
    comparison = compare(baseline, drawn, classes, scores.max(axis=1), seed=seed)
    mix = np.bincount(classes, minlength=scores.shape[1]) / len(classes)
    return _Seen(record, comparison, mix, rows, reference.distance(drawn))


def _row(
    one: _Seen, finding: Finding, odd: bool, difference: float, baseline: Baseline, class_ids: Sequence[str]
) -> DriftRow:
    run, c = one.record.run, one.comparison
    change = one.mix - baseline.mix
    order = np.argsort(-change, kind="stable")

    def named(positions: npt.NDArray[np.int64]) -> list[tuple[str, float, float]]:
        kept = [k for k in positions[:NAMED].tolist() if abs(change[k]) >= NAMED_FROM]
        return [(class_ids[k], round(float(baseline.mix[k]), 4), round(float(one.mix[k]), 4)) for k in kept]

    rising = [entry for entry in named(order) if entry[2] > entry[1]]
    falling = [entry for entry in named(order[::-1]) if entry[2] < entry[1]]
    changed = [class_ids[k] for k in finding.changed_classes[:NAMED]]
    return DriftRow(
        run_id=run.run_id,
        name=run.name,
        sample_id=run.sample_id,
        started_at=f"{run.started_at:%Y-%m-%d}" if run.started_at else None,
        particles=one.record.particles,
        difference=difference if math.isfinite(difference) else None,
        mmd_p=finding.image_p,
        class_mix_p=finding.mix_p,
        mix_distance=c.mix_distance,
        confidence_p=finding.confidence_p,
        psi=c.psi,
        verdict=finding.verdict.value,
        advice=advice_for(finding, c, odd, changed, ALPHA),
        alarm=odd or finding.verdict in (Verdict.INSTRUMENT, Verdict.UNCLEAR),
        rising=rising,
        falling=falling,
        um_per_px=run.um_per_px,
    )


def _with_pictures(workspace: Workspace, row: DriftRow, one: _Seen) -> DriftRow:
    """The row with its farthest vignettes, where it has an alarm."""
    if not row.alarm:
        return row
    order = np.argsort(-one.distances, kind="stable")[:SHEET]
    away = {int(one.rows[k]): float(one.distances[k]) for k in order}
    archived = workspace.archive.open(row.run_id)
    pictures: list[tuple[int, ImageArray, float]] = [
        (index, decode_image(data), away[index]) for index, data in archived.read_vignettes(sorted(away))
    ]
    return DriftRow(**{**row.__dict__, "vignettes": pictures})


def _months(
    workspace: Workspace, records: Sequence[RunRecord], model: Model, warnings: list[str]
) -> list[tuple[str, bool]]:
    """Month of the sample, and whether the prediction was right, of each label that a person stands behind."""
    found: list[tuple[str, bool]] = []
    foreign = 0
    for record in records:
        facts: dict[int, list[Annotation]] = defaultdict(list)
        for _, fact in workspace.catalogue.annotations(record.run.run_id):
            facts[fact.index].append(fact)
        labels = {index: told for index, many in facts.items() if (told := _told(many)) is not None}
        if not labels:
            continue
        month, predicted = _month(workspace, record), _predicted(workspace, record, model)
        for index, fact in labels.items():
            at_that_time = fact.on_class_id if fact.on_model_id == model.model_id else None
            said = at_that_time or predicted.get(index)
            if said is not None:
                found.append((month, said == fact.class_id))
                foreign += fact.class_id not in model.class_ids
    if foreign:
        warnings.append(f"{foreign} validated labels are of classes that the model does not know: counted as wrong")
    return found


def _told(facts: Sequence[Annotation]) -> Annotation | None:
    """The fact behind the standing label, where that is a person's and names a class."""
    label = standing_label(facts)
    if label is None or label.source is not Source.PERSON or label.verdict not in (Said.CONFIRMED, Said.CORRECTED):
        return None
    stands = (label.class_id, label.verdict, label.annotator, label.at)
    return next((f for f in reversed(facts) if (f.class_id, f.verdict, f.annotator, f.at) == stands), None)


def _month(workspace: Workspace, record: RunRecord) -> str:
    try:
        sampled = workspace.catalogue.sample(record.run.sample_id).sampled_at
    except NotFound:
        sampled = None
    moment = sampled or record.run.started_at
    return f"{moment:%Y-%m}" if moment else "unknown"


def _predicted(workspace: Workspace, record: RunRecord, model: Model) -> dict[int, str]:
    try:
        kept = workspace.archive.open(record.run.run_id).predictions(model.model_id)
    except NotFound:
        return {}
    return {int(i): kept.class_ids[k] for i, k in zip(kept.index, kept.best[:, 0], strict=True)}


def _expected(model: Model) -> float | None:
    top1 = dict(model.card.get("metrics", {})).get("top1")
    return float(top1) if isinstance(top1, int | float) and 0 < top1 <= 1 else None


def _result(
    model: Model, rows: Sequence[DriftRow], seen: Sequence[_Seen], chart: Chart, months: Sequence[Month],
    expected: float | None, warnings: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    found = []
    for row, one in zip(rows, seen, strict=True):
        c, started = one.comparison, one.record.run.started_at
        found.append(
            {
                "run_id": row.run_id, "name": row.name, "sample_id": row.sample_id,
                "started_at": started.isoformat() if started else None, "particles": row.particles,
                "images": c.images, "mmd2": round(c.mmd2, 6) if math.isfinite(c.mmd2) else None, "mmd_p": row.mmd_p,
                "compared": round(c.compared, 4), "class_mix_p": row.class_mix_p,
                "class_mix_distance": round(c.mix_distance, 4), "confidence_p": row.confidence_p,
                "confidence_shift": round(c.confidence_shift, 4), "psi": round(c.psi, 4), "verdict": row.verdict,
                "alarm": row.alarm, "rising": list(row.rising), "falling": list(row.falling), "advice": row.advice,
            }
        )  # fmt: skip
    limits = {
        "centre": round(chart.centre, 6) if math.isfinite(chart.centre) else None,
        "upper": round(chart.upper, 6) if chart.upper is not None else None,
        "tolerance": round(math.sqrt(IMAGE_TOLERANCE), 6),
        "false_alarms": chart.false_alarms,
    }
    return {
        "model_id": model.model_id, "runs": found, "chart": limits, "expected_accuracy": expected,
        "months": [asdict(month) for month in months], "warnings": list(warnings),
    }  # fmt: skip


def _page(
    model: Model, rows: Sequence[DriftRow], images: int, chart: Chart, months: Sequence[Month],
    expected: float | None, warnings: Sequence[str],
) -> DriftReport:  # fmt: skip
    return DriftReport(
        model.name, model.model_id, images, rows, chart.centre, chart.upper, chart.false_alarms,
        math.sqrt(IMAGE_TOLERANCE), ALPHA, [MonthRow(**asdict(month)) for month in months], expected, tuple(warnings),
        version("plankter"),
    )  # fmt: skip


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
