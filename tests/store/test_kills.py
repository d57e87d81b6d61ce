"""SIGKILL at random moments: a run is wholly in or wholly out, and repeating the work ends as one that was left alone."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plankter.store import maintenance
from plankter.store.archive import Archive
from plankter.store.base import ParticleFilter
from plankter.store.journal import Journal
from plankter.store.sqlite import SqliteCatalogue

KILLS = 25
PARTICLES = 30

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


class Forker:
    def __init__(self) -> None:
        script = Path(__file__).with_name("forker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, task: str, folder: Path) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{task}\t{folder}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def status(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def run(self, task: str, folder: Path) -> float:
        started = time.monotonic()
        self.start(task, folder)
        assert self.status() == 0
        return time.monotonic() - started

    def kill(self, task: str, folder: Path, after_s: float) -> bool:
        pid = self.start(task, folder)
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
        return self.status() == -signal.SIGKILL


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    assert made.process.stdin is not None and made.process.stdout is not None
    made.process.stdin.close()
    assert made.process.wait() == 0
    made.process.stdout.close()


def contents(folder: Path) -> dict[str, object]:
    catalogue, archive = SqliteCatalogue(folder / "catalogue.sqlite"), Archive(folder / "archive")
    found: dict[str, object] = {
        "rows": catalogue.page(ParticleFilter(), limit=1000)[0],
        "facts": sorted(repr(fact) for _, fact in catalogue.annotations()),
        "counts": catalogue.class_counts(),
        "problems": maintenance.check(catalogue, archive, deep=True),
        "journal": sorted(repr(fact) for fact in Journal(archive.root).read()),
    }
    catalogue.close()
    for path in archive.root.rglob("*"):
        if path.is_file() and ".locks" not in path.parts and "journal" not in path.parts:
            found[path.relative_to(archive.root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def assert_whole(folder: Path) -> int:
    """Every run that can be asked for is complete; returns how many there are."""
    catalogue, archive = SqliteCatalogue(folder / "catalogue.sqlite"), Archive(folder / "archive")
    assert catalogue.check() == []
    for record in catalogue.runs():
        rows, _ = catalogue.page(ParticleFilter(run_id=record.run.run_id), limit=1000)
        assert len(rows) == record.particles == PARTICLES
        assert archive.has(record.run.run_id)
    for run_id in archive.run_ids():
        assert archive.open(run_id).problems(deep=True) == []
    count = len(catalogue.runs())
    catalogue.close()
    return count


def test_ingest_killed_25_times(forker: Forker, tmp_path: Path) -> None:
    rng = random.Random(5)
    clean = tmp_path / "clean"
    clean.mkdir()
    forker.run("ingest", clean)
    expected = contents(clean)
    assert expected["problems"] == [] and len(expected["rows"]) == 3 * PARTICLES  # type: ignore[arg-type]
    (tmp_path / "timed").mkdir()
    seconds = forker.run("ingest", tmp_path / "timed")
    hits, seen = 0, set()
    for number in range(KILLS):
        folder = tmp_path / f"killed{number // 5}"  # five kills on top of each other, then a new start
        folder.mkdir(exist_ok=True)
        hits += forker.kill("ingest", folder, rng.uniform(0, seconds))
        seen.add(assert_whole(folder))
        if number % 5 == 4:
            forker.run("ingest", folder)
            assert contents(folder) == expected
    assert hits >= KILLS // 4 and len(seen) >= 2


def test_rebuild_killed_25_times(forker: Forker, tmp_path: Path) -> None:
    rng = random.Random(6)
    forker.run("ingest", tmp_path)
    expected = contents(tmp_path)
    seconds = forker.run("rebuild", tmp_path)
    assert contents(tmp_path) == expected
    hits = 0
    for _ in range(KILLS):
        hits += forker.kill("rebuild", tmp_path, rng.uniform(0, seconds))
        assert assert_whole(tmp_path) == 3
    forker.run("rebuild", tmp_path)
    assert contents(tmp_path) == expected
    assert hits >= KILLS // 4
    assert [p.name for p in tmp_path.iterdir() if "rebuild" in p.name] == []
