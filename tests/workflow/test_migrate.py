"""A catalogue moved from SQLite to MongoDB and back is the same, row by row."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from plankter._errors import Conflict, StoreError
from plankter._settings import load_settings, with_catalogue
from plankter.store import sqlite_runs, transfer
from plankter.store.backup import backup as write_backup
from plankter.store.base import ParticleFilter
from plankter.synthetic.flowcam import simulate_flowcam_run
from plankter.testing.examples import NOON, example_fact, example_predictions, example_rows, example_run, run_id_of
from plankter.types import Annotation, Sample, Verdict
from plankter.workflow.ingest import ingest
from plankter.workflow.migrate import migrate
from plankter.workflow.upkeep import backup, rebuild, restore
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace


def fill(workspace: Workspace, n: int = 25) -> None:
    catalogue = workspace.catalogue
    for number, name in enumerate("abcd"):
        catalogue.put_run(example_run(name, sample_id=f"s{number % 2}"), example_rows(n, seed=number))
        catalogue.put_predictions(example_predictions(name, tuple(range(0, n, 2)), seed=number))
        catalogue.annotate([example_fact(name, i, seconds=number) for i in range(0, n, 5)])
    catalogue.annotate([example_fact("a", 0, None, Verdict.UNSURE, seconds=9), example_fact("b", 3, "own class")])
    catalogue.put_sample(Sample("s1", "Station å", environment={"temperature_degC": 3.5}))
    catalogue.put_model("m1", "first", {"top1": 0.5})
    catalogue.put_meta("colour", "grün")
    catalogue.remove_run(run_id_of("c"))


def everything(folder: Path) -> dict[str, Any]:
    with open_workspace(folder) as workspace:
        catalogue = workspace.catalogue
        runs = catalogue.runs()
        assert catalogue.check() == []
        return {
            "runs": runs, "samples": catalogue.samples(), "taxa": catalogue.taxa(), "models": catalogue.models(),
            "meta": catalogue.get_meta("colour"), "facts": list(catalogue.annotations()),
            "counts": catalogue.class_counts(), "rows": catalogue.page(ParticleFilter(), limit=10**6)[0],
            "standing": {r.run.run_id: catalogue.standing(r.run.run_id) for r in runs},
        }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = init_workspace(tmp_path / "w")
    with open_workspace(made) as workspace:
        fill(workspace)
    return made


def test_there_and_back_without_a_difference(folder: Path, mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 7)
    before = everything(folder)
    found = migrate(folder, mongo_url)
    assert (found["runs"], found["particles"], found["annotations"]) == (3, 75, 22) and found["switched"]
    assert load_settings(folder)["workspace.catalogue"] == mongo_url
    assert everything(folder) == before
    migrate(folder, "sqlite:again.sqlite")
    assert everything(folder) == before
    with open_workspace(folder) as workspace:  # the numbers go on where they were
        assert workspace.catalogue.annotate([example_fact("a", 1)]) == before["facts"][-1][0] + 1


def test_a_catalogue_in_use_is_not_written_over(folder: Path, mongo_url: str, tmp_path: Path) -> None:
    other = init_workspace(tmp_path / "other", catalogue=mongo_url)
    with open_workspace(other) as workspace:
        workspace.catalogue.put_run(example_run("z"), example_rows(2))
    with pytest.raises(Conflict, match="runs already"):
        migrate(folder, mongo_url)
    with pytest.raises(Conflict, match="already"):
        migrate(folder, "sqlite:catalogue.sqlite")
    assert load_settings(folder)["workspace.catalogue"] == "sqlite:catalogue.sqlite"


def test_what_differs_is_copied_again(folder: Path, mongo_url: str) -> None:
    migrate(folder, mongo_url, switch=False)
    before = everything(folder)
    with open_workspace(folder) as workspace:
        workspace.catalogue.annotate([example_fact("d", 4, "later")])
        workspace.catalogue.attach(run_id_of("a"), "elsewhere")
    after = everything(folder)
    assert after != before
    migrate(folder, mongo_url)
    assert everything(folder) == after


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_random_and_repeated(tmp_path: Path, mongo_url: str) -> None:
    folder = init_workspace(tmp_path / "w")
    with open_workspace(folder) as workspace:
        fill(workspace, 2100)
    before, rng = everything(folder), random.Random(3)
    for address in (mongo_url, "sqlite:again.sqlite"):
        command = [sys.executable, "-m", "plankter.cli", "migrate", address, "-w", str(folder)]
        for _ in range(3):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(rng.uniform(0.7, 2.5))
                process.kill()
            if load_settings(folder)["workspace.catalogue"] == address:
                break
        else:
            migrate(folder, address)
        assert everything(folder) == before
    assert sqlite_runs.CHUNK_ROWS < 2100


def test_a_catalogue_in_mongodb_is_refilled_from_the_archive(tmp_path: Path, mongo_url: str) -> None:
    folder = init_workspace(tmp_path / "w", catalogue=mongo_url)
    simulate_flowcam_run(tmp_path / "runs", name="one", particles=12, seed=1, classified=True)
    with open_workspace(folder) as workspace:
        (run,), _ = ingest(workspace, [tmp_path / "runs"])
        assert run.status == "ingested" and run.run_id is not None
        workspace.catalogue.annotate([Annotation(run.run_id, 3, "x", Verdict.CONFIRMED, "ada", NOON)])
        rows = workspace.catalogue.page(ParticleFilter())[0]
        workspace.catalogue.put_run(example_run("z"), example_rows(2))  # not in the archive
    found = rebuild(folder)
    assert found == {"runs": 1, "problems": []}
    with open_workspace(folder) as workspace:
        assert workspace.catalogue.page(ParticleFilter())[0] == rows
        workspace.catalogue.remove_run(run.run_id)
    assert rebuild(folder) == {"runs": 1, "problems": []}
    with open_workspace(folder) as workspace:
        assert workspace.catalogue.page(ParticleFilter())[0] == rows


def test_a_backup_of_a_catalogue_in_mongodb_is_a_workspace_of_its_own(
    folder: Path, mongo_url: str, tmp_path: Path
) -> None:
    migrate(folder, mongo_url)
    before = everything(folder)
    backup(folder, tmp_path / "saved.zip")
    restore(tmp_path / "saved.zip", tmp_path / "again")
    assert load_settings(tmp_path / "again")["workspace.catalogue"] == "sqlite:catalogue.sqlite"
    assert everything(tmp_path / "again") == before
    assert load_settings(folder)["workspace.catalogue"] == mongo_url


def test_what_cannot_be_saved_is_named_without_its_password(tmp_path: Path) -> None:
    init_workspace(tmp_path / "w")
    settings = tmp_path / "w" / "plankter.toml"
    settings.write_text(with_catalogue(settings.read_text(), "mongodb://ada:hush-hush@h/db"))
    with pytest.raises(StoreError, match="does not") as caught:
        write_backup(tmp_path / "w", tmp_path / "b.zip")
    assert "hush" not in str(caught.value) and "ada:***@h" in str(caught.value)
