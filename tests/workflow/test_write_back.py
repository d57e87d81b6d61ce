"""Results go into our field or our collections, only what changed, and can be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import institute
import numpy as np
import pytest
from bson import ObjectId, encode
from pymongo import MongoClient

from plankter._errors import SettingsError
from plankter.store.result_collections import NOT_OURS, SINCE
from plankter.types import Annotation, Predictions, Source, Verdict
from plankter.workflow.connect import connect
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace
from plankter.workflow.write_back import undo, write_back

BESIDE = '\n[results]\ninto = "beside"\n'
OWN = '\n[results]\ninto = "own"\n'


@pytest.fixture
def database(mongo_url: str) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](mongo_url, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(init_workspace(tmp_path / "w")) as opened:
        yield opened


def predict(workspace: Workspace, model_id: str = "m1") -> None:
    """Predictions as a classifier would leave them."""
    for record in workspace.catalogue.runs():
        n = record.particles
        best = np.stack([(np.arange(n) + shift) % 3 for shift in range(3)], axis=1).astype(np.int16)
        scores = np.tile(np.float32([0.7, 0.2, 0.1]), (n, 1))
        found = Predictions(
            model_id, record.run.run_id, "f32", np.arange(n), ("Detritus", "Copepoda", "x"), best, scores
        )
        workspace.archive.open(record.run.run_id).put_predictions(found)
        workspace.catalogue.put_predictions(found)


def connected(workspace: Workspace, database: Any, folder: Path, url: str, extra: str) -> Path:
    institute.fill(database, 20, broken=False)
    mapping = institute.write_mapping(folder, url, extra)
    connect(workspace, mapping)
    predict(workspace)
    return mapping


def where_is(workspace: Workspace, number: int) -> tuple[str, int]:
    key = f"oid:{number:024x}"
    for record in workspace.catalogue.runs():
        labels = workspace.archive.open(record.run.run_id).particles().label
        if key in labels:
            return record.run.run_id, labels.index(key)
    raise AssertionError(key)


def say(workspace: Workspace, number: int, class_id: str, seconds: int = 0) -> None:
    run_id, index = where_is(workspace, number)
    at = institute.WHEN.replace(year=2025, second=seconds, microsecond=1234)
    workspace.catalogue.annotate([Annotation(run_id, index, class_id, Verdict.CORRECTED, "ada", at, Source.PERSON)])


def test_beside_the_documents_nothing_else_is_touched(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    mapping = connected(workspace, database, tmp_path, mongo_url, BESIDE)
    before = {d["_id"]: d for d in database.rois.find()}
    say(workspace, 3, "Copepoda")
    dry = write_back(workspace, mapping, dry_run=True)
    assert (dry["documents"], dry["undo"]) == (20, None) and len(dry["examples"]) == 3
    assert {d["_id"]: d for d in database.rois.find()} == before
    found = write_back(workspace, mapping)
    assert found["documents"] == 20 and found["problems"] == {} and found["undo"]
    after = {d["_id"]: d for d in database.rois.find()}
    results = {identity: document.pop("plankter") for identity, document in after.items()}
    assert after == before
    run_id, index = where_is(workspace, 3)
    result = results[ObjectId(f"{3:024x}")]
    assert (result["run_id"], result["index"], result["by"]) == (run_id, index, "plankter")
    assert [entry["score"] for entry in result["prediction"]["top"]] == pytest.approx([0.7, 0.2, 0.1])
    assert result["prediction"]["decision"] == result["prediction"]["top"][0]["class_id"]
    assert (result["label"]["class_id"], result["label"]["annotator"], result["label"]["status"]) == (
        "Copepoda", "ada", "validated"
    )  # fmt: skip
    assert results[ObjectId(f"{2:024x}")]["label"] is None  # their own label is theirs
    quantities = list(database.plankter_quantities.find())
    assert sum(row["count"] for row in quantities) == 20 and all(row["by"] == "plankter" for row in quantities)


def test_only_what_changed_is_written(database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    mapping = connected(workspace, database, tmp_path, mongo_url, BESIDE)
    write_back(workspace, mapping)
    again = write_back(workspace, mapping)
    assert (again["documents"], again["quantities"], again["runs"], again["undo"]) == (0, 0, 0, None)
    say(workspace, 3, "x")
    once = write_back(workspace, mapping)
    assert (once["documents"], once["runs"]) == (1, 1)
    predict(workspace, "m2")
    assert write_back(workspace, mapping)["documents"] == 20


@pytest.mark.parametrize("extra", [BESIDE, OWN], ids=["beside", "own"])
def test_everything_can_be_taken_back(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path, extra: str
) -> None:
    mapping = connected(workspace, database, tmp_path, mongo_url, extra)

    def everything() -> Any:
        return {name: list(database[name].find().sort("_id", 1)) for name in sorted(database.list_collection_names())}

    before = everything()
    first = write_back(workspace, mapping)
    written = everything()
    say(workspace, 3, "Copepoda")
    say(workspace, 4, "x")
    second = write_back(workspace, mapping)
    taken = undo(workspace, mapping, Path(second["undo"]))
    assert taken["problems"] == {} and everything() == written
    # what somebody changed since stays
    place = database.rois if extra == BESIDE else database.plankter_results
    field = "plankter.note" if extra == BESIDE else "note"
    place.update_one({"_id": ObjectId(f"{1:024x}")}, {"$set": {field: "mine"}})
    assert undo(workspace, mapping, Path(first["undo"]))["problems"][SINCE]["count"] == 1
    place.update_one({"_id": ObjectId(f"{1:024x}")}, {"$unset": {field: ""}})
    undo(workspace, mapping, Path(first["undo"]))
    now = {name: rows for name, rows in everything().items() if rows}
    assert now == {name: rows for name, rows in before.items() if rows}
    assert write_back(workspace, mapping)["documents"] == 20


@pytest.mark.parametrize("extra", [BESIDE, OWN], ids=["beside", "own"])
def test_what_is_not_ours_is_left_alone(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path, extra: str
) -> None:
    mapping = connected(workspace, database, tmp_path, mongo_url, extra)
    theirs = ObjectId(f"{5:024x}")
    if extra == BESIDE:
        database.rois.update_one({"_id": theirs}, {"$set": {"plankter": "the institute's own use of the word"}})
        database.rois.delete_one({"_id": ObjectId(f"{6:024x}")})
    else:
        database.plankter_results.insert_one({"_id": theirs, "value": 1})
    before = [d for d in database.rois.find() if d["_id"] == theirs]
    found = write_back(workspace, mapping)
    assert found["problems"][NOT_OURS]["count"] == 1
    assert found["documents"] == (18 if extra == BESIDE else 19)
    assert [d for d in database.rois.find() if d["_id"] == theirs] == before
    if extra == OWN:
        assert database.plankter_results.find_one({"_id": theirs}) == {"_id": theirs, "value": 1}
        assert database.rois.count_documents({"plankter": {"$exists": True}}) == 0
    assert write_back(workspace, mapping)["documents"] == 0


def test_a_mapping_that_could_harm_is_refused(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    mapping = connected(workspace, database, tmp_path, mongo_url, "")
    with pytest.raises(SettingsError, match=r"\[results\]"):
        write_back(workspace, mapping)
    for line in (
        'collection = "rois"', 'quantities = "rois"', 'quantities = "fs.files"', 'quantities = "plankter_results"',
    ):  # fmt: skip
        extra = f"\n[results]\n{line}\n"
        with pytest.raises(SettingsError, match="of their own"):
            write_back(workspace, institute.write_mapping(tmp_path, mongo_url, extra))
    for extra in ('\n[results]\ninto = "beside"\nfield = "a.b"\n', '\n[results]\ninto = "beside"\nfield = "_id"\n'):
        with pytest.raises(SettingsError, match="one field at the top"):
            write_back(workspace, institute.write_mapping(tmp_path, mongo_url, extra))
    with pytest.raises(SettingsError, match="name of a collection"):
        write_back(
            workspace, institute.write_mapping(tmp_path, mongo_url, '\n[results]\nquantities = "system.users"\n')
        )
    other = tmp_path / "other"
    other.mkdir()
    with open_workspace(init_workspace(other / "w")) as empty, pytest.raises(SettingsError, match="connect"):
        write_back(empty, institute.write_mapping(other, mongo_url, BESIDE))


def test_a_document_that_would_grow_over_the_limit_is_told_and_the_others_are_written(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    mapping = connected(workspace, database, tmp_path, mongo_url, BESIDE)
    full = ObjectId(f"{4:024x}")
    left = 16 * 1024 * 1024 - len(encode(database.rois.find_one({"_id": full}))) - 100
    database.rois.update_one({"_id": full}, {"$set": {"padding": b"\x00" * left}})
    found = write_back(workspace, mapping)
    ((reason, about),) = found["problems"].items()
    assert "16 MB" in reason and about["count"] == 1 and str(full) in str(about)
    assert found["documents"] == 19
    assert "plankter" not in database.rois.find_one({"_id": full}, {"padding": 0})
    assert write_back(workspace, mapping)["documents"] == 0  # told again, nothing written twice
    assert undo(workspace, mapping, Path(found["undo"]))["undone"] >= 19
    assert database.rois.count_documents({"plankter": {"$exists": True}}) == 0


def test_a_collection_whose_rules_forbid_our_field_is_told(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    mapping = connected(workspace, database, tmp_path, mongo_url, BESIDE)
    database.command("collMod", "rois", validator={"plankter": {"$exists": False}})
    found = write_back(workspace, mapping)
    ((reason, about),) = found["problems"].items()
    assert "validator" in reason and about["count"] == 20 and found["documents"] == 0
