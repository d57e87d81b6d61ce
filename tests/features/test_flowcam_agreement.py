"""What we measure on the instrument's pixels against what the instrument wrote, column by column, on real runs.

The runs are read here by a few lines of their own, so that a mistake of the reader cannot hide one of the measures.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter.features.base import FeatureTable
from plankter.features.measures_table import MEASURES
from plankter.features.morphology import measure_many
from plankter.features.visualspreadsheet import visualspreadsheet_derived
from plankter.readers.base import RunSource
from plankter.vignettes.masks import own_mask

RUNS = {
    "416_Station40_09012015_10x": 3122,
    "7-Pygsuia-3LB-SFSW-Terasakiella-sample2-replicate1-day7-11Apr2025": 1000,
    "7-Pygsuia-SF-SW-NITRATE-day5-sample3-replicate3-08April2024": 1000,
    "7-Pygsuia-SF-SW-sulfate-day5-sample2-replicate3-08April2024": 1000,
    "COMICS_DY086": 506,
}
# VisualSpreadsheet 4.0.27 stored its collages with red and blue exchanged
SWAPPED = {"416_Station40_09012015_10x": {"avg_red": "avg_blue", "avg_blue": "avg_red"}}
# One COMICS particle of a flat mask has another long axis; one is off by a rounding step in its width
FLOOR = {"COMICS_DY086": {"raw_legendre_major": 0.998, "width": 0.998}}


@dataclass(frozen=True)
class RealRun:
    columns: dict[str, np.ndarray]
    pairs: list[tuple[np.ndarray, np.ndarray]]

    @property
    def origins(self) -> np.ndarray:
        return np.stack((self.columns["src_x"], self.columns["src_y"]), axis=1)


@cache
def real_run(folder: Path) -> RealRun:
    (path,) = folder.glob("*.lst")
    lines = path.read_text(encoding="latin-1").splitlines()
    count = int(lines[1].split("|")[1])
    rows = [line.split("|") for line in lines[2 + count :] if line.strip()]
    columns = {}
    for position, line in enumerate(lines[2 : 2 + count]):
        name, kind = line.split("|")
        columns[name] = np.array([row[position] for row in rows], float if kind in ("int32", "double") else str)
    pages = {
        name: (
            cv2.imread(str(folder / name), cv2.IMREAD_COLOR),
            cv2.imread(str(folder / name.replace(".tif", "_bin.tif")), 0),
        )
        for name in set(columns["collage_file"])
    }
    pairs = []
    for row, name in enumerate(columns["collage_file"]):
        x, y, w, h = (int(columns[f"image_{side}"][row]) for side in "xywh")
        image, mask = (page[y : y + h, x : x + w] for page in pages[name])
        pairs.append((image, mask > 127))
    return RealRun(columns, pairs)


def share_exact(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share equal to the four printed decimals; float32 holds about seven digits."""
    return float(np.mean(np.abs(ours - theirs) <= 1e-3 + 2e-6 * np.abs(theirs)))


def measured(run: RealRun) -> FeatureTable:
    columns = run.columns
    assert len(set(columns["cal_const"])) == len(set(columns["fringe_size"])) == 1
    return measure_many(
        run.pairs, float(columns["cal_const"][0]), float(columns["fringe_size"][0]), origins_px=run.origins
    )


@pytest.mark.parametrize("name", RUNS)
def test_every_column_from_pixels(shared_data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = real_run(shared_data / "flowcam" / name)
    table = measured(run)
    assert len(table.values) == RUNS[name]
    exact = {}
    for item in MEASURES:
        column = SWAPPED.get(name, {}).get(item.name, item.instrument_column)
        if column in run.columns:
            exact[column] = share_exact(table.column(item.name), run.columns[column])
    with capsys.disabled():
        print(f"\n{name}: {RUNS[name]} particles, {len(exact)} columns, share of exact agreement")
        print("  100 %: " + ", ".join(column for column, share in exact.items() if share == 1))
        print("  below: " + ", ".join(f"{column} {share:.2%}" for column, share in exact.items() if share < 1))
    assert len(exact) >= 32
    for column, share in exact.items():
        assert share >= FLOOR.get(name, {}).get(column, 1.0), f"{column}: {share:.4%} exact"


@pytest.mark.parametrize("name", RUNS)
def test_formulas_from_the_instruments_raw_columns(shared_data: Path, name: str) -> None:
    columns = real_run(shared_data / "flowcam" / name).columns
    derived = visualspreadsheet_derived(columns, columns["cal_const"], columns["fringe_size"])
    compared = {column: share_exact(values, columns[column]) for column, values in derived.items() if column in columns}
    assert len(compared) >= 11
    for column, share in compared.items():
        assert share >= 0.998, f"{column}: {share:.4%} exact"


@pytest.mark.parametrize("name", [name for name in RUNS if "Pygsuia" in name])
def test_columns_of_the_export_alone(shared_data: Path, name: str) -> None:
    folder = shared_data / "flowcam" / name
    with (folder / f"{name}.csv").open(encoding="latin-1", newline="") as file:
        rows = [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(file)]
    table = measured(real_run(folder))
    for theirs, ours in (
        ("Volume (ABD)", "volume_abd_um3"),
        ("Volume (ESD)", "volume_esd_um3"),
        ("Transparency", "transparency"),
        ("Aspect Ratio", "ellipse_aspect_ratio"),
        ("Circularity", "circularity"),
        ("Convexity", "convexity"),
        ("Geodesic Length", "geodesic_length_um"),
        ("Geodesic Thickness", "geodesic_thickness_um"),
        ("Length", "length_um"),
        ("Edge Gradient", "edge_gradient"),
    ):
        values = np.array([float(row[theirs]) for row in rows])
        assert share_exact(table.column(ours), values) >= 0.999, theirs


def test_without_the_frames_origin_callipers_stay_close(shared_data: Path) -> None:
    run = real_run(shared_data / "flowcam" / "COMICS_DY086")
    table = measure_many(run.pairs, None, 4.5)
    for column, limit in (("feret_max_px", 1.0), ("feret_min_px", 1.0), ("feret_mean_px", 0.2)):
        away = table.column(column) - run.columns[f"raw_{column[:-3]}"]
        assert np.abs(away).max() <= limit + 1e-3 and abs(away.mean()) < 0.4, column


@pytest.mark.parametrize(
    ("name", "floor"),
    [("416_Station40_09012015_10x", 0.93), ("COMICS_DY086", 0.95), *((n, 0.70) for n in RUNS if "Pygsuia" in n)],
)
def test_own_mask_against_the_instruments(
    shared_data: Path, name: str, floor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    overlap = []
    for image, mask in real_run(shared_data / "flowcam" / name).pairs:
        ours = own_mask(image)
        assert ours.any()
        overlap.append((ours & mask).sum() / (ours | mask).sum())
    with capsys.disabled():
        print(
            f"\n{name}: own mask, intersection over union: median {np.median(overlap):.3f}, mean {np.mean(overlap):.3f}"
        )
    assert np.median(overlap) >= floor


@pytest.mark.parametrize("name", ["416_Station40_09012015_10x", "COMICS_DY086"])
def test_through_the_reader(shared_data: Path, name: str) -> None:
    reader = pytest.importorskip("plankter.readers.flowcam").FlowCamReader()
    (path,) = (shared_data / "flowcam" / name).glob("*.lst")
    source = RunSource(reader.name, path, str(path.parent))
    read = reader.read(source)
    columns = read.particles.features
    pairs = [(vignette.image, vignette.mask) for vignette in reader.vignettes(source, read.particles)]
    origins = np.stack((columns["src_x"], columns["src_y"]), axis=1)
    table = measure_many(pairs, float(columns["cal_const"][0]), read.fringe_px, origins_px=origins)
    assert len(table.values) == RUNS[name]
    for item in MEASURES:
        column = SWAPPED.get(name, {}).get(item.name, item.instrument_column)
        if column in columns:
            assert share_exact(table.column(item.name), np.asarray(columns[column], float)) >= 0.998, item.name
