"""Killing an ingest whose catalogue is in a MongoDB leaves every run wholly in or wholly out, and loses nothing."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

from test_killed import command, contents, kill_at_random

from plankter.store.base import ParticleFilter
from plankter.synthetic.flowcam import simulate_flowcam_run
from plankter.workflow.ingest import ingest
from plankter.workflow.workspace import init_workspace, open_workspace

KILLS = 6


def test_it_ends_as_one_clean_run_in_sqlite(tmp_path: Path, mongo_url: str) -> None:
    season = tmp_path / "season"
    for number in range(2):
        simulate_flowcam_run(season, name=f"run{number}", particles=40, seed=number, classified=True)
    clean = init_workspace(tmp_path / "clean")
    with open_workspace(clean) as workspace:
        ingest(workspace, [season])
    started = time.monotonic()
    subprocess.run(command("ingest", season, "-w", init_workspace(tmp_path / "timed")), check=True, capture_output=True)
    seconds, rng = time.monotonic() - started, random.Random(9)
    folder = init_workspace(tmp_path / "killed", catalogue=mongo_url)
    for _ in range(KILLS):
        kill_at_random(command("ingest", season, "-w", folder), seconds, rng)
        with open_workspace(folder) as workspace:
            for record in workspace.catalogue.runs():
                assert (
                    record.particles == len(workspace.catalogue.page(ParticleFilter(run_id=record.run.run_id))[0]) == 40
                )
    subprocess.run(command("ingest", season, "-w", folder), check=True, capture_output=True)
    assert contents(folder) == contents(clean)
    with open_workspace(folder) as workspace:
        assert workspace.catalogue.check() == []
