"""A second pass finds what is new or changed, whatever date it carries and whoever's clock is wrong."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import institute
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from plankter.formats.mapping_file import read_mapping
from plankter.store.source_database import SourceDatabase
from plankter.workflow import connect_look
from plankter.workflow.connect import connect, ledger_path
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace

OLD = institute.WHEN - timedelta(days=400)
LAST = institute.WHEN + timedelta(seconds=19)


@pytest.fixture
def rois(mongo_url: str) -> Iterator[Any]:
    """Twenty documents with the ids 100 to 119 and dates a second apart."""
    with MongoClient[dict[str, Any]](mongo_url, tz_aware=True) as client:
        found = client.get_default_database().rois
        found.insert_many([made(100 + n, institute.WHEN + timedelta(seconds=n)) for n in range(20)])
        yield found


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(init_workspace(tmp_path / "w")) as opened:
        yield opened


@pytest.fixture
def go(rois: Any, mongo_url: str, workspace: Workspace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    mapping = institute.write_mapping(tmp_path, mongo_url)

    def once(**rest: Any) -> dict[str, Any]:
        return connect(workspace, mapping, **rest)

    once()
    return once


def made(number: int, at: Any, label: str = "cop") -> dict[str, Any]:
    found = institute.document(number, None) | {"updated_at": at}
    return found | {"label": {"taxon": label, "by": "eva", "at": institute.WHEN}}


def key(number: int) -> dict[str, Any]:
    return {"_id": ObjectId(f"{number:024x}")}


def change(rois: Any, number: int, at: Any, label: str = "Ciliophora") -> None:
    rois.update_one(key(number), {"$set": {"updated_at": at, "label.taxon": label}})


def days_later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    now = connect_look.time.time()
    monkeypatch.setattr(connect_look.time, "time", lambda: now + days * 86_400)


def test_a_new_document_of_an_old_date_is_found_by_its_id(rois: Any, go: Callable[..., dict[str, Any]]) -> None:
    rois.insert_one(made(200, OLD))
    found = go()
    assert (found["new"], found["compared"], found["documents"]) == (1, 0, 2)  # and the one of the newest date
    assert (go()["new"], go()["documents"]) == (0, 1)


def test_one_of_an_old_date_and_an_old_id_is_missed_by_number(rois: Any, go: Callable[..., dict[str, Any]]) -> None:
    rois.insert_one(made(3, OLD))
    found = go()
    assert (found["new"], found["compared"], found["documents"]) == (1, 21, 2)
    assert go()["compared"] == 0
    rois.delete_one(key(105))
    found = go()
    assert found["compared"] == 20 and found["problems"][connect_look.GONE]["count"] == 1
    assert go()["compared"] == 0


def test_one_that_replaces_another_is_found_within_a_day(
    rois: Any, go: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rois.delete_one(key(105))
    rois.insert_one(made(3, OLD))
    assert go()["new"] == 0
    days_later(monkeypatch, 0.9)
    assert go()["new"] == 0
    days_later(monkeypatch, 0.2)
    found = go()
    assert (found["new"], found["problems"][connect_look.GONE]["count"]) == (1, 1)
    days_later(monkeypatch, -3)  # this computer's clock was set back
    assert go()["compared"] == 20


def test_a_change_by_a_clock_that_is_behind(
    rois: Any, go: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(rois, 102, LAST - timedelta(seconds=200))
    found = go()
    assert (found["changed"], found["compared"], found["documents"], found["labels"]) == (1, 0, 2, 1)
    change(rois, 103, LAST - timedelta(days=2))  # by more than `skew_s`
    assert go()["changed"] == 0
    days_later(monkeypatch, 1.1)
    assert go()["changed"] == 1


def test_a_clock_that_runs_ahead_hides_nothing(rois: Any, go: Callable[..., dict[str, Any]]) -> None:
    ahead = datetime.now(UTC) + timedelta(days=3000)
    change(rois, 102, ahead)
    rois.insert_one(made(200, ahead) | {"_id": ObjectId.from_datetime(ahead)})
    assert (found := go())["changed"] == 1 and found["new"] == 1
    change(rois, 103, LAST + timedelta(seconds=1))
    rois.insert_one(made(201, OLD))
    found = go()
    assert (found["changed"], found["new"], found["compared"]) == (1, 1, 0)
    assert go(whole=True)["changed"] == 0
    change(rois, 104, LAST + timedelta(seconds=2))
    assert go()["changed"] == 1


def test_a_mark_that_an_earlier_version_took_from_such_a_clock(
    rois: Any, go: Callable[..., dict[str, Any]], workspace: Workspace, tmp_path: Path
) -> None:
    path = ledger_path(workspace, read_mapping(tmp_path / "institute.toml"))
    with sqlite3.connect(path) as ledger:
        ahead = '{"v": {"$date": {"$numberLong": "7258118400000"}}}'
        ledger.execute("UPDATE state SET value = ? WHERE name IN ('newest', 'changed')", (ahead,))
        ledger.execute("ALTER TABLE document DROP COLUMN stamp")
        ledger.execute("DELETE FROM state WHERE name IN ('compared', 'top', 'began', 'there')")
    ledger.close()
    change(rois, 104, LAST)
    found = go()
    assert (found["documents"], found["changed"]) == (20, 1)
    assert go()["documents"] == 2  # those of the newest date


def test_what_changes_while_a_pass_goes_on_is_found_by_the_next(
    rois: Any, go: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SourceDatabase.scan
    now = datetime.now(UTC)

    def scan(self: SourceDatabase, *arguments: Any, **rest: Any) -> Iterator[list[Any]]:
        for batch in original(self, *arguments, **rest):
            yield batch
            change(rois, 101, datetime.now(UTC))  # after it was looked at
            rois.insert_one(made(500, datetime.now(UTC)))

    monkeypatch.setattr(SourceDatabase, "scan", scan)
    change(rois, 110, now)
    assert go(whole=True)["changed"] == 1
    monkeypatch.setattr(SourceDatabase, "scan", original)
    found = go()
    assert (found["changed"], found["new"]) == (1, 1)
    assert go()["compared"] == 0


def test_documents_that_come_in_all_the_time_are_no_reason_to_compare(
    rois: Any, go: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, numbers = SourceDatabase.count, iter(range(600, 700))

    def count(self: SourceDatabase) -> int:
        found = original(self)
        rois.insert_one(made(next(numbers), datetime.now(UTC)))
        return found

    monkeypatch.setattr(SourceDatabase, "count", count)
    for _ in range(3):
        found = go()
        assert found["new"] >= 1 and found["compared"] == 0
    rois.insert_one(made(3, OLD))
    monkeypatch.setattr(SourceDatabase, "count", original)
    assert go()["compared"] > 20


def test_a_comparison_that_was_cut_short_goes_on(
    rois: Any, go: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plankter.store.source_database.BATCH", 4)
    rois.insert_many([made(n, OLD) for n in (3, 5)])
    change(rois, 118, OLD)

    def cut(step: str, done: int, total: int | None) -> None:
        if step == "compared" and done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(progress=cut)
    found = go()
    assert (found["compared"], found["changed"]) == (14, 1)
    assert go()["compared"] == 0
    assert found["total"] == {"documents": 22, "placed": 22, "runs": found["total"]["runs"]}


def test_numbers_as_ids_and_a_filter(mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    with MongoClient[dict[str, Any]](mongo_url, tz_aware=True) as client:
        rois = client.get_default_database().rois
        rois.insert_many([made(n, LAST) | {"_id": n, "kind": n % 2} for n in range(10, 20)])
        mapping = institute.write_mapping(tmp_path, mongo_url, name='name = "i"\nfilter = { kind = 1 }')
        assert connect(workspace, mapping)["new"] == 5
        rois.insert_many([made(n, OLD) | {"_id": n, "kind": n % 2} for n in (30, 31)])
        found = connect(workspace, mapping)
        assert (found["new"], found["compared"]) == (1, 0)
        rois.insert_many([made(n, OLD) | {"_id": n, "kind": n % 2} for n in (1, 2)])
        found = connect(workspace, mapping)
        assert (found["new"], found["compared"]) == (1, 7)


DATES = st.sampled_from([OLD, LAST, LAST + timedelta(days=1), datetime(2200, 1, 1, tzinfo=UTC), None, "text", 7, 8.5])
STEP = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 30), DATES), st.tuples(st.just("change"), st.integers(0, 30), DATES),
    st.tuples(st.just("delete"), st.integers(0, 30), st.none()),
)  # fmt: skip


@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(STEP, max_size=8), min_size=1, max_size=3))
def test_whatever_happens_there_in_the_end_all_is_level(mongod: Any, turns: list[list[Any]]) -> None:
    url = f"{mongod.address}/test_{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory() as folder, MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        rois, words = client.get_default_database().rois, iter(range(10_000))
        rois.insert_many([made(n, LAST) for n in range(40, 45)])
        with open_workspace(init_workspace(Path(folder) / "w")) as workspace:
            mapping = institute.write_mapping(Path(folder), url, name='name = "i"\ncompare_h = 0')
            connect(workspace, mapping)
            for steps in turns:
                for what, number, at in steps:
                    label = f"class_{next(words)}"
                    if what == "change":
                        # with a field that says nothing new a change cannot be told, so each is of its own date
                        own = at + timedelta(milliseconds=next(words)) if isinstance(at, datetime) else at
                        change(rois, number, own, label)
                    elif what == "delete":
                        rois.delete_one(key(number))
                    elif rois.find_one(key(number)) is None:
                        rois.insert_one(made(number, at, label))
                connect(workspace, mapping)
                standing: dict[str, str | None] = {}
                for record in workspace.catalogue.runs():
                    keys = workspace.archive.open(record.run.run_id).particles().label
                    labels = workspace.catalogue.standing(record.run.run_id)
                    standing |= {name: labels[index].class_id for index, name in enumerate(keys)}
                for document in rois.find():
                    said = "Copepoda" if document["label"]["taxon"] == "cop" else document["label"]["taxon"]
                    assert standing[f"oid:{document['_id']}"] == said, document
        client.drop_database(client.get_default_database().name)
