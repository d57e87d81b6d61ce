"""The HTML report of a run, from what the workspace holds."""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from plankter._errors import NotFound
from plankter.features.morphology import MORPHOLOGY
from plankter.publish.contact_sheets import spread
from plankter.publish.run_report import ClassRow, Density, ModelFacts, RunReport, render_run_report
from plankter.quantify.abundance import abundance, size_spectrum
from plankter.store.base import ParticleFilter, ParticleRow, RunRecord
from plankter.types import ImageArray
from plankter.vignettes.codec import decode_image
from plankter.workflow.workspace import Workspace

SHEET_VIGNETTES = 24
PAGE = 5000


def write_report(workspace: Workspace, run_id: str) -> Path:
    """Writes ``reports/RUN_NAME-RUN_ID.html``, one page that stands alone.

    Returns:
        Its path.

    Raises:
        NotFound: no such run.
    """
    page = render_run_report(_report(workspace, workspace.catalogue.run(run_id)))
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in workspace.catalogue.run(run_id).run.name)
    path = workspace.reports_folder / f"{name[:80]}-{run_id}.html"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def all_rows(workspace: Workspace, run_id: str) -> list[ParticleRow]:
    """Every particle of a run in the list's order."""
    rows: list[ParticleRow] = []
    key: tuple[Any, ...] | None = None
    while True:
        page, key = workspace.catalogue.page(ParticleFilter(run_id=run_id), after=key, limit=PAGE)
        rows += page
        if key is None:
            return rows


def _report(workspace: Workspace, record: RunRecord) -> RunReport:
    run, rows = record.run, all_rows(workspace, record.run.run_id)
    by_class: dict[str, list[ParticleRow]] = defaultdict(list)
    for row in rows:
        if row.predicted is not None:
            by_class[row.predicted].append(row)
    archived = workspace.archive.open(run.run_id)

    def vignettes(class_id: str) -> list[tuple[int, ImageArray, float]]:
        members = by_class.get(class_id, [])
        chosen = [members[k] for k in spread([row.score or 0.0 for row in members], SHEET_VIGNETTES)]
        score = {row.index: row.score or 0.0 for row in chosen}
        return [(i, decode_image(data), score[i]) for i, data in archived.read_vignettes(sorted(score))]

    try:
        sample = workspace.catalogue.sample(run.sample_id)
    except NotFound:
        sample = None
    columns, values = archived.features(MORPHOLOGY[0])
    esd_um = values[:, list(columns).index("esd_um")]
    spectrum = size_spectrum(esd_um, run.volume_imaged_ml)
    return RunReport(
        run=run,
        sample=sample,
        particles=record.particles,
        vignettes=record.vignettes,
        masks=record.masks,
        failures=[(row.index, row.failure) for row in rows if row.failure is not None],
        classes=_classes(workspace, record),
        total=_density(record.particles, run.volume_imaged_ml),
        model=_model(workspace, record),
        esd_um=esd_um,
        spectrum=(spectrum.edges_um, spectrum.count) if len(spectrum.count) else None,
        scores=np.array([row.score for row in rows if row.score is not None], dtype=np.float32),
        class_vignettes=vignettes,
        version=version("plankter"),
    )


def _density(count: int, volume_imaged_ml: float | None) -> Density | None:
    found = abundance(count, volume_imaged_ml)
    if found.per_ml_imaged is None or found.per_ml_low is None or found.per_ml_high is None:
        return None
    return Density(found.per_ml_imaged, found.per_ml_low, found.per_ml_high)


def _classes(workspace: Workspace, record: RunRecord) -> list[ClassRow]:
    taxa = {taxon.class_id: taxon for taxon in workspace.catalogue.taxa()}
    counts = {count.class_id: count for count in workspace.catalogue.class_counts(record.run.run_id)}
    found = []
    for class_id in sorted({*taxa, *counts}):
        taxon, count = taxa.get(class_id), counts.get(class_id)
        predicted = count.predicted if count else 0
        found.append(
            ClassRow(
                class_id,
                taxon.name if taxon else class_id,
                taxon.aphia_id if taxon else None,
                predicted,
                count.validated if count else 0,
                _density(predicted, record.run.volume_imaged_ml),
            )
        )
    return found


def _model(workspace: Workspace, record: RunRecord) -> ModelFacts | None:
    if record.model_id is None:
        return None
    facts = workspace.catalogue.models().get(record.model_id, {})
    precision = workspace.archive.open(record.run.run_id).predictions(record.model_id).precision
    return ModelFacts(record.model_id, str(facts.get("name", record.model_id)), precision, facts.get("top1"))
