"""A run that the instrument has finished writing comes in by itself, once, and one that it has not waits."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from plankter._errors import ReadError, StoreError
from plankter.publish.day_report import day_report
from plankter.synthetic.flowcam import simulate_flowcam_run
from plankter.workflow import watch as watch_step
from plankter.workflow.watch import Watch, watch
from plankter.workflow.workspace import init_workspace, open_workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for number in range(2):
        simulate_flowcam_run(folder, name=f"run{number}", particles=12, seed=number)
    return folder


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace, a folder to watch, a clock; the classifier is left out where it is not the point."""
    classified: list[str] = []

    def quick(workspace: Any, runs: list[str], *, model: str | None = None) -> dict[str, Any]:
        classified.extend(runs)
        return {"runs": [{"predicted": workspace.catalogue.run(runs[0]).vignettes}]}

    monkeypatch.setattr(watch_step, "classify", quick)
    (tmp_path / "in").mkdir()
    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        clock = Clock()
        yield Watch(workspace, tmp_path / "in", settle_s=60, clock=clock), clock, classified


def test_a_run_is_taken_when_its_files_have_settled(setting: Any, made: Path) -> None:
    watched, clock, classified = setting
    target = watched.folder / "deep" / "run0"
    shutil.copytree(made / "run0", target)
    assert watched.look() == ([], ["deep/run0"])
    clock.now += 59
    assert watched.look() == ([], ["deep/run0"])
    (target / "late.txt").write_text("the instrument is still at it")
    clock.now += 5
    assert watched.look() == ([], ["deep/run0"])
    clock.now += 61
    (entry,), waiting = watched.look()
    assert (entry["status"], entry["particles"], entry["predicted"], waiting) == ("ingested", 12, 12, [])
    assert classified == [entry["run_id"]] and Path(entry["report"]).is_file()
    clock.now += 1000
    assert watched.look() == ([], [])


def test_a_restart_goes_on_and_takes_nothing_twice(setting: Any, made: Path) -> None:
    watched, clock, classified = setting
    shutil.copytree(made / "run0", watched.folder / "run0")
    watched.look()
    clock.now += 61
    watched.look()
    shutil.copytree(made / "run1", watched.folder / "run1")
    again = Watch(watched.workspace, watched.folder, settle_s=60, clock=clock)
    assert again.look() == ([], ["run1"])
    clock.now += 61
    (entry,), _ = again.look()
    assert "run1" in entry["source"] and len(classified) == 2
    # a lost state reads all again and changes nothing
    for path in (watched.workspace.folder / "watched").glob("*.json"):
        path.unlink()
    lost = Watch(watched.workspace, watched.folder, settle_s=0, clock=clock)
    lost.look()
    assert [entry["status"] for entry in lost.look()[0]] == ["unchanged", "unchanged"]


def test_half_a_run_a_broken_one_and_a_zip(setting: Any, made: Path) -> None:
    watched, clock, _ = setting
    shutil.copytree(made / "run0", watched.folder / "half")
    (watched.folder / "half" / "copying.part").write_bytes(b"")
    shutil.make_archive(str(watched.folder / "packed"), "zip", made / "run1")
    (watched.folder / "broken.zip").write_bytes(b"PK\x03\x04 no zip")
    (watched.folder / "notes").mkdir()
    (watched.folder / "notes" / "read me.txt").write_text("no run")
    watched.look()
    clock.now += 61
    done, waiting = watched.look()
    assert waiting == ["half"]
    assert sorted(entry["status"] for entry in done) == ["ingested", "refused"]
    clock.now += 61
    assert watched.look() == ([], ["half"])  # the broken one is not tried again until it changes
    (watched.folder / "half" / "copying.part").unlink()
    watched.look()
    clock.now += 61
    assert [entry["status"] for entry in watched.look()[0]] == ["ingested"]


def test_a_share_that_goes_away_forgets_nothing(setting: Any, made: Path, tmp_path: Path) -> None:
    watched, clock, _ = setting
    shutil.copytree(made / "run0", watched.folder / "run0")
    watched.look()
    watched.folder.rename(tmp_path / "away")
    with pytest.raises(ReadError, match="cannot be read"):
        watched.look()
    (tmp_path / "away").rename(watched.folder)
    clock.now += 61
    assert len(watched.look()[0]) == 1


def test_trouble_that_is_not_the_runs_is_tried_again(setting: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, clock, _ = setting
    shutil.copytree(made / "run0", watched.folder / "run0")
    watched.look()
    clock.now += 61

    def full(*_: Any, **__: Any) -> Any:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(watch_step, "classify", full)
        assert watched.look() == ([], ["run0"])
    (entry,), _ = watched.look()
    assert (entry["status"], entry["predicted"]) == ("ingested", 12)


@pytest.mark.parametrize("where", ["classify", "write_report", "_day", "_keep"])
def test_a_kill_while_a_run_is_taken_loses_no_line_of_the_day(
    setting: Any, made: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    watched, clock, _ = setting
    shutil.copytree(made / "run0", watched.folder / "run0")
    watched.look()
    clock.now += 61
    of: Any = watch_step if hasattr(watch_step, where) else Watch
    original = getattr(of, where)

    def killed(*arguments: Any, **rest: Any) -> Any:
        if where == "_keep" and "taking" in arguments[-1]:  # the one before the run is taken
            return original(*arguments, **rest)
        if where == "_day":
            original(*arguments, **rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(of, where, killed)
        with pytest.raises(KeyboardInterrupt):
            watched.look()
    again = Watch(watched.workspace, watched.folder, settle_s=60, clock=clock)
    again.look()
    clock.now += 61
    (entry,), _ = again.look()
    assert entry["status"] == "ingested"
    (page,) = watched.workspace.reports_folder.glob("day-*.html")
    assert "1 runs came in with 12 particles" in page.read_text(encoding="utf-8")
    clock.now += 61
    assert again.look() == ([], [])


def test_a_share_that_is_away_all_night_is_told_once(
    setting: Any, made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched, _, _ = setting
    watched.folder.rename(tmp_path / "away")
    turns: list[int] = []

    def stop() -> bool:
        turns.append(1)
        if len(turns) == 40:
            (tmp_path / "away").rename(watched.folder)
        return len(turns) > 60

    watch(watched.workspace, watched.folder, settle_s=60, poll_s=0, stop=stop)
    said = [record.getMessage() for record in caplog.records]
    assert sum("waiting for it" in line for line in said) == 1 == sum("there again" in line for line in said)


def test_one_report_a_day(setting: Any, made: Path) -> None:
    watched, clock, _ = setting
    for name in ("run0", "run1"):
        shutil.copytree(made / name, watched.folder / name)
        watched.look()
        clock.now += 61
        watched.look()
    (page,) = watched.workspace.reports_folder.glob("day-*.html")
    text = page.read_text(encoding="utf-8")
    assert datetime.now(UTC).date().isoformat() in text and "24 particles" in text
    links = [part.partition('"')[0] for part in text.split('href="')[1:]]
    assert len(links) == 2 and all((page.parent / link).is_file() for link in links)


def test_the_page_of_a_day_escapes_and_counts() -> None:
    rows = [
        {"at": "t", "source": "<b>", "status": "refused", "reason": "a & b", "particles": 0},
        {"at": "t", "source": "x", "status": "ingested", "particles": 7, "failures": 2, "report": 'a"b.html'},
    ]
    text = day_report(datetime(2026, 1, 2, tzinfo=UTC).date(), "in", rows)
    assert "&lt;b&gt;" in text and "<b>" not in text and "a &amp; b" in text and "a&quot;b.html" in text
    assert "1 runs came in with 7 particles, 2 of them" in text and "1 could not be taken" in text


def test_once_with_the_real_classifier(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run0", tmp_path / "in" / "run0")
    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        found = watch(workspace, tmp_path / "in", settle_s=0.1, once=True)
        assert [(run["status"], run["predicted"]) for run in found["runs"]] == [("ingested", 12)]
        assert json.dumps(found) and found["waiting"] == []
        assert watch(workspace, tmp_path / "in", settle_s=0.1, once=True)["runs"] == []
        with pytest.raises(ReadError):
            watch(workspace, tmp_path / "nothing", settle_s=0.1, once=True)


def test_it_watches_until_it_is_stopped(setting: Any, made: Path) -> None:
    watched, _, _ = setting
    shutil.copytree(made / "run0", watched.folder / "run0")
    told: list[dict[str, Any]] = []
    watch(
        watched.workspace, watched.folder, settle_s=0.05, poll_s=0.05, stop=lambda: bool(told), told=told.append
    )  # fmt: skip
    assert [entry["status"] for entry in told] == ["ingested"]
