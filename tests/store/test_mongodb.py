"""The MongoDB catalogue keeps the contract; what only it can get wrong is tested beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plankter._errors import NewerWorkspace, NotFound, StoreError
from plankter.store import mongodb_connect, mongodb_lease, mongodb_runs
from plankter.store.base import Catalogue, ParticleFilter
from plankter.store.locate import open_catalogue
from plankter.store.memory import SORTS
from plankter.store.mongodb import Change, MongoCatalogue
from plankter.store.mongodb_lease import Lease
from plankter.store.mongodb_schema import CLASS_COUNT, META, PARTICLE, RUN, SAMPLE, STANDING
from plankter.testing.catalogue import CatalogueContract
from plankter.testing.examples import example_fact, example_predictions, example_rows, example_run, run_id_of

A = run_id_of("a")


class TestMongodb(CatalogueContract):
    @pytest.fixture(autouse=True)
    def _server(self, mongo_url: str) -> None:
        self.url = mongo_url

    def make(self, folder: Path) -> Catalogue:
        return MongoCatalogue(self.url)


@pytest.fixture
def filled(mongo_url: str) -> Iterator[MongoCatalogue]:
    catalogue = MongoCatalogue(mongo_url)
    catalogue.put_run(example_run(), example_rows(5))
    catalogue.put_predictions(example_predictions())
    catalogue.annotate([example_fact(), example_fact(index=1, class_id="detritus")])
    yield catalogue
    catalogue.close()


def test_it_is_opened_by_its_address_and_keeps_what_was_written(filled: MongoCatalogue, mongo_url: str) -> None:
    again = open_catalogue(mongo_url)
    assert again.page(ParticleFilter()) == filled.page(ParticleFilter())
    assert again.class_counts() == filled.class_counts() and again.runs() == filled.runs()
    assert again.run(A).run == example_run()
    again.close()


def test_it_lives_beside_other_collections(mongo_url: str) -> None:
    catalogue = MongoCatalogue(mongo_url)
    catalogue.database.of("run").insert_one({"_id": 1, "state": "mine"})
    catalogue.put_run(example_run(), example_rows(3))
    catalogue.remove_run(A)
    assert catalogue.database.of("run").find_one() == {"_id": 1, "state": "mine"}
    assert catalogue.runs() == [] and catalogue.database.of(PARTICLE).count_documents({}) == 0
    catalogue.close()


def test_a_newer_schema_is_refused_and_left_alone(filled: MongoCatalogue, mongo_url: str) -> None:
    filled.database.of(META).update_one({"_id": "schema_version"}, {"$set": {"value": "99"}})
    with pytest.raises(NewerWorkspace, match="schema version 99"):
        MongoCatalogue(mongo_url)
    assert filled.database.of(META).find_one({"_id": "schema_version"}) == {"_id": "schema_version", "value": "99"}


def test_the_schema_version_cannot_be_overwritten(filled: MongoCatalogue) -> None:
    with pytest.raises(StoreError, match="own"):
        filled.put_meta("schema_version", "7")


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_every_page_is_read_off_an_index(filled: MongoCatalogue, sort: str, descending: bool) -> None:
    predicted = filled.page(ParticleFilter())[0][0].predicted
    walked = [
        ParticleFilter(), ParticleFilter(run_id=A), ParticleFilter(sample_id="station 1"),
        ParticleFilter(run_id=A, predicted=predicted), ParticleFilter(status="unlabelled"),
        ParticleFilter(run_id=A, label="detritus"),
    ]  # fmt: skip
    # the server sorts the rows of one class, label or status
    sorted_too = [ParticleFilter(predicted=predicted), ParticleFilter(label="detritus")]
    sorted_too = [*sorted_too, ParticleFilter(status="validated"), ParticleFilter(predicted=predicted, status="rule")]
    walked += sorted_too[:2] if sort == "score" else sorted_too[2:3] if sort == "index" else []
    database = filled.database.database
    database.command("profile", 2)
    for number, where in enumerate([*walked, *sorted_too], start=1):
        _, after = filled.page(where, sort=sort, descending=descending, limit=1)
        if after is not None:
            filled.page(where, sort=sort, descending=descending, after=after, limit=1)
        if number == len(walked):
            database.command("profile", 0)
            plain = list(database["system.profile"].find({"command.find": PARTICLE}))
            assert len(plain) > len(walked) and not [plan for plan in plain if plan.get("hasSortStage")]
            database.command("profile", 2)
    database.command("profile", 0)
    plans = [plan["planSummary"] for plan in database["system.profile"].find({"command.find": PARTICLE})]
    assert plans and all(plan.startswith("IXSCAN") for plan in plans), plans


def test_check_finds_what_was_changed_by_hand(filled: MongoCatalogue) -> None:
    assert filled.check() == []
    of = filled.database.of
    changes: list[tuple[str, Any, Any, str]] = [
        (CLASS_COUNT, {"_id": A}, {"$set": {"validated.0": 77}}, "counts"),
        (RUN, {"run_id": A}, {"$set": {"predicted": 7}}, "predicted is 7"),
        (PARTICLE, {"idx": 3}, {"$set": {"label": "x"}}, "particle 3"),
        (STANDING, {"idx": 1}, {"$set": {"annotator": "x"}}, "standing label"),
        (RUN, {"run_id": A}, {"$set": {"sample_id": "gone"}}, "sample"),
    ]
    for name, where, change, words in changes:
        before = of(name).find_one(where)
        assert before is not None
        of(name).update_one(where, change)
        assert any(words in problem for problem in filled.check()), words
        of(name).replace_one({"_id": before["_id"]}, before)
    assert of(SAMPLE).count_documents({}) == 1 and filled.check() == []


def test_labels_given_while_predictions_come_in_are_kept(
    filled: MongoCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb_runs, "CHUNK_ROWS", 2)
    original = filled.database.write
    turns: list[int] = []

    def write(work: Any) -> Any:
        turns.append(len(turns))
        if len(turns) == 4:  # two chunks are written aside
            monkeypatch.setattr(filled.database, "write", original)
            filled.annotate([example_fact(index=0, class_id="late"), example_fact(index=4, class_id="late")])
        return original(work)

    monkeypatch.setattr(filled.database, "write", write)
    filled.put_predictions(example_predictions(model_id="m2", seed=5))
    found = {row.index: row.label for row in filled.page(ParticleFilter())[0]}
    assert found[0] == found[4] == "late" and filled.run(A).model_id == "m2"
    assert filled.check() == []


def test_a_run_at_work_is_seen_by_no_question(filled: MongoCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb_runs, "CHUNK_ROWS", 4)
    original = filled.database.write
    seen: list[int] = []

    def write(work: Any) -> Any:
        result = original(work)
        for sort in SORTS:
            rows, _ = filled.page(ParticleFilter(), sort=sort)
            assert len(rows) in (5, 25), len(rows)
            seen.append(len(rows))
        assert sum(record.particles for record in filled.runs()) == seen[-1]
        return result

    monkeypatch.setattr(filled.database, "write", write)
    filled.put_run(example_run("b"), example_rows(20))
    assert seen.count(5) >= 4 * len(SORTS) and seen[-1] == 25


def test_what_a_killed_writer_left_is_cleared_and_what_one_at_work_has_is_not(filled: MongoCatalogue) -> None:
    of = filled.database.of
    for key, name in ((1001, "dead"), (1002, "alive")):
        of(RUN).insert_one({"_id": key, "run_id": run_id_of(name), "state": "ingesting"})
        row = {"_id": key << 32, "run_key": key, "run_id": run_id_of(name), "idx": 0, "width_px": 1, "height_px": 1}
        of(PARTICLE).insert_one(row)
    with Lease(filled.database, run_id_of("alive")).held():
        assert len(filled.page(ParticleFilter())[0]) == 5
        filled.put_run(example_run("b"), example_rows(2))
        assert {row["run_key"] for row in of(PARTICLE).find({"run_key": {"$gt": 1000}})} == {1002}
    filled.put_run(example_run("c"), example_rows(2))
    assert of(RUN).count_documents({"state": {"$ne": "done"}}) == 0


def test_a_writer_that_lost_its_lease_cannot_commit(filled: MongoCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb_lease, "LEASE_S", 0.001)
    monkeypatch.setattr(mongodb_runs, "CHUNK_ROWS", 2)
    original = filled.database.write
    turns: list[int] = []

    def write(work: Any) -> Any:
        turns.append(len(turns))
        if len(turns) == 3:
            threading.Event().wait(0.01)
            assert Lease(filled.database, A).taken()
        return original(work)

    monkeypatch.setattr(filled.database, "write", write)
    before = filled.page(ParticleFilter())
    with pytest.raises(StoreError, match="took over"):
        filled.put_predictions(example_predictions(model_id="m2", seed=5))
    assert filled.page(ParticleFilter()) == before and filled.run(A).model_id == "m1"


WRITE = """
import sys
from plankter.store.mongodb import MongoCatalogue
from plankter.testing.examples import example_fact, example_rows, example_run, example_predictions
c = MongoCatalogue(sys.argv[1]); n = int(sys.argv[2])
c.put_run(example_run("both"), example_rows(3000))
for turn in range(10):
    c.annotate([example_fact("both", index, f"c{n}", seconds=turn, by=sys.argv[2]) for index in range(40)])
c.put_predictions(example_predictions("both", tuple(range(3000)), seed=n))
c.close()
"""


def test_two_processes_write_the_same_run_at_once(filled: MongoCatalogue, mongo_url: str) -> None:
    command = [sys.executable, "-c", WRITE, mongo_url]
    workers = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE, text=True) for n in range(2)]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    facts = list(filled.annotations(run_id_of("both")))
    assert len(facts) == 800 and len(filled.page(ParticleFilter(), limit=9999)[0]) == 3005
    for by in "01":
        assert [f.at for _, f in facts if f.annotator == by] == sorted(f.at for _, f in facts if f.annotator == by)
    assert filled.run(run_id_of("both")).validated == 40 and filled.check() == []


def test_changes_are_told_live(filled: MongoCatalogue) -> None:
    stream = filled.changes(wait_s=0.05)
    assert next(stream) is None
    filled.annotate([example_fact(index=2)])
    filled.put_predictions(example_predictions(model_id="m2"))
    found = set()
    for _, change in zip(range(40), stream, strict=False):
        found.add(change)
    assert {Change("label", A, 2), Change("run", A)} <= found
    stream.close()


def test_no_server_no_replica_set_and_nonsense_are_said_plainly(make_mongod: Callable[..., Any]) -> None:
    with pytest.raises(StoreError, match="no MongoDB server answers") as caught:
        MongoCatalogue("mongodb://ada:se%2Fcret@127.0.0.1:9/x?serverSelectionTimeoutMS=200")
    assert "cret" not in str(caught.value) + repr(caught.value.as_dict()) and "ada:***@127.0.0.1:9" in str(caught.value)
    with pytest.raises(StoreError, match="not understood"):
        MongoCatalogue("mongodb://ada:sec/ret@127.0.0.1:notaport/x")
    alone = make_mongod(replica_set=False)
    with pytest.raises(StoreError, match="replica set") as caught:
        MongoCatalogue(alone.address)
    assert "rs.initiate" in str(caught.value)
    alone.stop()


def test_a_server_that_stops_and_comes_back(make_mongod: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb_connect, "OUTAGE_S", 0.2)
    server = make_mongod()
    catalogue = MongoCatalogue(f"{server.address}/w?serverSelectionTimeoutMS=500")
    catalogue.put_run(example_run(), example_rows(4))
    server.kill()
    with pytest.raises(StoreError, match="no MongoDB server answers"):
        catalogue.annotate([example_fact()])
    with pytest.raises(StoreError, match="no MongoDB server answers"):
        catalogue.put_run(example_run("b"), example_rows(4))
    server.start()
    assert [r.run.name for r in catalogue.runs()] == ["a"]
    catalogue.annotate([example_fact()])
    catalogue.put_run(example_run("b"), example_rows(4))
    assert catalogue.run(A).validated == 1 and catalogue.check() == []
    catalogue.close()
    server.stop()


def test_a_wrong_password_and_a_user_who_may_only_read(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host = guarded.address.removeprefix("mongodb://")
    with pytest.raises(StoreError, match="refused user name or password") as caught:
        MongoCatalogue(f"mongodb://writer:wr0ng@{host}/w")
    assert "wr0ng" not in str(caught.value) and "wr0ng" not in repr(caught.value.__dict__)
    monkeypatch.setenv("PLANKTER_MONGODB_PASSWORD", "p/ss:word@")
    writer = MongoCatalogue(f"mongodb://writer@{host}/w")
    writer.put_run(example_run(), example_rows(3))
    writer.close()
    monkeypatch.setenv("OTHER", "p/ss:word@")
    reader = MongoCatalogue(f"mongodb://reader:${{OTHER}}@{host}/w")
    assert reader.run(A).particles == 3
    with pytest.raises(StoreError, match="no right") as caught:
        reader.annotate([example_fact()])
    assert "readWrite" in str(caught.value) and "p/ss" not in str(caught.value)
    with pytest.raises(NotFound):
        reader.run(run_id_of("nothing"))
    reader.close()
