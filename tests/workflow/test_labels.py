"""Labels from outside: matched to the class list, never lost between log and journal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from plankter.synthetic import simulate_flowcam_run
from plankter.types import Annotation, Verdict
from plankter.workflow.ingest import ingest
from plankter.workflow.labels import class_of, finish_records
from plankter.workflow.upkeep import check
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace


@pytest.fixture
def workspace(tmp_path: Path):
    source = simulate_flowcam_run(tmp_path / "in", name="r", particles=12, seed=2).folder
    with open_workspace(init_workspace(tmp_path / "w")) as opened:
        ingest(opened, [source])
        yield opened


def test_a_known_name_is_matched_and_a_new_one_joins_the_list(workspace: Workspace) -> None:
    assert class_of(workspace, "Copepoda adult") == "Copepoda_adult"
    assert class_of(workspace, "lauderia/melosira/detonula") == "Lauderia+Melosira+Detonula"
    before = len(workspace.catalogue.taxa())
    assert class_of(workspace, "  Blob of  something ") == "Blob_of_something"
    assert class_of(workspace, "Blob of something") == "Blob_of_something"
    taxa = {taxon.class_id: taxon for taxon in workspace.catalogue.taxa()}
    assert len(taxa) == before + 1
    assert taxa["Blob_of_something"].aphia_id is None and taxa["Blob_of_something"].kind == "unknown"


def test_a_label_that_a_kill_kept_from_the_journal_gets_there(workspace: Workspace) -> None:
    (record,) = workspace.catalogue.runs()
    fact = Annotation(record.run.run_id, 3, "Bubbles", Verdict.CONFIRMED, "anna", datetime(2026, 1, 2, tzinfo=UTC))
    mark = workspace.archive.root / "journal" / f"pending-{record.run.run_id}"
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    workspace.catalogue.annotate([fact])
    assert check(workspace)["problems"] != []
    finish_records(workspace)
    assert list(workspace.journal.read()) == [fact]
    assert not mark.exists() and check(workspace)["problems"] == []
