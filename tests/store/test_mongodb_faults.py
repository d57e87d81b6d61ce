"""What can go wrong with a server in the middle of a write: tried again where that is safe, else said once, nothing lost or
doubled. The faults are the server's own, made by its fail points."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from plankter._errors import StoreError
from plankter.store import mongodb_connect
from plankter.store.base import ParticleFilter
from plankter.store.mongodb import MongoCatalogue
from plankter.testing.examples import example_fact, example_predictions, example_rows, example_run, run_id_of

A = run_id_of("a")
APP = "plankter"
STEPPED_DOWN, DISK_FULL, CONFLICT = 189, 14031, 112


@pytest.fixture(scope="module")
def server(make_mongod: Callable[..., Any]) -> Iterator[Any]:
    found = make_mongod("--setParameter", "enableTestCommands=1")
    yield found
    found.stop()


@pytest.fixture
def filled(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoCatalogue]:
    monkeypatch.setattr(mongodb_connect, "OUTAGE_S", 3.0)
    catalogue = MongoCatalogue(f"{server.address}/faults?serverSelectionTimeoutMS=3000")
    catalogue.put_run(example_run(), example_rows(5))
    catalogue.put_predictions(example_predictions())
    yield catalogue
    catalogue.database.client.drop_database("faults")
    catalogue.close()


@contextmanager
def failing(server: Any, *commands: str, times: int | None = 1, **how: Any) -> Iterator[None]:
    """The server fails these commands of ours: ``times`` in a row, for ever with None."""
    mode: Any = "alwaysOn" if times is None else {"times": times}
    with MongoClient[dict[str, Any]](server.address, directConnection=True) as client:
        data = {"failCommands": list(commands), "appName": APP, **how}
        client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def sound(catalogue: MongoCatalogue, facts: int, runs: int = 1) -> None:
    assert len(list(catalogue.annotations())) == facts
    assert len(catalogue.runs()) == runs and catalogue.check() == []


@pytest.mark.parametrize("command", ["insert", "update", "find", "commitTransaction"])
@pytest.mark.parametrize(
    "how", [{"closeConnection": True}, {"errorCode": STEPPED_DOWN}], ids=["connection cut", "step-down"]
)
def test_one_fault_in_a_transaction_is_tried_again(
    server: Any, filled: MongoCatalogue, command: str, how: dict[str, Any]
) -> None:
    with failing(server, command, **how):
        filled.annotate([example_fact(index=index) for index in range(3)])
    with failing(server, command, **how):
        filled.put_predictions(example_predictions(model_id="m2"))
    with failing(server, command, **how):
        filled.put_run(example_run("b"), example_rows(4))
    sound(filled, 3, 2)
    assert filled.run(A).validated == 3 and filled.run(A).model_id == "m2"


def test_a_commit_whose_answer_is_lost_is_made_once(server: Any, filled: MongoCatalogue) -> None:
    """The server commits and does not know whether the others have it: to write it anew would double the labels."""
    lost = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
    with failing(server, "commitTransaction", times=2, **lost):
        filled.annotate([example_fact(index=1)])
    sound(filled, 1)


def test_two_writers_run_into_each_other(server: Any, filled: MongoCatalogue) -> None:
    labelled = {"errorCode": CONFLICT, "errorLabels": ["TransientTransactionError"]}
    with failing(server, "insert", times=5, **labelled):
        filled.annotate([example_fact(index=1)])
    sound(filled, 1)


def test_connections_that_are_cut_all_the_time_end_in_one_message(server: Any, filled: MongoCatalogue) -> None:
    before = filled.page(ParticleFilter())
    with failing(server, "insert", times=None, closeConnection=True), pytest.raises(StoreError) as caught:
        filled.annotate([example_fact()])
    assert "no MongoDB server answers" in str(caught.value) and "repeat the command" in str(caught.value)
    sound(filled, 0)
    assert filled.page(ParticleFilter()) == before
    filled.annotate([example_fact()])
    sound(filled, 1)


def test_a_full_disk_is_said_plainly_and_nothing_is_half_written(server: Any, filled: MongoCatalogue) -> None:
    before = filled.page(ParticleFilter())
    for write in (
        lambda: filled.annotate([example_fact()]),
        lambda: filled.put_run(example_run("b"), example_rows(4)),
        lambda: filled.put_predictions(example_predictions(model_id="m2")),
    ):
        with failing(server, "insert", times=None, errorCode=DISK_FULL), pytest.raises(StoreError) as caught:
            write()
        assert "disk" in str(caught.value) and "space" in str(caught.value)
        sound(filled, 0)
        assert filled.page(ParticleFilter()) == before
    filled.put_run(example_run("b"), example_rows(4))
    sound(filled, 0, 2)


def test_what_is_larger_than_16_mb_is_refused_with_a_message(filled: MongoCatalogue) -> None:
    with pytest.raises(StoreError, match="16 MB"):
        filled.put_model("m9", "large", {"note": "x" * 17_000_000})
    with pytest.raises(StoreError, match="16 MB"):
        filled.annotate([example_fact(class_id="y" * 17_000_000)])
    sound(filled, 0)
    assert "m9" not in filled.models()
    filled.annotate([example_fact()])
    sound(filled, 1)


def test_a_primary_steps_down_while_labels_are_given(server: Any, filled: MongoCatalogue, monkeypatch: Any) -> None:
    monkeypatch.setattr(mongodb_connect, "OUTAGE_S", 30.0)
    ended, given = threading.Event(), 0

    def step_down() -> None:
        with MongoClient[dict[str, Any]](server.address, directConnection=True) as client:
            for _ in range(2):
                time.sleep(0.2)
                client.admin.command({"replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 0, "force": True})
                until = time.monotonic() + 30
                while time.monotonic() < until and not client.admin.command("hello")["isWritablePrimary"]:
                    time.sleep(0.05)
        ended.set()

    stepping = threading.Thread(target=step_down)
    stepping.start()
    while not ended.is_set():
        filled.annotate([example_fact(index=given % 5, seconds=given)])
        given += 1
    stepping.join()
    assert given > 1
    sound(filled, given)
    assert [fact.at for _, fact in filled.annotations()] == sorted(fact.at for _, fact in filled.annotations())
