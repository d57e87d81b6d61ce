"""Killing ingest and rebuild at random moments leaves every run wholly in or wholly out, and loses nothing."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plankter.store.base import ParticleFilter
from plankter.synthetic.flowcam import simulate_flowcam_run
from plankter.workflow.ingest import ingest
from plankter.workflow.workspace import init_workspace, open_workspace

KILLS = 25
RUNS = 3


def contents(folder: Path) -> dict[str, object]:
    """Everything a user would see of a workspace, but the moments at which things were done."""
    with open_workspace(folder) as workspace:
        found: dict[str, object] = {"problems": workspace.archive.run_ids()}
        for record in workspace.catalogue.runs():
            rows, after = workspace.catalogue.page(ParticleFilter(run_id=record.run.run_id), limit=10_000)
            assert after is None and len(rows) == record.particles
            found[record.run.run_id] = (record.run, record.vignettes, record.masks, record.failures, rows)
        facts = [fact for _, fact in workspace.catalogue.annotations()]
        found["facts"] = sorted(map(repr, facts))
        found["journal"] = sorted({repr(fact) for fact in workspace.journal.read()})
        root = workspace.archive.root
    for path in sorted(p for p in root.rglob("*") if p.is_file() and "lock" not in p.name and "journal" not in p.parts):
        found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    for number in range(RUNS):
        simulate_flowcam_run(folder / f"run{number}", name=f"run{number}", particles=60, seed=number, classified=True)
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "plankter.cli", *map(str, arguments)]


def kill_at_random(arguments: list[str], seconds: float, rng: random.Random) -> bool:
    """True where the process was still at work when it was killed."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(rng.uniform(0, seconds))
        alive = process.poll() is None
        process.kill()
    return alive


@pytest.fixture(scope="module")
def clean(season: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = init_workspace(tmp_path_factory.mktemp("clean"))
    with open_workspace(folder) as workspace:
        found, _ = ingest(workspace, [season])
        assert [run.status for run in found] == ["ingested"] * RUNS
    return folder


def test_ingest_killed_25_times_ends_as_one_clean_run(season: Path, clean: Path, tmp_path: Path) -> None:
    rng = random.Random(12)
    # the length of one undisturbed call tells where the kills must fall
    started = time.monotonic()
    subprocess.run(command("ingest", season, "-w", init_workspace(tmp_path / "timed")), check=True, capture_output=True)
    seconds = time.monotonic() - started
    folder, hits = init_workspace(tmp_path / "killed"), 0
    for number in range(KILLS):
        if number % 5 == 0:  # start over now and then, so that every phase is hit
            folder = init_workspace(tmp_path / f"killed{number}")
        hits += kill_at_random(command("ingest", season, "-w", folder), seconds, rng)
        with open_workspace(folder) as workspace:
            for record in workspace.catalogue.runs():
                rows, _ = workspace.catalogue.page(ParticleFilter(run_id=record.run.run_id), limit=1000)
                assert len(rows) == record.particles == 60
                assert workspace.archive.has(record.run.run_id)
        if number % 5 == 4:
            subprocess.run(command("ingest", season, "-w", folder), check=True, capture_output=True)
            assert contents(folder) == contents(clean)
    assert hits >= KILLS // 3, f"only {hits} of {KILLS} kills hit a process at work"


def test_rebuild_killed_25_times_ends_as_the_catalogue_was(clean: Path, tmp_path: Path) -> None:
    rng = random.Random(13)
    expected = contents(clean)
    started = time.monotonic()
    subprocess.run(command("rebuild", "-w", clean), check=True, capture_output=True)
    seconds = time.monotonic() - started
    for _ in range(KILLS):
        kill_at_random(command("rebuild", "-w", clean), seconds, rng)
        with open_workspace(clean) as workspace:
            assert len(workspace.catalogue.runs()) == RUNS
    subprocess.run(command("rebuild", "-w", clean), check=True, capture_output=True)
    assert contents(clean) == expected
