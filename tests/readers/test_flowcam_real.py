"""The real runs: counts, volumes, times and pixels that were established outside this package."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plankter.formats.flowcam_summary import parse_run_summary, summary_number
from plankter.readers.base import ReadRun, RunSource
from plankter.readers.discover import explain, find_runs
from plankter.readers.flowcam import FlowCamReader
from plankter.types import Severity

R416 = "416_Station40_09012015_10x"
PYGSUIA = (
    (
        "7-Pygsuia-3LB-SFSW-Terasakiella-sample2-replicate1-day7-11Apr2025",
        datetime(2025, 4, 11, 13, 53, 33, tzinfo=UTC),
    ),
    ("7-Pygsuia-SF-SW-NITRATE-day5-sample3-replicate3-08April2024", datetime(2024, 4, 8, 9, 10, 51, tzinfo=UTC)),
    ("7-Pygsuia-SF-SW-sulfate-day5-sample2-replicate3-08April2024", datetime(2024, 4, 8, 8, 14, 1, tzinfo=UTC)),
)
READER = FlowCamReader()


def source(folder: Path, name: str | None = None) -> RunSource:
    path = next(
        path for path in sorted(folder.iterdir()) if path.suffix in (".lst", ".flb") and name in (None, path.stem)
    )
    assert READER.can_read(path) is None
    return RunSource("flowcam", path, str(path))


def check_pixels(run: RunSource, read: ReadRun, *, masks: bool, every: int = 97) -> Counter[str]:
    """Every mask against the list's area; every 97th vignette against the collage as Pillow decodes it."""
    area = read.particles.features["raw_area"]
    seen: Counter[str] = Counter()
    for index, vignette in enumerate(READER.vignettes(run, read.particles)):
        assert vignette.index == index
        if vignette.image is None:
            seen["failed" if vignette.failure else "never"] += 1
            continue
        seen["image"] += 1
        x, y, w, h = read.particles.box[index]
        assert vignette.image.shape[:2] == (h, w)
        if masks:
            assert vignette.mask is not None
            assert vignette.mask.sum() == area[index], f"particle {index}"
        else:
            assert vignette.mask is None
        if index % every == 0:
            with Image.open(run.path.parent / str(read.particles.page[index])) as collage:
                crop = np.asarray(collage.convert("RGB"))[y : y + h, x : x + w, ::-1]
            assert np.array_equal(vignette.image, crop)
    return seen


def test_the_run_of_2017(shared_data: Path) -> None:
    run = source(shared_data / "flowcam" / R416)
    read = READER.read(run)
    assert len(read.particles) == 3122
    assert len(read.particles.features) == 64
    assert read.run.um_per_px == 0.5517
    assert read.run.volume_imaged_ml == pytest.approx(0.2510, abs=5e-5)
    assert read.run.started_at == datetime(2017, 2, 1, 0, 0, 18, tzinfo=UTC)
    assert read.run.software == "VisualSpreadsheet 4.0.27"
    assert read.run.settings["Fluid/FlowCellType"] == "FC100"
    assert read.run.settings["RunSummary/Environment/Pump"] == "C70 Syringe"
    assert (read.run.name, read.run.sample_id) == (R416, R416)
    assert read.fringe_px == 4.5
    assert read.notes is not None and read.notes.startswith("LabID: 42350")
    assert [flag.code for flag in read.run.flags] == ["dilution"]
    assert len(read.run.files) == len(list(run.path.parent.iterdir()))
    assert check_pixels(run, read, masks=True) == {"image": 3122}


def test_every_particle_of_the_run_of_2017_was_classified(shared_data: Path) -> None:
    read = READER.read(source(shared_data / "flowcam" / R416))
    assert sorted(label.index for label in read.labels) == list(range(3122))
    assert len({label.class_name for label in read.labels}) == 10
    assert {label.classification for label in read.labels} == {f"{R416}_Class"}
    of = {read.particles.label[label.index]: label.class_name for label in read.labels}
    assert (of["1057"], of["2304"], of["20"]) == ("Asterionella", "Asterionella", "Aulocoseira")


@pytest.mark.parametrize(("name", "start"), PYGSUIA)
def test_the_runs_of_2024_and_2025(shared_data: Path, name: str, start: datetime) -> None:
    run = source(shared_data / "flowcam" / name)
    read = READER.read(run)
    printed = parse_run_summary((run.path.parent / f"{name}_run_summary.txt").read_text())
    volume = summary_number(printed, "Run", "Fluid Volume Imaged")
    assert len(read.particles) == 1000
    assert volume is not None and volume > 0
    assert read.run.volume_imaged_ml == pytest.approx(volume, abs=5.1e-5)
    assert read.run.um_per_px == 0.5544
    assert read.run.started_at == start
    assert read.has_masks
    assert read.run.flags == ()
    assert read.problems == ()
    assert check_pixels(run, read, masks=True) == {"image": 1000}


def test_a_list_with_collage_and_mask_only(shared_data: Path) -> None:
    run = source(shared_data / "flowcam" / "COMICS_DY086")
    read = READER.read(run)
    assert len(read.particles) == 506
    assert (read.run.um_per_px, read.run.volume_imaged_ml, read.run.started_at) == (1.813, None, None)
    assert read.run.started_at_local == "2019-10-08 14:23:07.847"
    assert read.run.sample_id == "COMICS_DY086"
    codes = {flag.code for flag in read.run.flags}
    assert codes == {"no-context", "no-summary", "time-zone-unknown", "calibration-image-missing"}
    assert check_pixels(run, read, masks=True) == {"image": 506}


def test_the_run_of_2008(unpacked: Path) -> None:
    run = source(unpacked / "S04.2008-03-10.300F4X3")
    read = READER.read(run)
    assert len(read.particles) == 1414
    assert len(read.particles.features) == 44
    assert read.run.um_per_px == 1.7076
    assert read.run.volume_imaged_ml == pytest.approx(1.84763, abs=5e-6)
    assert read.run.started_at == datetime(2008, 3, 11, 15, 0, 11, tzinfo=UTC)
    assert read.notes == "Station S04, mode fluo, objectif 4x, cellule 300"
    assert (read.fringe_px, read.has_masks) == (0.0, False)
    assert {flag.code for flag in read.run.flags} == {"no-summary", "volume-cf-absent", "masks-missing"}
    assert read.problems == read.run.flags  # its data_export.csv agrees with the list
    assert check_pixels(run, read, masks=False) == {"image": 1414}


def test_libraries_of_one_folder_are_runs_of_their_own(unpacked: Path, tmp_path: Path) -> None:
    runs, flags = find_runs([unpacked / "libraries"], scratch=tmp_path)
    assert [run.path.name for run in runs] == ["C fusus.flb", "Ceratium fusus.flb", "Lge ciliate unidentified.flb"]
    assert flags == []
    first, second, third = (READER.read(run) for run in runs)
    assert [len(read.particles) for read in (first, second, third)] == [192, 27, 33]
    assert set(first.run.files) == {"C fusus.flb", "C fusus.edg", "C fusus_lib_images_000002.tif"}
    assert set(second.run.files) == {"Ceratium fusus.flb", "Ceratium fusus.edg", "Ceratium fusus_lib_images_000001.tif"}
    assert first.run.volume_imaged_ml is None
    assert check_pixels(runs[1], second, masks=False) == {"image": 27}


def test_a_librarys_missing_collage_fails_its_particles_only(unpacked: Path) -> None:
    run = source(unpacked / "libraries" / "Tripos fusus", "C fusus")
    read = READER.read(run)
    gone = [page == "C fusus_lib_images_000001.tif" for page in read.particles.page]
    assert 0 < sum(gone) < 192
    for missing, failure in zip(gone, read.particles.failure, strict=True):
        assert failure == ("collage C fusus_lib_images_000001.tif is missing" if missing else None)
    assert check_pixels(run, read, masks=False) == {"image": 192 - sum(gone), "failed": sum(gone)}


def test_all_runs_of_a_folder_and_the_one_without_a_list(shared_data: Path, tmp_path: Path) -> None:
    runs, flags = find_runs([shared_data / "flowcam"], scratch=tmp_path)
    assert [run.path.parent.name for run in runs] == [R416, *(name for name, _ in PYGSUIA), "COMICS_DY086"]
    assert [(flag.code, flag.severity) for flag in flags] == [
        ("no-list", Severity.ERROR),
        ("uncalibrated", Severity.WARNING),
    ]
    assert "no list beside the context 201-045311.ctx" in flags[0].message
    reasons = explain(shared_data / "flowcam" / "uncalibrated_201-045311")
    assert any("a run is found by its list" in reason for _, reason in reasons)
    assert explain(shared_data / "flowcam" / R416) == []


def test_an_uncalibrated_context_beside_a_list_gives_no_quantities(shared_data: Path, tmp_path: Path) -> None:
    lst = next((shared_data / "flowcam" / "COMICS_DY086").glob("*.lst"))
    (tmp_path / "a.lst").write_bytes(lst.read_bytes())
    ctx = shared_data / "flowcam" / "uncalibrated_201-045311" / "201-045311.ctx"
    (tmp_path / "a.ctx").write_bytes(ctx.read_bytes())
    read = READER.read(source(tmp_path))
    assert (read.run.um_per_px, read.run.volume_imaged_ml) == (None, None)
    assert [flag.code for flag in read.run.flags if flag.severity is Severity.ERROR] == ["uncalibrated"]
    assert read.particles.page == (None,) * 506
    assert read.particles.failure == (None,) * 506
