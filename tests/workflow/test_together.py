"""Several processes on one workspace at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from plankter.synthetic import simulate_flowcam_run
from plankter.workflow.upkeep import check
from plankter.workflow.workspace import init_workspace, open_workspace


def test_two_ingests_of_the_same_run_at_once(tmp_path: Path) -> None:
    source = simulate_flowcam_run(tmp_path / "in", name="r", particles=300, seed=3, classified=True).folder
    folder = init_workspace(tmp_path / "w")
    command = [sys.executable, "-m", "plankter.cli", "ingest", str(source), "-w", str(folder), "--json"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [json.loads(process.communicate()[0])["runs"][0] for process in processes]
    assert {process.returncode for process in processes} == {0}
    assert {entry["run_id"] for entry in found} == {found[0]["run_id"]}
    assert all(entry["particles"] == 300 and entry["status"] in ("ingested", "unchanged") for entry in found)
    with open_workspace(folder) as workspace:
        (record,) = workspace.catalogue.runs()
        facts = list(workspace.catalogue.annotations())
        assert record.particles == record.vignettes == 300
        assert sorted(fact.index for _, fact in facts) == list(range(300))
        assert check(workspace, deep=True)["problems"] == []
