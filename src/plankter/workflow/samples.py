"""Sample metadata, attached or corrected at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plankter.formats.sample_table import read_sample_table
from plankter.workflow.classify import select_runs
from plankter.workflow.workspace import Workspace


def attach_samples(workspace: Workspace, table: Path) -> dict[str, Any]:
    """Attaches the samples of a table to the runs it names.

    Returns:
        ``{"attached": [{"run_id", "sample_id"}], "unknown_runs": [...]}``: a row of no known run is named, not fatal.

    Raises:
        ReadError: the table cannot be read; nothing is changed then.
    """
    rows = read_sample_table(table)
    records = workspace.catalogue.runs()
    attached, unknown = [], []
    for row in rows:
        hits = [
            r
            for r in records
            if row.run in (r.run.run_id, r.run.name, r.run.sample_id) or _folder(r.run.source) == row.run
        ]
        if not hits:
            unknown.append(row.run)
            continue
        workspace.catalogue.put_sample(row.sample)
        workspace.archive.put_sample(row.sample)
        for record in hits:
            workspace.catalogue.attach(record.run.run_id, row.sample.sample_id)
            workspace.archive.attach(record.run.run_id, row.sample.sample_id)
            attached.append({"run_id": record.run.run_id, "sample_id": row.sample.sample_id})
    return {"attached": attached, "unknown_runs": unknown}


def _folder(source: str) -> str:
    return Path(source).parent.name


def remove(workspace: Workspace, names: list[str]) -> dict[str, Any]:
    """Takes runs out of the catalogue, then out of the archive; labels stay in the journal."""
    removed = []
    for record in select_runs(workspace, names) if names else []:
        workspace.catalogue.remove_run(record.run.run_id)
        workspace.archive.remove(record.run.run_id)
        removed.append({"run_id": record.run.run_id, "name": record.run.name, "particles": record.particles})
    return {"removed": removed}
