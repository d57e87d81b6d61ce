"""Identities survive as text, and a throttled reader takes its time."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from plankter._errors import StoreError
from plankter.store.archive import Archive
from plankter.store.source_database import Seen, Throttle, _without_overlap, id_of, id_text, made_at
from plankter.store.source_ledger import Ledger


@pytest.mark.parametrize(
    "identity",
    [
        ObjectId(),
        "a:b",
        "",
        7,
        -(2**40),
        2.5,
        datetime(2024, 1, 1, tzinfo=UTC),
        {"run": "a", "n": 1},
        b"\x00\x01",
        True,
    ],
)
def test_an_id_is_the_same_again(identity: Any) -> None:
    assert id_of(id_text(identity)) == identity and type(id_of(id_text(identity))) is type(identity)


@given(st.text() | st.integers(-(2**63), 2**63 - 1))
def test_texts_and_numbers_do_not_meet(identity: Any) -> None:
    assert id_of(id_text(identity)) == identity
    assert id_text(str(identity)) != id_text(identity) or isinstance(identity, str)


def test_when_a_document_was_made() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    assert made_at(ObjectId.from_datetime(at)) == at and made_at("x") is None and made_at(uuid.uuid4()) is None


def test_a_projection_names_no_field_twice() -> None:
    assert _without_overlap({"a.b": 1, "a": 1, "c.0.d": 1, "e.f": 1, "e.g": 1}) == {"a": 1, "c": 1, "e.f": 1, "e.g": 1}


def test_the_throttle() -> None:
    began = time.monotonic()
    throttle = Throttle(1000, None)
    for _ in range(4):
        throttle.spent(50)
    assert time.monotonic() - began >= 0.19
    began = time.monotonic()
    Throttle(None, 1).spent(1, 200_000)
    assert time.monotonic() - began >= 0.19
    Throttle(None, None).spent(10**9, 10**12)


def seen(*names: str, image: str = "i", facts: str = "f") -> list[Seen]:
    return [Seen(f"str:{name}", "g", image, facts) for name in names]


def test_the_ledger_tells_new_changed_and_unchanged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", "source")
    found = ledger.look(seen("a", "b", "c"), 1, ("scan_after", "str:c"))
    assert (found.new, found.changed, found.unchanged) == (3, 0, 0) and ledger.get("scan_after") == "str:c"
    assert ledger.look(seen("a"), 1).new == 1  # waits, whatever it was looked at
    assert ledger.waiting() == [("g", 3)] and ledger.next_keys("g", 2) == ["str:a", "str:b"]
    ledger.placed("0" * 16, seen("a", "b"))
    found = ledger.look([*seen("a"), *seen("b", facts="other"), *seen("c", image="other")], 2)
    assert (found.new, found.changed, found.unchanged, found.image_changed) == (1, 1, 1, [])
    assert ledger.look(seen("a", image="other"), 2).image_changed == ["str:a"]
    assert ledger.due(9) == [("str:b", "0" * 16, 1)]
    ledger.settled(seen("b", facts="other"), [])
    assert ledger.due(9) == [] and ledger.look(seen("b", facts="other"), 2).unchanged == 1
    ledger.gone(["str:c", "str:a"])  # what is in a run stays
    assert ledger.counts() == {"documents": 2, "placed": 2, "runs": 1} and ledger.not_seen(3) == 2
    # the archive does not have that run: its documents wait again
    assert ledger.reconcile(Archive(tmp_path / "archive")) == [] and ledger.waiting() == [("g", 2)]
    ledger.close()


def test_a_damaged_ledger_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "l.sqlite").write_bytes(b"nothing of a database, but long enough to look like one" * 99)
    with pytest.raises(StoreError, match="made anew"):
        Ledger(tmp_path / "l.sqlite", "source")
