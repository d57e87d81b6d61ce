"""Every real FlowCam run through ingest, classify and report."""

from __future__ import annotations

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter.types import Severity
from plankter.vignettes.codec import decode_image, decode_mask
from plankter.workflow.classify import classify
from plankter.workflow.ingest import IngestedRun, ingest
from plankter.workflow.report import write_report
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace

# particles and volume imaged in mL: the run summary's value, for 2008 the verified formula's
EXPECTED = {
    "416_Station40_09012015_10x": (3122, 0.2510),
    "7-Pygsuia-3LB-SFSW-Terasakiella-sample2-replicate1-day7-11Apr2025": (1000, None),
    "7-Pygsuia-SF-SW-NITRATE-day5-sample3-replicate3-08April2024": (1000, None),
    "7-Pygsuia-SF-SW-sulfate-day5-sample2-replicate3-08April2024": (1000, None),
    "COMICS_DY086": (506, None),
    "S04.2008-03-10.300F4X3": (1414, 1.84763),
}


@pytest.fixture(scope="module")
def everything(shared_data: Path, tmp_path_factory: pytest.TempPathFactory):
    season = shared_data / "flowcam"
    unpacked = tmp_path_factory.mktemp("unpacked")
    for name in ("S04.2008-03-10.300F4X3", "libraries"):
        with tarfile.open(season / f"{name}.tar.xz") as archive:
            archive.extractall(unpacked, filter="data")
    folder = init_workspace(tmp_path_factory.mktemp("real"))
    with open_workspace(folder) as workspace:
        found, _ = ingest(workspace, [season, unpacked])
        yield workspace, {Path(run.source).parent.name: run for run in found}, found, unpacked


def test_particles_and_volumes(everything: tuple[Workspace, dict[str, IngestedRun], list, Path]) -> None:
    _, runs, _, _ = everything
    for name, (particles, volume) in EXPECTED.items():
        assert runs[name].status == "ingested", runs[name].reason
        assert runs[name].particles == particles
        if volume is not None:
            assert runs[name].volume_imaged_ml == pytest.approx(volume, abs=5e-5)


def test_volumes_equal_the_run_summaries(everything, shared_data: Path) -> None:
    _, runs, _, _ = everything
    checked = 0
    for name, run in runs.items():
        for summary in (shared_data / "flowcam" / name).glob("*_run_summary.txt"):
            (line,) = [s for s in summary.read_text(encoding="latin-1").splitlines() if "Fluid Volume Imaged" in s]
            printed = float("".join(c for c in line.split(":")[1] if c in "0123456789."))
            assert run.volume_imaged_ml == pytest.approx(printed, abs=5.1e-5), name
            checked += 1
    assert checked == 4


def test_the_uncalibrated_run_gives_no_quantities(everything) -> None:
    workspace, _, found, _ = everything
    flagged = [r.run for r in workspace.catalogue.runs() if any(f.code == "uncalibrated" for f in r.run.flags)]
    assert all(run.volume_imaged_ml is None and run.um_per_px is None for run in flagged)
    assert not any("uncalibrated_201-045311" in run.source and run.status == "ingested" for run in found)


def test_a_missing_collage_of_a_library_is_a_failure_of_its_particles(everything) -> None:
    workspace, _, found, _ = everything
    libraries = [run for run in found if run.source.endswith(".flb")]
    assert len(libraries) == 3 and all(run.status == "ingested" for run in libraries)
    assert sum(run.failures for run in libraries) > 0
    broken = next(run for run in libraries if run.failures)
    record = workspace.catalogue.run(broken.run_id)
    assert record.vignettes + record.failures == record.particles


def test_mask_pixels_equal_raw_area(everything) -> None:
    workspace, runs, _, _ = everything
    checked = 0
    for name in EXPECTED:
        archived = workspace.archive.open(runs[name].run_id)
        if name.startswith("S04"):
            continue  # no masks in 2008
        raw_area = archived.particles().features["raw_area"]
        for index in range(len(raw_area)):
            assert decode_mask(archived.mask_png(index)).sum() == raw_area[index], (name, index)
            checked += 1
    assert checked == 3122 + 3000 + 506


def test_vignettes_equal_the_collage(everything, shared_data: Path) -> None:
    workspace, runs, _, unpacked = everything
    for name in EXPECTED:
        folder = shared_data / "flowcam" / name
        folder = folder if folder.is_dir() else unpacked / name
        archived = workspace.archive.open(runs[name].run_id)
        particles = archived.particles()
        collages: dict[str, np.ndarray] = {}
        for index in range(0, len(particles), 37):
            page = str(particles.page[index])
            if page not in collages:
                collages[page] = cv2.imread(str(folder / page), cv2.IMREAD_COLOR)
            x, y, w, h = particles.box[index]
            kept = decode_image(archived.vignette_png(index))
            kept = np.dstack([kept] * 3) if kept.ndim == 2 else kept
            assert np.array_equal(kept, collages[page][y : y + h, x : x + w]), (name, index)


def test_labels_of_the_instrument_are_imported(everything) -> None:
    workspace, runs, _, _ = everything
    standing = workspace.catalogue.standing(runs["416_Station40_09012015_10x"].run_id)
    assert len(standing) == 3122
    assert len({label.class_id for label in standing.values()}) == 10


def test_every_run_is_classified_and_reported(everything) -> None:
    workspace, _, found, _ = everything
    done = classify(workspace)
    assert len(done["runs"]) == len([run for run in found if run.status == "ingested"])
    for entry in done["runs"]:
        record = workspace.catalogue.run(entry["run_id"])
        assert entry["predicted"] == record.vignettes
        page = write_report(workspace, entry["run_id"]).read_text(encoding="utf-8")
        assert f"{record.particles:,}" in page or str(record.particles) in page
        for flag in record.run.flags:
            if flag.severity is not Severity.NOTE:
                assert flag.message.split("'")[0][:40].replace("&", "&amp;") in page
    assert workspace.catalogue.check() == []
