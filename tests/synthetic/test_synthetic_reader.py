"""What the FlowCam reader makes of a made-up run: all of it, and nothing unusual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plankter.readers.base import RunSource
from plankter.synthetic import SyntheticRun, simulate_flowcam_run, simulate_season
from plankter.types import Severity

flowcam = pytest.importorskip("plankter.readers.flowcam", reason="the FlowCam reader is not there")


def check(run: SyntheticRun, classified: bool) -> None:
    path = run.folder / f"{run.name}.lst"
    reader = flowcam.FlowCamReader()
    assert reader.can_read(path) is None
    source = RunSource("flowcam", path, str(run.folder))
    found = reader.read(source)
    unusual = [flag for flag in (*found.run.flags, *found.problems) if flag.severity is not Severity.NOTE]
    assert not unusual
    assert (found.run.name, found.run.um_per_px, found.fringe_px) == (run.name, run.um_per_px, 4.5)
    assert found.run.volume_imaged_ml == pytest.approx(run.volume_imaged_ml, rel=1e-9)
    assert found.run.started_at == run.started_at
    assert found.has_masks and len(found.particles) == len(run)
    assert not any(found.particles.failure)
    assert np.array_equal(found.particles.features["raw_area"], run.area_px)
    if classified:
        assert {label.index: label.class_name for label in found.labels} == dict(enumerate(run.classes))
    else:
        assert not found.labels
    vignettes = list(reader.vignettes(source, found.particles))
    assert [v.index for v in vignettes] == list(range(len(run)))
    for vignette, area, box in zip(vignettes, run.area_px, found.particles.box, strict=True):
        assert vignette.failure is None and vignette.image is not None and vignette.mask is not None
        assert vignette.image.shape[:2] == (box[3], box[2])
        assert np.count_nonzero(vignette.mask) == area


@pytest.mark.parametrize(
    ("scale", "offset", "classified"), [(0.5479, 2.0, True), (1.3792, -5.0, False), (0.28, 0.0, True)]
)
def test_reader_finds_the_truth(tmp_path: Path, scale: float, offset: float, classified: bool) -> None:
    run = simulate_flowcam_run(
        tmp_path, name="ronde_été", particles=40, um_per_px=scale, local_offset_h=offset, classified=classified
    )
    check(run, classified)


def test_season_is_read_run_by_run(tmp_path: Path) -> None:
    for run in simulate_season(tmp_path, runs=2, particles=10):
        check(run, classified=False)


def test_list_is_what_the_morphology_measures_on_the_pixels(tmp_path: Path) -> None:
    """The definitions that give real lists exactly, implemented independently in `features`, give this list too."""
    morphology = pytest.importorskip("plankter.features.morphology")
    table = pytest.importorskip("plankter.features.measures_table")
    run = simulate_flowcam_run(tmp_path, particles=60, seed=8)
    source = RunSource("flowcam", run.folder / f"{run.name}.lst", str(run.folder))
    found = flowcam.FlowCamReader().read(source)
    columns = found.particles.features
    vignettes = flowcam.FlowCamReader().vignettes(source, found.particles)
    measured = morphology.measure_many(
        ((v.image, v.mask) for v in vignettes),
        run.um_per_px,
        found.fringe_px,
        origins_px=np.column_stack((columns["src_x"], columns["src_y"])),
    )
    compared = 0
    for position, measure in enumerate(table.MEASURES):
        if measure.instrument_column in columns:
            theirs = columns[measure.instrument_column]
            ours = np.asarray(measured.values[:, position], float)
            assert np.allclose(ours, theirs, rtol=2e-5, atol=2e-4), measure.name
            compared += 1
    assert compared >= 30
