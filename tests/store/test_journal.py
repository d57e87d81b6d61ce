"""The journal: facts that survive a cut line, several writers and a full disk."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from plankter._errors import StoreError
from plankter.store.encoding import annotation_object, json_text
from plankter.store.journal import Journal
from plankter.testing.examples import example_fact
from plankter.types import Source, Verdict

FACTS = [
    example_fact(index=0),
    example_fact(index=1, class_id=None, verdict=Verdict.UNSURE, by="Zoë\nline"),
    example_fact(index=2, class_id="x" * 70_000, source=Source.IMPORT),
    example_fact(index=0, class_id=None, verdict=Verdict.WITHDRAWN, seconds=3),
]


def test_facts_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert list(journal.read()) == [] and journal.append([]) == 0
    assert journal.append(FACTS[:2]) == 2
    assert journal.append(FACTS[2:]) == 4
    assert list(Journal(tmp_path).entries()) == list(enumerate(FACTS, start=1))
    assert journal.append([]) == 4


@pytest.mark.parametrize("cut", [1, 5, 100, 69_000])
def test_a_line_cut_short_is_left_out_and_then_replaced(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path)
    journal.append(FACTS[:3])
    os.truncate(journal.path, journal.path.stat().st_size - cut)
    assert list(journal.read()) == FACTS[:2]
    assert journal.append(FACTS[2:]) == 4
    assert list(journal.entries()) == list(enumerate(FACTS, start=1))


def test_only_a_cut_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.path.parent.mkdir()
    journal.path.write_text('{"run_id": "ab')
    assert list(journal.read()) == []
    assert journal.append(FACTS) == 4 and list(journal.read()) == FACTS


def test_a_damaged_line_within_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(FACTS)
    lines = journal.path.read_bytes().split(b"\n")
    lines[1] = b"{}"
    journal.path.write_bytes(b"\n".join(lines))
    with pytest.raises(StoreError, match="row 2"):
        list(journal.read())


def test_a_full_disk_appends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append(FACTS[:1])
    before = journal.path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="disk is full"):
            journal.append(FACTS[1:])
    assert journal.path.read_bytes() == before
    journal.append(FACTS[1:])
    assert list(journal.read()) == FACTS


def test_threads_that_append_at_once(tmp_path: Path) -> None:
    def append(worker: int) -> None:
        for turn in range(5):
            Journal(tmp_path).append(
                [example_fact(index=worker, seconds=turn), example_fact(index=worker, seconds=turn)]
            )

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = list(Journal(tmp_path).entries())
    assert [seq for seq, _ in entries] == list(range(1, 41))
    for first, second in zip(entries[::2], entries[1::2], strict=True):
        assert first[1] == second[1]  # lines of one call stay together


def test_every_line_is_the_fact_as_json_whatever_its_texts_hold(tmp_path: Path) -> None:
    odd = ['"index": null', 'a "seq": null b', "\\", "\u2028 {}", "%s {0}"]
    facts = [example_fact(index=index, class_id=odd[index % 5], by=odd[-1 - index % 5]) for index in range(20)]
    journal = Journal(tmp_path)
    journal.append(FACTS)
    journal.append([*facts, *facts])
    lines = journal.path.read_text(encoding="utf-8").split("\n")[:-1]
    told = [{**annotation_object(fact), "seq": n} for n, fact in enumerate([*FACTS, *facts, *facts], start=1)]
    assert lines == [json_text(one) for one in told]
    assert list(journal.read()) == [*FACTS, *facts, *facts]
