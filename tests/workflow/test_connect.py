"""An existing image database is read gently, wholly, once; what does not fit is counted by its reason."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import institute
import pytest
from bson import Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo import MongoClient

from plankter._errors import SettingsError, StoreError
from plankter.store.source_images import DEAD, NO_IMAGE, ODD, OUTSIDE
from plankter.workflow import connect as connect_step
from plankter.workflow.connect import connect, follow, ledger_path
from plankter.workflow.connect_look import IMAGE_CHANGED
from plankter.workflow.connect_propose import propose
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace


@pytest.fixture
def database(mongo_url: str) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](mongo_url, tz_aware=True, uuidRepresentation="standard") as client:
        yield client.get_default_database()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(init_workspace(tmp_path / "w")) as opened:
        yield opened


def counts(found: dict[str, Any]) -> dict[str, int]:
    return {reason: entry["count"] for reason, entry in found["problems"].items()}


def particles(workspace: Workspace) -> dict[str, tuple[str, int]]:
    """Document -> run and index; fails where one is there twice."""
    found: dict[str, tuple[str, int]] = {}
    for record in workspace.catalogue.runs():
        for index, key in enumerate(workspace.archive.open(record.run.run_id).particles().label):
            assert key not in found
            found[key] = (record.run.run_id, index)
    return found


def test_documents_become_runs_with_samples_labels_and_measures(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    institute.fill(database)
    before = list(database.rois.find())
    found = connect(workspace, institute.write_mapping(tmp_path, mongo_url))
    assert (found["documents"], found["new"], len(found["runs"])) == (60, 60, 2)
    assert counts(found) == {
        NO_IMAGE: 6, DEAD: 1, ODD: 1, "the image cannot be decoded": 1, "label.class: a text was expected": 1,
        "label.at: a date as ISO 8601 was expected": 1, "measures.source_area: a number was expected": 1,
    }  # fmt: skip
    assert found["images_read"] == 60 - 6 - 2
    for record in workspace.catalogue.runs():
        assert record.run.instrument == "flowcam" and record.run.um_per_px == 0.5 and record.particles == 30
        sample = workspace.catalogue.sample(record.run.sample_id)
        assert (sample.latitude_deg, sample.longitude_deg) == (51.5, 2.75) and sample.sampled_at == institute.WHEN
        assert sample.station == f"st{sample.sample_id[1]}" and sample.environment == {"temperature_degC": 11.5}
    where = particles(workspace)
    assert len(where) == 60
    run_id, index = where["oid:" + f"{1:024x}"]
    label = workspace.catalogue.standing(run_id)[index]
    assert (label.class_id, label.annotator, label.at) == ("Copepoda", "eva", institute.WHEN)
    assert workspace.archive.open(run_id).particles().features["source_area"][index] == 101
    failures = [
        f for r in workspace.catalogue.runs() for f in workspace.archive.open(r.run.run_id).particles().failure if f
    ]
    assert len(failures) == 3
    assert list(database.rois.find()) == before
    assert workspace.catalogue.check() == []


def test_a_second_time_reads_no_image_and_changes_nothing(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    institute.fill(database)
    mapping = institute.write_mapping(tmp_path, mongo_url)
    connect(workspace, mapping)
    facts = list(workspace.catalogue.annotations())
    for whole in (False, True):
        again = connect(workspace, mapping, whole=whole)
        assert (again["new"], again["changed"], again["images_read"], again["labels"], again["runs"]) == (
            0,
            0,
            0,
            0,
            [],
        )
        assert again["documents"] == (60 if whole else 1)  # the newest, as another could have its time
    assert list(workspace.catalogue.annotations()) == facts


def test_what_changes_in_the_source_is_taken_over(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    institute.fill(database, 20, broken=False)
    mapping = institute.write_mapping(tmp_path, mongo_url)
    connect(workspace, mapping)
    key = ObjectId(f"{1:024x}")
    run_id, index = particles(workspace)[f"oid:{key}"]

    def say(taxon: str | None, seconds: int) -> dict[str, Any]:
        now = institute.WHEN + timedelta(days=1, seconds=seconds)
        label = {"$set": {"label": {"taxon": taxon, "by": "tom", "at": now}, "updated_at": now}}
        gone = {"$unset": {"label": ""}, "$set": {"updated_at": now}}
        database.rois.update_one({"_id": key}, label if taxon else gone)
        return connect(workspace, mapping)

    assert say("detritus", 1)["labels"] == 1
    assert workspace.catalogue.standing(run_id)[index].class_id == "Detritus"
    say("cop", 2)
    standing = workspace.catalogue.standing(run_id)[index]
    assert (standing.class_id, standing.annotator) == ("Copepoda", "tom")
    assert say(None, 3)["changed"] == 1
    assert index not in workspace.catalogue.standing(run_id)
    say("Ciliophora", 4)
    assert workspace.catalogue.standing(run_id)[index].class_id.startswith("Ciliophora")
    # new documents are new runs; a changed image is told, not taken
    database.rois.insert_many([institute.document(n, None) for n in (100, 101)])
    other = {"image_id": "other", "updated_at": institute.WHEN + timedelta(days=9)}
    database.rois.update_one({"_id": key}, {"$set": other})
    found = connect(workspace, mapping)
    assert found["new"] == 2 and counts(found)[IMAGE_CHANGED] == 1
    whole = connect(workspace, mapping, whole=True)
    assert whole["new"] == 0 and len(particles(workspace)) == 22
    database.rois.delete_one({"_id": key})
    assert counts(connect(workspace, mapping, whole=True))["the document left the source; its particle stays"] == 1
    assert len(particles(workspace)) == 22 and workspace.catalogue.check() == []


def test_a_dry_run_writes_and_reads_nothing(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    institute.fill(database)
    found = connect(workspace, institute.write_mapping(tmp_path, mongo_url), dry_run=True)
    assert (found["documents"], found["runs"], found["images"]) == (60, 2, 52)
    assert {name: entry["class_id"] for name, entry in found["classes"].items()} == {
        "Copepoda": None,
        "detritus": "Detritus",
    }
    assert counts(found)[DEAD] == 1
    assert workspace.catalogue.runs() == [] and not (workspace.folder / "connected").exists()


def test_a_run_that_was_taken_out_is_read_anew(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    from plankter.workflow.samples import remove

    institute.fill(database, 20)
    mapping = institute.write_mapping(tmp_path, mongo_url)
    connect(workspace, mapping)
    before = sorted(particles(workspace))
    facts = len(list(workspace.catalogue.annotations()))
    remove(workspace, [workspace.catalogue.runs()[0].run.run_id])
    assert len(particles(workspace)) == 10
    connect(workspace, mapping)
    assert sorted(particles(workspace)) == before and len(list(workspace.catalogue.annotations())) == facts


def test_a_lost_ledger_doubles_nothing(database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    institute.fill(database)
    mapping = institute.write_mapping(tmp_path, mongo_url)
    connect(workspace, mapping)
    facts = list(workspace.catalogue.annotations())
    for path in (workspace.folder / "connected").iterdir():
        path.unlink()
    again = connect(workspace, mapping)
    assert (again["new"], again["images_read"], again["labels"]) == (0, 0, 0)
    assert len(particles(workspace)) == 60 and list(workspace.catalogue.annotations()) == facts


def test_killed_at_random_nothing_is_doubled_or_lost(database: Any, mongo_url: str, tmp_path: Path) -> None:
    institute.fill(database, 150)
    mapping = institute.write_mapping(tmp_path, mongo_url, particles="particles = 6")
    folder = init_workspace(tmp_path / "w")
    command = [sys.executable, "-m", "plankter.cli", "connect", str(mapping), "-w", str(folder), "--json"]
    rng = random.Random(4)
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.8, 4))
            process.kill()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["total"]["placed"] == 150
    with open_workspace(folder) as workspace:
        assert len(particles(workspace)) == 150
        labelled = [fact for _, fact in workspace.catalogue.annotations()]
        assert len(labelled) == len(set(labelled)) == 99
        assert set(workspace.journal.read()) == set(labelled)
        assert workspace.catalogue.check() == []


def test_mixed_types_in_the_field_that_tells_a_change(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    institute.fill(database, 20, broken=False)
    odd = ObjectId(f"{2:024x}")
    database.rois.update_one({"_id": odd}, {"$set": {"updated_at": "yesterday"}})
    mapping = institute.write_mapping(tmp_path, mongo_url)
    connect(workspace, mapping)
    database.rois.update_one({"_id": odd}, {"$set": {"label.taxon": "Ciliophora"}})
    assert connect(workspace, mapping)["changed"] == 1
    assert connect(workspace, mapping)["documents"] == 2


def test_images_in_the_documents_and_a_document_of_16_mb(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    for number in range(6):
        database.rois.insert_one(institute.document(number, institute.png(number)))
    database.rois.insert_one(institute.document(6, b"\x00" * (16 * 1024 * 1024 - 1000)))
    database.rois.insert_one(institute.document(7, "text"))
    database.rois.insert_one(institute.document(8, b""))
    found = connect(workspace, institute.write_mapping(tmp_path, mongo_url, kind='kind = "binary"'))
    assert found["images_read"] == 7
    assert counts(found) == {ODD: 1, NO_IMAGE: 1, "the image cannot be decoded": 1}
    assert sum(record.vignettes for record in workspace.catalogue.runs()) == 6
    assert connect(workspace, tmp_path / "institute.toml", whole=True)["images_read"] == 0


def test_images_in_a_folder_stay_below_it(database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.png").write_bytes(institute.png(1))
    (tmp_path / "secret.png").write_bytes(institute.png(2))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    paths = [
        "a/1.png",
        "a\\1.png",
        "a/none.png",
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "a",
        "x\x00y",
        7,
    ]
    database.rois.insert_many([institute.document(n, path) for n, path in enumerate(paths)])
    mapping = institute.write_mapping(tmp_path, mongo_url, kind=f'kind = "path"\nroot = "{root}"')
    dry = connect(workspace, mapping, dry_run=True)
    found = connect(workspace, mapping)
    assert counts(found) == counts(dry) == {OUTSIDE: 4, DEAD: 2, ODD: 1}
    assert sum(record.vignettes for record in workspace.catalogue.runs()) == 2


def test_passwords_stay_unsaid_and_a_server_that_is_not_there_is_told(workspace: Workspace, tmp_path: Path) -> None:
    mapping = institute.write_mapping(tmp_path, "mongodb://ada:hush-hush@127.0.0.1:9/x?serverSelectionTimeoutMS=100")
    with pytest.raises(StoreError, match="no MongoDB server") as caught:
        connect(workspace, mapping)
    assert "hush" not in str(caught.value) + repr(caught.value.as_dict())


def test_a_collection_that_is_not_there(mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds nothing"):
        connect(workspace, institute.write_mapping(tmp_path, mongo_url))


def test_it_stays_connected(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_step, "SETTLE_S", 0.3)
    institute.fill(database, 10, broken=False)
    mapping = institute.write_mapping(tmp_path, mongo_url)
    reports: list[dict[str, Any]] = []
    ended = threading.Event()
    until = time.monotonic() + 60

    def stop() -> bool:
        return ended.is_set() or time.monotonic() > until

    def told(found: dict[str, Any]) -> None:
        reports.append(found)
        if len(reports) == 1:
            database.rois.insert_one(institute.document(50, None))
            database.rois.update_one({"_id": ObjectId(f"{1:024x}")}, {"$set": {"label.taxon": "Ciliophora"}})
        elif sum(report["new"] + report["changed"] for report in reports) >= 12:
            ended.set()

    follow(workspace, mapping, stop=stop, told=told)
    assert ended.is_set() and len(particles(workspace)) == 11
    database.rois.insert_one(institute.document(51, None))  # while nobody listens
    ended.clear()
    reports[1:] = []
    follow(workspace, mapping, stop=lambda: len(reports) > 1 or stop(), told=lambda found: reports.append(found))
    assert len(particles(workspace)) == 12 and reports[1]["new"] == 1


def test_a_mapping_is_proposed_and_works(database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    institute.fill(database)
    found = propose(mongo_url, "rois", tmp_path / "new.toml")
    assert found["proposed"]["image"] == {"kind": "gridfs", "field": "image_id", "bucket": "fs"}
    assert found["proposed"]["label"] == {"class": "label.taxon", "annotator": "label.by", "at": "label.at"}
    assert found["proposed"]["sample"]["latitude_deg"] == "sample.lat" and found["proposed"]["changed"] == "updated_at"
    text = (tmp_path / "new.toml").read_text(encoding="utf-8")
    assert "100% of documents" in text and "eva" in text
    assert connect(workspace, tmp_path / "new.toml", dry_run=True)["images"] == 52
    assert not ledger_path(workspace, connect_step.read_mapping(tmp_path / "new.toml")).exists()


def test_a_server_that_stops_in_the_middle(
    make_mongod: Callable[..., Any], workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_mongod()
    address = f"{server.address}/own?serverSelectionTimeoutMS=500"
    with MongoClient[dict[str, Any]](server.address) as client:
        institute.fill(client.own, 60, broken=False)
    mapping = institute.write_mapping(tmp_path, address, particles="particles = 10")
    original = connect_step.fill

    def stopping(work: Any, progress: Any) -> None:
        turns: list[int] = []

        def count(step: str, done: int, total: int | None) -> None:
            turns.append(done)
            if step == "documents" and done == 20:
                server.kill()

        original(work, count)

    monkeypatch.setattr(connect_step, "fill", stopping)
    with pytest.raises(StoreError, match="no MongoDB server answers"):
        connect(workspace, mapping)
    monkeypatch.setattr(connect_step, "fill", original)
    assert len(particles(workspace)) == 20
    server.start()
    connect(workspace, mapping)
    assert len(particles(workspace)) == 60
    server.stop()


def test_a_source_without_change_streams_is_looked_at_again_and_again(
    make_mongod: Callable[..., Any], workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_step, "POLL_S", 0.1)
    server = make_mongod(replica_set=False)
    mapping = institute.write_mapping(tmp_path, f"{server.address}/own")
    new: list[int] = []
    with MongoClient[dict[str, Any]](server.address) as client:
        institute.fill(client.own, 6, broken=False)

        def told(found: dict[str, Any]) -> None:
            if not new:
                client.own.rois.insert_one(institute.document(70, None))
            new.append(found["new"])

        follow(workspace, mapping, stop=lambda: sum(new) >= 7 or len(new) > 50, told=told)
    assert new[0] == 6 and sum(new) == 7 and len(particles(workspace)) == 7
    server.stop()


def test_whatever_a_database_can_hold_is_counted_and_stops_nothing(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    odd: list[Any] = [
        Regex("a"), Decimal128("1.5"), Code("x"), MinKey(), MaxKey(), Timestamp(1, 1), b"bytes", True, 7, 2.5, [], {},
        DBRef("c", 1), uuid.uuid4(), "x" * 5000, "\x00", datetime.max,
    ]  # fmt: skip
    for number, value in enumerate(odd):
        found = institute.document(number, value)
        found |= {"area": value, "ctd": {"temp": value}, "label": {"taxon": value, "by": value, "at": value}}
        found["sample"] |= {"at": value, "lat": value}
        database.rois.insert_one(found)
    database.rois.insert_one({"_id": {"a": datetime(2024, 1, 1)}, "sample": "no document", "label": [1]})
    mapping = institute.write_mapping(tmp_path, mongo_url, changed="# none")
    dry = connect(workspace, mapping, dry_run=True)
    found = connect(workspace, mapping)
    assert found["new"] == dry["documents"] == len(odd) + 1 == len(particles(workspace))
    assert counts(found)[ODD] >= 8 and counts(found)["measures.source_area: a number was expected"] >= 8
    again = connect(workspace, mapping)
    assert (again["new"], again["changed"], again["labels"]) == (0, 0, 0) and workspace.catalogue.check() == []


def test_numbers_may_tell_a_change(database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    for number in range(8):
        version = Int64(number) if number % 2 else float(number)
        database.rois.insert_one(institute.document(number, None) | {"updated_at": version})
    mapping = institute.write_mapping(tmp_path, mongo_url)
    assert connect(workspace, mapping)["new"] == 8
    database.rois.update_one({"updated_at": 3}, {"$set": {"updated_at": Int64(2**40), "label.taxon": "Ciliophora"}})
    again = connect(workspace, mapping)
    assert (again["documents"], again["changed"]) == (2, 1)
    assert connect(workspace, mapping)["documents"] == 1
