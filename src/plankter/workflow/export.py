"""Results of a workspace as tables, handed to an exporter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from plankter._plugins import load
from plankter.features.morphology import MORPHOLOGY
from plankter.publish.base import Exporter, Results
from plankter.store.base import RunRecord
from plankter.types import Sample
from plankter.workflow.report import all_rows
from plankter.workflow.workspace import Workspace

# name, type, meaning: the columns of the particle table before the measures; documented in docs/reference/tables.md
PARTICLE_COLUMNS = (
    ("run_id", pa.string(), "run the particle belongs to"),
    ("index", pa.int64(), "position of the particle in the instrument's list, from 0"),
    ("sample_id", pa.string(), "sample of the run"),
    ("instrument_label", pa.string(), "the instrument's own number of the particle"),
    ("predicted", pa.string(), "class_id of the best prediction"),
    ("score", pa.float32(), "its score, 0 to 1"),
    ("label", pa.string(), "class_id of the standing label: what a person, an import or a rule says"),
    ("status", pa.string(), "unlabelled, imported, rule, unsure or validated"),
    ("aphia_id", pa.int64(), "AphiaID of the label, else of the prediction, where the class has one"),
    ("failure", pa.string(), "why the vignette cannot be used; empty where it can"),
)
RUN_COLUMNS = (
    ("run_id", pa.string(), "first 16 hex digits of the SHA-256 of the run's identity file"),
    ("sample_id", pa.string(), "sample of the run"),
    ("name", pa.string(), "the run's name"),
    ("instrument", pa.string(), "flowcam, ..."),
    ("software", pa.string(), "the instrument's software and its version"),
    ("started_at", pa.string(), "start in UTC, ISO 8601; empty where the time zone is unknown"),
    ("started_at_local", pa.string(), "start as written, where the time zone is unknown"),
    ("um_per_px", pa.float64(), "calibration"),
    ("volume_imaged_ml", pa.float64(), "volume imaged, mL; empty where quantities must not be derived"),
    ("particles", pa.int64(), "particles of the list"),
    ("vignettes", pa.int64(), "particles with a usable vignette"),
    ("failures", pa.int64(), "particles whose vignette cannot be used"),
    ("model_id", pa.string(), "model of the newest predictions"),
    ("flags", pa.string(), "codes of what is noteworthy about the run"),
)
SAMPLE_COLUMNS = (
    ("sample_id", pa.string(), "the sample"),
    ("station", pa.string(), "name of the station"),
    ("sampled_at", pa.string(), "time of sampling in UTC, ISO 8601"),
    ("latitude_deg", pa.float64(), "latitude, degrees north"),
    ("longitude_deg", pa.float64(), "longitude, degrees east"),
    ("depth_min_m", pa.float64(), "upper depth, m"),
    ("depth_max_m", pa.float64(), "lower depth, m"),
    ("volume_filtered_l", pa.float64(), "water filtered, L"),
    ("concentrated_volume_ml", pa.float64(), "volume it was concentrated to, mL"),
    ("net_mesh_um", pa.float64(), "mesh of the net, um"),
    ("dilution_factor", pa.float64(), "how many times the imaged water was diluted"),
    ("environment", pa.string(), "further values of the sample table, as JSON"),
)


def export(workspace: Workspace, format_name: str, out: Path | None = None) -> dict[str, Any]:
    """Writes the workspace's results by the exporter of that name.

    Returns:
        The object that ``plankter export --json`` prints.

    Raises:
        NotFound: no such exporter; the message lists those there are.
    """
    exporter: Exporter = load("plankter.exporters", format_name)()
    written = exporter.export(results(workspace), out or workspace.folder / "exports" / format_name)
    return {"format": format_name, "path": str(written.path), "rows": written.rows, "warnings": written.warnings}


def results(workspace: Workspace) -> Results:
    """All particles, runs and samples of the workspace as tables."""
    records = workspace.catalogue.runs()
    tables = [_particles(workspace, record) for record in records]
    particles = pa.concat_tables(tables, promote_options="default") if tables else _table(PARTICLE_COLUMNS, [])
    runs = _table(RUN_COLUMNS, [_run(record) for record in records])
    samples = _table(SAMPLE_COLUMNS, [_sample(sample) for sample in workspace.catalogue.samples()])
    return Results(particles, samples, runs)


def _table(columns: tuple[tuple[str, pa.DataType, str], ...], rows: list[dict[str, Any]]) -> pa.Table:
    schema = pa.schema([(name, kind) for name, kind, _ in columns])
    return pa.Table.from_pylist(rows, schema=schema)


def _particles(workspace: Workspace, record: RunRecord) -> pa.Table:
    run_id = record.run.run_id
    archived = workspace.archive.open(run_id)
    aphia = {taxon.class_id: taxon.aphia_id for taxon in workspace.catalogue.taxa()}
    labels = archived.particles().label
    rows = [
        {
            "run_id": run_id,
            "index": row.index,
            "sample_id": record.run.sample_id,
            "instrument_label": labels[row.index],
            "predicted": row.predicted,
            "score": row.score,
            "label": row.label,
            "status": row.status,
            "aphia_id": aphia.get(row.label or row.predicted or ""),
            "failure": row.failure,
        }
        for row in all_rows(workspace, run_id)
    ]
    table = _table(PARTICLE_COLUMNS, rows)
    columns, values = archived.features(MORPHOLOGY[0])
    for number, name in enumerate(columns):
        table = table.append_column(name, pa.array(values[:, number], from_pandas=True))
    return table


def _run(record: RunRecord) -> dict[str, Any]:
    run = record.run
    return {
        "run_id": run.run_id,
        "sample_id": run.sample_id,
        "name": run.name,
        "instrument": run.instrument,
        "software": run.software,
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "started_at_local": run.started_at_local,
        "um_per_px": run.um_per_px,
        "volume_imaged_ml": run.volume_imaged_ml,
        "particles": record.particles,
        "vignettes": record.vignettes,
        "failures": record.failures,
        "model_id": record.model_id,
        "flags": " ".join(flag.code for flag in run.flags),
    }


def _sample(sample: Sample) -> dict[str, Any]:
    names = [name for name, _, _ in SAMPLE_COLUMNS if name not in ("sampled_at", "environment")]
    return {
        **{name: getattr(sample, name) for name in names},
        "sampled_at": sample.sampled_at.isoformat() if sample.sampled_at else None,
        "environment": json.dumps(dict(sample.environment), sort_keys=True) if sample.environment else None,
    }
