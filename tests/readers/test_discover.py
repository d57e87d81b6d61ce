"""Which runs are found, and what is said of the rest."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from plankter._errors import ReadError
from plankter.readers.base import RunSource
from plankter.readers.discover import explain, find_runs
from plankter.readers.flowcam import FlowCamReader
from plankter.types import Severity

MakeRun = Callable[..., RunSource]


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def zipped(folder: Path, to: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{inside}{path.relative_to(folder).as_posix()}")
    return to


def test_runs_at_any_depth_each_once_and_sorted(make_run: MakeRun, tmp_path: Path, scratch: Path) -> None:
    for folder in ("b/deep/er", "a", "c"):
        make_run(folder=folder, collages=1)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.lst").write_text("017\n")
    (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "broken.lst").symlink_to(tmp_path / "nowhere")
    runs, flags = find_runs([tmp_path, tmp_path / "a", tmp_path / "a" / "RUN.lst"], scratch=scratch)
    assert [run.path.parent.relative_to(tmp_path).as_posix() for run in runs] == ["a", "b/deep/er", "c"]
    assert {run.reader for run in runs} == {"flowcam"}
    assert runs[0].origin == str(tmp_path / "a" / "RUN.lst")
    assert flags == []


def test_runs_in_zips(make_run: MakeRun, tmp_path: Path, scratch: Path) -> None:
    run = make_run(collages=1)
    (tmp_path / "zips").mkdir()
    flat = zipped(run.path.parent, tmp_path / "zips" / "flat.zip")
    nested = zipped(run.path.parent, tmp_path / "zips" / "nested.zip", "inner/deep/")
    runs, flags = find_runs([tmp_path / "zips"], scratch=scratch)
    assert flags == []
    assert [found.origin for found in runs] == [f"{flat}!RUN.lst", f"{nested}!inner/deep/RUN.lst"]
    reader = FlowCamReader()
    reads = [reader.read(found) for found in runs]
    assert [read.run.sample_id for read in reads] == ["flat", "deep"]
    assert {read.run.run_id for read in reads} == {reader.read(run).run.run_id}
    assert all(found.path.is_relative_to(scratch) for found in runs)


def test_bad_zips_are_said_and_never_stop_the_rest(make_run: MakeRun, tmp_path: Path, scratch: Path) -> None:
    make_run(folder="good", collages=1)
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
        archive.writestr("../../RUN.lst", "017\n")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("inner.zip", "x")
        archive.writestr("readme.md", "x")
    runs, flags = find_runs([tmp_path], scratch=scratch)
    assert [run.path.parent.name for run in runs] == ["good"]
    found = {(Path(str(flag.file)).name, flag.code, flag.severity) for flag in flags}
    assert found == {
        ("bad.zip", "zip-refused", Severity.ERROR),
        ("slip.zip", "zip-refused", Severity.ERROR),
        ("other.zip", "no-run", Severity.ERROR),
        ("other.zip!inner.zip", "left-out", Severity.WARNING),
    }
    assert list(scratch.parent.glob("RUN.lst")) == []


def test_a_path_that_does_not_exist(make_run: MakeRun, tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(ReadError, match="no such file or folder") as caught:
        find_runs([make_run().path, tmp_path / "typo"], scratch=scratch)
    assert caught.value.path == str(tmp_path / "typo")


def test_a_path_without_a_run_says_why(make_run: MakeRun, tmp_path: Path, scratch: Path) -> None:
    context = make_run().path.with_suffix(".ctx")
    (tmp_path / "empty").mkdir()
    runs, flags = find_runs([context, tmp_path / "empty"], scratch=scratch)
    assert runs == []
    assert [(flag.code, flag.severity, flag.file) for flag in flags] == [
        ("no-run", Severity.ERROR, str(context)),
        ("no-run", Severity.ERROR, str(tmp_path / "empty")),
    ]
    assert "a run is found by its list" in flags[0].message
    assert "holds no files" in flags[1].message


def test_a_context_without_its_list(make_run: MakeRun, tmp_path: Path, scratch: Path) -> None:
    make_run(folder="other", collages=1)
    make_run(folder="lost").path.unlink()
    runs, flags = find_runs([tmp_path], scratch=scratch)
    assert [run.path.parent.name for run in runs] == ["other"]
    (flag,) = flags
    assert (flag.code, flag.severity) == ("no-list", Severity.ERROR)
    assert "expected RUN.lst" in flag.message


def test_other_programs_lists_are_left_out(make_run: MakeRun, tmp_path: Path, scratch: Path) -> None:
    make_run(folder="run", collages=1)
    (tmp_path / "code.lst").write_text("\\lstinputlisting{x}\n")
    runs, flags = find_runs([tmp_path], scratch=scratch)
    assert len(runs) == 1
    assert [(flag.code, flag.severity) for flag in flags] == [("left-out", Severity.WARNING)]
    ((reader, reason),) = explain(tmp_path / "code.lst")
    assert reader == "flowcam"
    assert "no version of a FlowCam list" in reason


def test_an_empty_list_is_a_run_that_cannot_be_read(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "x.lst").write_bytes(b"")
    runs, _ = find_runs([tmp_path], scratch=scratch)
    assert len(runs) == 1
    with pytest.raises(ReadError, match="the list is empty"):
        FlowCamReader().read(runs[0])
