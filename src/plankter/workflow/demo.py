"""The whole chain on a simulated run, so that a new user sees a result before reading anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from plankter._errors import Conflict
from plankter.quantify.abundance import abundance
from plankter.store.base import ParticleFilter
from plankter.synthetic import simulate_flowcam_run
from plankter.workflow.classify import classify
from plankter.workflow.ingest import ingest
from plankter.workflow.progress import Progress, silent
from plankter.workflow.report import write_report
from plankter.workflow.workspace import init_workspace, open_workspace

VLIZ_UM_PER_PX = 1.3792  # the 4x objective that the pasted real vignettes were taken with


def run_demo(folder: Path, *, particles: int = 600, seed: int = 1, progress: Progress = silent) -> dict[str, Any]:
    """Simulates a FlowCam run in ``folder``, ingests and classifies it, and writes its report.

    Returns:
        The object that ``plankter demo --json`` prints.

    Raises:
        Conflict: ``folder`` is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict("the folder is not empty", path=folder, hint="name another one: plankter demo DIR")
    simulated = simulate_flowcam_run(
        folder / "instrument", name="demo_4x", particles=particles, seed=seed, um_per_px=VLIZ_UM_PER_PX
    )
    init_workspace(folder)
    with open_workspace(folder) as workspace:
        (found,), _ = ingest(workspace, [simulated.folder], progress=progress)
        if found.run_id is None or found.status != "ingested":
            raise Conflict(f"the simulated run was not taken: {found.reason}", path=simulated.folder)
        classify(workspace, progress=progress)
        report = write_report(workspace, found.run_id)
        rows, _ = workspace.catalogue.page(ParticleFilter(run_id=found.run_id), limit=particles)
        counts = [c for c in workspace.catalogue.class_counts(found.run_id) if c.predicted]
    predicted = np.array([row.predicted or "" for row in rows])
    truth, real = np.array(simulated.classes), np.array(simulated.is_real)
    classes = []
    for count in sorted(counts, key=lambda c: -c.predicted):
        quantity = abundance(count.predicted, found.volume_imaged_ml)
        classes.append(
            {
                "class_id": count.class_id,
                "count": count.predicted,
                "per_ml": quantity.per_ml_imaged,
                "per_ml_low": quantity.per_ml_low,
                "per_ml_high": quantity.per_ml_high,
            }
        )
    return {
        "run": simulated.folder.name,
        "workspace": str(folder),
        "particles": found.particles,
        "volume_imaged_ml": found.volume_imaged_ml,
        "classes": classes,
        "known": int(real.sum()),
        "right": int((predicted[real] == truth[real]).sum()),
        "report": str(report),
        "next": [
            f"look at the report in a browser: {report}",
            "read your own run: plankter init my-data && cd my-data && plankter ingest /path/to/run && plankter classify",
            f"take the table into Excel: plankter export csv -w {folder}",
        ],
    }
