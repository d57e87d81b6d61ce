"""Results back into the database that the documents came from: predictions, labels and quantities, only what changed."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plankter._errors import NotFound, SettingsError
from plankter.formats.mapping_file import DatabaseMapping, read_mapping
from plankter.quantify.abundance import abundance
from plankter.store.base import ParticleFilter, RunRecord
from plankter.store.encoding import json_text, sample_object, status_of, taxon_object
from plankter.store.locks import Lock
from plankter.store.result_collections import OURS, Outcome, ResultCollections, UndoList, Write
from plankter.store.source_database import id_of
from plankter.store.source_ledger import Ledger
from plankter.types import Predictions, Source, StandingLabel, Taxon
from plankter.workflow.connect import ledger_path
from plankter.workflow.connect_documents import Problems
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace

TOP = 5
BATCH = 1000
PAGE = 5000


@dataclass
class _Work:
    workspace: Workspace
    mapping: DatabaseMapping
    ledger: Ledger
    target: ResultCollections
    undo: UndoList | None
    taxa: dict[str, Taxon]
    problems: Problems = field(default_factory=Problems)
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def note(self, outcome: Outcome, what: str) -> None:
        self.counts.update({what: outcome.written, "unchanged": outcome.same})
        for identity, reason in outcome.refused:
            self.problems.add(reason, str(identity))
        self.examples = [*self.examples, *outcome.examples][:3]


def write_back(
    workspace: Workspace, mapping_file: Path, *, dry_run: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Writes what is new of a connected source's results, into our field or our collections only.

    May be repeated after a kill. What stood before each write is in the undo list first.

    Args:
        workspace: whose results.
        mapping_file: with a section ``[results]``.
        dry_run: say what would be written, write nothing.
        progress: told of runs.

    Returns:
        The object that ``plankter write-back --json`` prints.

    Raises:
        SettingsError: the mapping, or a source that was never connected. StoreError: the server.
    """
    started = time.monotonic()
    mapping = read_mapping(mapping_file)
    path = ledger_path(workspace, mapping)
    if not path.exists():
        raise SettingsError(
            "nothing of this source is in the workspace", path=mapping_file, hint="`plankter connect` first"
        )
    target = ResultCollections(mapping)
    try:
        with Lock(path.with_suffix(".lock"), patience_s=5).held():
            ledger = Ledger(path, mapping.source.name)
            try:
                undo = None if dry_run else UndoList(_undo_path(path))
                taxa = {taxon.class_id: taxon for taxon in workspace.catalogue.taxa()}
                work = _Work(workspace, mapping, ledger, target, undo, taxa)
                _all_runs(work, progress)
            finally:
                ledger.close()
    finally:
        target.close()
    return {
        "source": mapping.source.name, "dry_run": dry_run, "documents": work.counts["documents"],
        "quantities": work.counts["quantities"], "unchanged": work.counts["unchanged"],
        "runs": work.counts["runs"], "undo": str(undo.path) if undo is not None and undo.path.exists() else None,
        "examples": work.examples, "problems": work.problems.as_json(), "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip


def undo(workspace: Workspace, mapping_file: Path, undo_file: Path) -> dict[str, Any]:
    """Takes back what an undo list names, where nobody changed it since.

    Returns:
        ``{"undone", "problems", "seconds"}``

    Raises:
        SettingsError: the mapping. StoreError: the list, or the server.
    """
    started = time.monotonic()
    mapping = read_mapping(mapping_file)
    path = ledger_path(workspace, mapping)
    target = ResultCollections(mapping)
    try:
        outcome = target.undo(undo_file)
    finally:
        target.close()
    with Lock(path.with_suffix(".lock"), patience_s=5).held():
        ledger = Ledger(path, mapping.source.name)
        try:
            for run_id in ledger.runs():  # the next write-back looks at everything
                ledger.put(f"results:{run_id}", None)
                ledger.wrote((key, None) for _, key, _ in ledger.results(run_id))
        finally:
            ledger.close()
    problems = Problems()
    for identity, reason in outcome.refused:
        problems.add(reason, str(identity))
    return {"undone": outcome.written, "problems": problems.as_json(), "seconds": round(time.monotonic() - started, 3)}


def _undo_path(ledger: Path) -> Path:
    return ledger.with_suffix(f".undo-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.jsonl")


def _all_runs(work: _Work, progress: Progress) -> None:
    run_ids = work.ledger.runs()
    classes = json_text([taxon_object(taxon) for taxon in work.taxa.values()])
    for number, run_id in enumerate(run_ids):
        try:
            record = work.workspace.catalogue.run(run_id)
        except NotFound:
            continue  # taken out
        signature, facts = _signature(work, record, classes)
        held = json.loads(work.ledger.get(f"results:{run_id}") or "{}")
        if held.get("signature") != signature or held.get("facts") != facts:
            work.counts["runs"] += 1
            before = sum(entry["count"] for entry in work.problems.found.values())
            _documents(work, record)
            _quantities(work, record)
            refused = sum(entry["count"] for entry in work.problems.found.values()) > before
            if work.undo is not None and not refused:
                work.ledger.put(f"results:{run_id}", json.dumps({"signature": signature, "facts": facts}))
        progress("runs", number + 1, len(run_ids))


def _signature(work: _Work, record: RunRecord, classes: str) -> tuple[str, int]:
    """What the results of a run hang on: model, sample, class list, mapping; and its newest fact."""
    held = json.loads(work.ledger.get(f"results:{record.run.run_id}") or "{}")
    facts = int(held.get("facts", 0))
    for seq, _ in work.workspace.catalogue.annotations(record.run.run_id, after=facts):
        facts = seq
    sample = json_text(sample_object(work.workspace.catalogue.sample(record.run.sample_id)))
    text = "\n".join([str(record.model_id), str(record.predicted), sample, classes, repr(work.mapping.results)])
    return hashlib.sha256(text.encode()).hexdigest()[:16], facts


# -- particle by particle
def _documents(work: _Work, record: RunRecord) -> None:
    results = work.target.results
    run_id = record.run.run_id
    predictions: dict[int, dict[str, Any]] = {}
    if results.predictions and record.model_id is not None:
        predictions = dict(_predicted(work, work.workspace.archive.open(run_id).predictions(record.model_id)))
    standing = work.workspace.catalogue.standing(run_id) if results.labels else {}
    todo: list[tuple[Write, str, str | None]] = []
    for index, key, last in work.ledger.results(run_id):
        now = _result(work, run_id, index, predictions.get(index), standing.get(index))
        mark = None if now is None else hashlib.sha256(repr(now).encode()).hexdigest()[:16]
        if mark != last:
            todo.append((Write(work.target.documents, id_of(key), now), key, mark))
        else:
            work.counts["unchanged"] += 1
    for start in range(0, len(todo), BATCH):
        part = todo[start : start + BATCH]
        outcome = work.target.write([write for write, _, _ in part], work.undo)
        work.note(outcome, "documents")
        if work.undo is not None:
            refused = {repr(identity) for identity, _ in outcome.refused}
            work.ledger.wrote((key, mark) for write, key, mark in part if repr(write.identity) not in refused)


def _result(
    work: _Work, run_id: str, index: int, prediction: dict[str, Any] | None, label: StandingLabel | None
) -> dict[str, Any] | None:
    said = None if label is None or label.source is Source.IMPORT else _label(work, label)  # an import is theirs
    if prediction is None and said is None:
        return None
    return {**OURS, "run_id": run_id, "index": index, "prediction": prediction, "label": said}


def _class(work: _Work, class_id: str) -> dict[str, Any]:
    taxon = work.taxa.get(class_id)
    return {
        "class_id": class_id,
        "name": taxon.name if taxon else class_id,
        "aphia_id": taxon.aphia_id if taxon else None,
    }


def _predicted(work: _Work, predictions: Predictions) -> Iterator[tuple[int, dict[str, Any]]]:
    classes = [_class(work, class_id) for class_id in predictions.class_ids]
    for index, best, scores in zip(
        predictions.index.tolist(),
        predictions.best[:, :TOP].tolist(),
        predictions.scores[:, :TOP].tolist(),
        strict=True,
    ):
        top = [{**classes[place], "score": score} for place, score in zip(best, scores, strict=True)]
        decision = top[0]["class_id"] if top else None
        yield index, {"model_id": predictions.model_id, "decision": decision, "reason": "highest score", "top": top}


def _label(work: _Work, label: StandingLabel) -> dict[str, Any]:
    at = label.at.replace(microsecond=label.at.microsecond // 1000 * 1000)  # what the database keeps
    return {
        **(_class(work, label.class_id) if label.class_id else {"class_id": None}),
        "verdict": label.verdict.value, "status": status_of(label), "annotator": label.annotator, "at": at,
    }  # fmt: skip


# -- run by run
def _quantities(work: _Work, record: RunRecord) -> None:
    place = work.target.quantities
    if place is None:
        return
    run_id = record.run.run_id
    wanted = {f"{run_id}/{class_id}": row for class_id, row in _quantified(work, record)}
    gone = [identity for identity in work.target.ids_of_run(place, run_id) if identity not in wanted]
    writes = [Write(place, identity, row) for identity, row in wanted.items()]
    writes += [Write(place, identity, None) for identity in gone]
    for start in range(0, len(writes), BATCH):
        work.note(work.target.write(writes[start : start + BATCH], work.undo), "quantities")


def _quantified(work: _Work, record: RunRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    counted: Counter[str] = Counter()
    validated: Counter[str] = Counter()
    after: Any = None
    while True:
        rows, after = work.workspace.catalogue.page(ParticleFilter(run_id=record.run.run_id), after=after, limit=PAGE)
        for row in rows:
            class_id = row.label or row.predicted
            if class_id is not None:
                counted[class_id] += 1
                validated[class_id] += row.status == "validated"
        if after is None:
            break
    sample = work.workspace.catalogue.sample(record.run.sample_id)
    for class_id, count in sorted(counted.items()):
        found = abundance(
            count, record.run.volume_imaged_ml, sample.dilution_factor, sample.concentrated_volume_ml,
            sample.volume_filtered_l,
        )  # fmt: skip
        yield class_id, {
            **OURS, "run_id": record.run.run_id, "sample_id": sample.sample_id, **_class(work, class_id), "count": count,
            "validated": validated[class_id], "volume_imaged_ml": record.run.volume_imaged_ml,
            "per_ml_imaged": found.per_ml_imaged, "per_l": found.per_l, "per_l_low": found.low,
            "per_l_high": found.high, "note": found.reason, "model_id": record.model_id,
        }  # fmt: skip
