"""Predictions for the runs of a workspace."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import NotFound
from plankter.classify.stream import StreamResult
from plankter.store.base import RunRecord
from plankter.types import Predictions
from plankter.workflow.context import context_of
from plankter.workflow.engine import Engine, load_engine
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace, find_model, keep_model

log = logging.getLogger(__name__)


def select_runs(workspace: Workspace, names: Sequence[str]) -> list[RunRecord]:
    """Runs by run_id (or its beginning), name or sample_id; all of them where no name is given.

    Raises:
        NotFound: a name that no run has.
    """
    records = workspace.catalogue.runs()
    if not names:
        return records
    chosen = []
    for name in names:
        hits = [r for r in records if name in (r.run.run_id, r.run.name, r.run.sample_id)]
        hits = hits or [r for r in records if len(name) >= 4 and r.run.run_id.startswith(name)]
        if not hits:
            raise NotFound(f"no run {name!r}", hint="`plankter status` lists the runs")
        chosen += [r for r in hits if r not in chosen]
    return chosen


def classify(
    workspace: Workspace, runs: Sequence[str] = (), *, model: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Predicts every particle with a vignette, keeps embeddings and predictions, updates the catalogue.

    Returns:
        The object that ``plankter classify --json`` prints.
    """
    started = time.monotonic()
    records = select_runs(workspace, runs)
    chosen = keep_model(workspace, find_model(model or str(workspace.settings["classify.model"]), workspace))
    engine = load_engine(chosen, workspace)
    done = []
    for record in records:
        result = _classify_run(workspace, record, engine, progress)
        log.info("%s: %d particles predicted", record.run.name, len(result.index))
        done.append(
            {
                "run_id": record.run.run_id,
                "particles": record.particles,
                "predicted": len(result.index),
                "failures": record.failures + len(result.failures),
            }
        )
    seconds = round(time.monotonic() - started, 3)
    return {"model_id": chosen.model_id, "precision": engine.backbone.precision, "runs": done, "seconds": seconds}


def _classify_run(workspace: Workspace, record: RunRecord, engine: Engine, progress: Progress) -> StreamResult:
    run_id, model = record.run.run_id, engine.model
    archived = workspace.archive.open(run_id)
    indices, _, _ = archived.vignette_index()

    def items() -> Iterator[tuple[int, bytes]]:
        yield from archived.read_vignettes(indices)

    result = engine.run(
        items(), len(indices),
        context=_context(workspace, record, engine.context), um_per_px=record.run.um_per_px,
        progress=lambda count, total: progress(record.run.name, count, total),
    )  # fmt: skip
    predictions = Predictions(
        model.model_id, run_id, engine.backbone.precision, result.index, model.class_ids, result.best, result.scores
    )
    if result.embeddings is not None:
        embeddings = result.embeddings
        if len(embeddings) < record.particles:  # some have no usable vignette: a row of NaN keeps the others in place
            embeddings = np.full((record.particles, result.embeddings.shape[1]), np.nan, np.float16)
            embeddings[result.index] = result.embeddings
        archived.put_embeddings(model.backbone_hash, embeddings)
    archived.put_predictions(predictions)
    workspace.catalogue.put_predictions(predictions)
    return result


def _context(workspace: Workspace, record: RunRecord, columns: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """What is known of a run's sample, as one row in the order of ``columns``; None where nothing is asked for."""
    return context_of(workspace.catalogue.sample(record.run.sample_id), record.run, columns) if columns else None


def status(workspace: Workspace) -> dict[str, Any]:
    """The object that ``plankter status --json`` prints."""
    records = workspace.catalogue.runs()
    by_class: dict[str, dict[str, int]] = {}
    for count in workspace.catalogue.class_counts():
        kept = by_class.setdefault(count.class_id, {"predicted": 0, "validated": 0})
        kept["predicted"] += count.predicted
        kept["validated"] += count.validated
    return {
        "runs": len(records),
        "particles": sum(r.particles for r in records),
        "predicted": sum(r.predicted for r in records),
        "validated": sum(r.validated for r in records),
        "by_class": dict(sorted(by_class.items())),
    }
