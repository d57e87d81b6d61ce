"""The shipped real vignettes, packing and seasons."""

from __future__ import annotations

import csv
import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plankter.synthetic import KINDS, simulate_season
from plankter.synthetic.collage import GAP_PX, pack
from plankter.synthetic.drawings import draw_particle
from plankter.synthetic.real import paste, real_vignettes, reorient, threshold_mask
from plankter.synthetic.season import BLOOMS, kind_shares_on

PACKAGE = files("plankter.synthetic")


def test_shipped_archive_is_small_stored_and_attributed() -> None:
    data = PACKAGE / "vignettes.zip"
    with data.open("rb") as handle, zipfile.ZipFile(handle) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert all(entry.filename.endswith(".jpg") for entry in archive.infolist())
    assert len(data.read_bytes()) < 400_000
    text = (PACKAGE / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in text and "10.5281/zenodo.10554845" in text and "VLIZ" in text


def test_about_a_hundred_images_of_many_classes() -> None:
    vignettes = real_vignettes()
    classes = [v.class_name for v in vignettes]
    assert 100 <= len(vignettes) <= 120 and 35 <= len(set(classes)) <= 40
    assert {classes.count(c) for c in set(classes)} == {2, 3, 4}
    assert len({v.name for v in vignettes}) == len(vignettes)
    assert not set(classes) & set(KINDS)


def test_none_is_an_image_that_models_are_judged_by(shared_data: Path) -> None:
    with (shared_data / "labelled" / "vliz_flowcam_dated.csv").open(encoding="utf-8", newline="") as handle:
        judged = {row["file"] for row in csv.DictReader(handle) if row["split"] == "val"}
    assert len(judged) > 1000
    assert not {v.name for v in real_vignettes()} & judged


def test_classes_are_those_of_the_published_list(shared_data: Path) -> None:
    with (shared_data / "labelled" / "vliz_flowcam_dated.csv").open(encoding="utf-8", newline="") as handle:
        published = {row["class"] for row in csv.DictReader(handle)}
    assert {v.class_name for v in real_vignettes()} - published <= {"Melosira", "Pollen"}


def test_masks_find_the_particle_in_every_real_vignette() -> None:
    for vignette in real_vignettes():
        mask = threshold_mask(vignette.grey)
        assert mask.shape == vignette.grey.shape and 0.05 < mask.mean() < 0.85, vignette.name
        assert vignette.grey[mask].mean() < vignette.grey[~mask].mean() - 10, vignette.name


def test_threshold_mask_finds_a_drawn_particle_and_never_nothing() -> None:
    image, truth = draw_particle("faecal_pellet", np.random.default_rng(2), 0.5, length_um=50)
    found = threshold_mask(image)
    assert np.count_nonzero(found & truth) / np.count_nonzero(found | truth) > 0.8
    faint = np.full((30, 30), 180, np.uint8)
    faint[10:20, 10:20] = 175
    assert np.count_nonzero(threshold_mask(faint)) == pytest.approx(100, abs=60)


def test_pasted_border_is_the_new_background_and_the_middle_the_particle() -> None:
    source = np.random.default_rng(0)
    vignette = next(v for v in real_vignettes() if v.class_name == "Protoperidinium")
    mask = threshold_mask(vignette.grey)
    background = np.full(vignette.grey.shape, 150, np.float32)
    image = paste(source, vignette.grey, mask, background)
    rim = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    assert abs(float(np.median(rim)) - 150) <= 2
    assert np.corrcoef(image.ravel(), vignette.grey.ravel())[0, 1] > 0.95


def test_reorient_keeps_every_pixel() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    shapes = set()
    for seed in range(60):
        turned = reorient(np.random.default_rng(seed), grey)
        assert sorted(turned.ravel()) == list(range(12))
        shapes.add(turned.tobytes())
    assert len(shapes) == 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 80)), min_size=1, max_size=60))
def test_packing_never_overlaps_and_keeps_the_order(sizes: list[tuple[int, int]]) -> None:
    places = pack(sizes, 100, 80)
    order = [(place.page, place.y, place.x) for place in places]
    assert order == sorted(order) and len(places) == len(sizes)
    pages = np.zeros((places[-1].page, 80, 100), np.uint8)
    for (width, height), place in zip(sizes, places, strict=True):
        assert place.x + width <= 100 and place.y + height <= 80
        area = pages[place.page - 1, place.y : place.y + height + GAP_PX, place.x : place.x + width + GAP_PX]
        assert not area.any()
        pages[place.page - 1, place.y : place.y + height, place.x : place.x + width] = 1


def test_a_vignette_larger_than_a_page_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        pack([(10, 10), (200, 5)], 100, 100)


def test_season_is_nested_and_described(tmp_path: Path) -> None:
    runs = simulate_season(tmp_path, runs=3, particles=12, seed=2)
    assert len({run.name for run in runs}) == 3
    for run in runs:
        assert run.folder.relative_to(tmp_path).parts[:2] == ("2024", f"{run.started_at:%m}")
        assert (run.folder / f"{run.name}.lst").is_file()
    with (tmp_path / "samples.csv").open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["run"] for row in rows] == [run.name for run in runs]
    from plankter.formats.sample_table import read_sample_table

    samples = [row.sample for row in read_sample_table(tmp_path / "samples.csv")]
    assert samples[0].volume_filtered_l == 50 and samples[0].sampled_at is not None
    assert (runs[0].started_at - samples[0].sampled_at).total_seconds() == 7200
    assert len({sample.sample_id for sample in samples}) == 3


def test_kinds_bloom_in_their_season() -> None:
    for name, (peak, spread) in BLOOMS.items():
        assert kind_shares_on(peak)[name] > 5 * kind_shares_on(peak + 4 * spread)[name]
    assert kind_shares_on(100).keys() == KINDS.keys()


def test_season_arguments() -> None:
    with pytest.raises(ValueError, match="at least one"):
        simulate_season(Path("nowhere"), runs=0)
