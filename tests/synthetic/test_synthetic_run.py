"""A made-up FlowCam run against the rules that real runs keep."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter._errors import PlankterError
from plankter.formats.flowcam_cla import parse_cla
from plankter.formats.flowcam_ctx import parse_ctx
from plankter.formats.flowcam_fields import V017_FIELDS
from plankter.formats.flowcam_summary import parse_run_summary, summary_number
from plankter.synthetic import KINDS, SyntheticRun, simulate_flowcam_run
from plankter.synthetic.context import nearest_optics
from plankter.synthetic.real import real_vignettes

N = 90


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRun:
    return simulate_flowcam_run(tmp_path_factory.mktemp("runs"), name="trial_10x", particles=N, seed=4, classified=True)


@pytest.fixture(scope="module")
def table(run: SyntheticRun) -> dict[str, list[str]]:
    lines = (run.folder / "trial_10x.lst").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "017" and lines[1] == "num-fields|65"
    assert [tuple(line.split("|")) for line in lines[2:67]] == list(V017_FIELDS)
    rows = [line.split("|") for line in lines[67:]]
    assert len(rows) == N and {len(row) for row in rows} == {65}
    return {name: [row[i] for row in rows] for i, (name, _) in enumerate(V017_FIELDS)}


def numbers(table: dict[str, list[str]], name: str) -> np.ndarray:
    return np.array([float(cell) for cell in table[name]])


def test_folder_holds_the_files_of_a_real_run(run: SyntheticRun) -> None:
    found = {path.name for path in run.folder.iterdir()}
    pages = [f"trial_10x_{page:06d}{kind}.tif" for page in range(1, run.pages + 1) for kind in ("", "_bin")]
    texts = ["trial_10x.lst", "trial_10x.ctx", "trial_10x.cla", "trial_10x_run_summary.txt", "trial_10x_notes.txt"]
    assert found == {*pages, *texts, "cal_image_000001.tif"}
    assert b"SYNTHETIC" in (run.folder / "trial_10x_notes.txt").read_bytes()
    assert (run.folder / "trial_10x.ctx").read_bytes().count(b"\r\n") > 60


def test_truth_is_counted_in_list_order(run: SyntheticRun) -> None:
    assert len(run) == len(run.classes) == len(run.area_px) == N
    assert run.counts == Counter(run.classes) and sum(run.counts.values()) == N
    assert np.count_nonzero(run.is_real) == N // 2
    published = {vignette.class_name for vignette in real_vignettes()}
    for class_name, is_real, length in zip(run.classes, run.is_real, run.true_length_um, strict=True):
        assert class_name in (published if is_real else KINDS)
        assert math.isnan(length) == is_real


def test_collages_are_lzw_rgb_and_masks_are_bits(run: SyntheticRun) -> None:
    from PIL import Image

    for page in range(1, run.pages + 1):
        with Image.open(run.folder / f"trial_10x_{page:06d}.tif") as collage:
            assert (collage.mode, collage.size, collage.tag_v2[259]) == ("RGB", (1292, 964), 5)  # 259: compression
        with Image.open(run.folder / f"trial_10x_{page:06d}_bin.tif") as bits:
            assert (bits.mode, bits.size) == ("L", (1292, 964))
            assert set(np.unique(np.asarray(bits))) == {0, 255}
    with Image.open(run.folder / "cal_image_000001.tif") as frame:
        assert (frame.mode, frame.size) == ("L", (1292, 964))


def test_boxes_are_apart_and_masks_count_to_raw_area(run: SyntheticRun, table: dict[str, list[str]]) -> None:
    taken: dict[str, np.ndarray] = {}
    pages = {name: cv2.imread(str(run.folder / name), cv2.IMREAD_GRAYSCALE) for name in set(table["collage_file"])}
    masks = {n: cv2.imread(str(run.folder / n.replace(".tif", "_bin.tif")), cv2.IMREAD_GRAYSCALE) for n in pages}
    assert len(pages) == run.pages > 1
    for i, name in enumerate(table["collage_file"]):
        x, y, w, h = (int(table[f"image_{key}"][i]) for key in "xywh")
        used = taken.setdefault(name, np.zeros((964, 1292), np.uint8))
        assert x >= 0 and y >= 0 and x + w <= 1292 and y + h <= 964
        assert not used[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any()  # 2 px of black between any two
        used[y : y + h, x : x + w] = 1
        assert np.count_nonzero(masks[name][y : y + h, x : x + w]) == float(table["raw_area"][i]) == run.area_px[i]
        assert np.median(pages[name][y : y + h, x : x + w]) > 0
        src_x, src_y = int(table["src_x"][i]), int(table["src_y"][i])
        assert min(src_x, src_y) >= 1 and src_x + w - 1 <= 1278 and src_y + h - 1 <= 958
    for name, used in taken.items():
        assert not pages[name][used == 0].any() and not masks[name][used == 0].any()


def test_list_keeps_the_formulas_measured_on_real_lists(table: dict[str, list[str]]) -> None:
    c, f = numbers(table, "cal_const"), numbers(table, "fringe_size")
    raw = {name[4:]: numbers(table, name) for name in table if name.startswith("raw_")}

    def g(px: np.ndarray) -> np.ndarray:
        return c * np.maximum(px - f, px / 2)

    p, filled = raw["perimeter"], raw["filled_area"]
    abd, fd = g(np.sqrt(4 * raw["area"] / np.pi)), g(np.sqrt(4 * filled / np.pi))
    root = np.sqrt(np.maximum((p / 4) ** 2 - filled, 0))
    expected = {
        "abd_diameter": abd,
        "abd_area": np.pi / 4 * abd**2,
        "fd_diameter": fd,
        "filled_area": np.pi / 4 * fd**2,
        "length": g(raw["feret_max"]),
        "width": g(raw["feret_min"]),
        "esd_diameter": g(raw["feret_mean"]),
        "perimeter": c * p,
        "convex_perimeter": c * (raw["convex_perimeter"] - f),
        "roughness": numbers(table, "perimeter") / numbers(table, "convex_perimeter"),
        "compactness": np.maximum(1, p**2 / (4 * np.pi * filled)),
        "intensity": numbers(table, "sum_intensity") / raw["area"],
    }
    for name, values in expected.items():
        assert np.abs(numbers(table, name) - values).max() < 2e-4, name
    elongation = (p / 4 + root) / (p / 4 - root)
    assert np.allclose(numbers(table, "elongation"), elongation, rtol=1e-4)
    assert (raw["filled_area"] >= raw["area"]).all() and (raw["feret_max"] >= raw["feret_mean"]).all()
    assert (raw["feret_mean"] >= raw["feret_min"]).all() and (raw["convex_hull_area"] > 0).all()


def test_grey_columns_come_from_the_pixels_of_the_mask(run: SyntheticRun, table: dict[str, list[str]]) -> None:
    i = 7
    name = table["collage_file"][i]
    x, y, w, h = (int(table[f"image_{key}"][i]) for key in "xywh")
    image = cv2.imread(str(run.folder / name))[y : y + h, x : x + w].astype(float)
    mask = cv2.imread(str(run.folder / name.replace(".tif", "_bin.tif")), 0)[y : y + h, x : x + w] > 0
    blue, green, red = (image[:, :, k][mask].mean() for k in range(3))
    for column, value in (("avg_red", red), ("avg_green", green), ("avg_blue", blue)):
        assert float(table[column][i]) == pytest.approx(value, abs=1e-4)
    weighed = np.rint(0.11 * image[:, :, 2] + 0.59 * image[:, :, 1] + 0.30 * image[:, :, 0])[mask]
    assert float(table["intensity"][i]) == pytest.approx(weighed.mean(), abs=1e-4)
    assert float(table["sigma_intensity"][i]) == pytest.approx(weighed.std(), abs=1e-4)


def test_ids_frames_times_and_guids(run: SyntheticRun, table: dict[str, list[str]]) -> None:
    assert table["id"] == [str(i + 1) for i in range(N)]
    frames, times = numbers(table, "src_image"), [datetime.fromisoformat(t) for t in table["timestamp"]]
    assert (np.diff(frames) >= 0).all() and times == sorted(times)
    assert len(set(table["image_id"])) == N
    assert all(re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", guid) for guid in table["image_id"])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", t) for t in table["timestamp"])
    elapsed = numbers(table, "elapsed_time")
    gaps = [(t - times[0]).total_seconds() for t in times]
    assert np.allclose(gaps, elapsed - elapsed[0], atol=0.0015)


def test_volume_context_and_summary_agree(run: SyntheticRun, table: dict[str, list[str]]) -> None:
    ctx = parse_ctx((run.folder / "trial_10x.ctx").read_text(encoding="utf-8"))
    summary = parse_run_summary((run.folder / "trial_10x_run_summary.txt").read_text(encoding="utf-8"))
    region, fluid, stats = ctx["CaptureRegion"], ctx["Fluid"], ctx["CaptureStats"]
    wide = int(region["AcceptableRight"]) - int(region["AcceptableLeft"]) + 1
    high = int(region["AcceptableBottom"]) - int(region["AcceptableTop"]) + 1
    volume = wide * high * float(fluid["CalibrationConstant"]) ** 2 * float(fluid["FlowCellDepth"]) * 1e-12
    volume *= int(stats["RawImageTotal"]) * float(stats["VolumeCF"])
    assert run.volume_imaged_ml == pytest.approx(volume, rel=1e-12)
    assert summary_number(summary, "Run", "Fluid Volume Imaged") == pytest.approx(volume, abs=5.1e-5)
    sampled = float(stats["SampleVolumeAspirated"]) - float(stats["CalibrationFluidVolume"])
    assert summary_number(summary, "Run", "Efficiency") == pytest.approx(100 * volume / sampled, abs=0.051)
    assert summary_number(summary, "Run", "Particle Count") == N
    used = len(set(table["src_image"]))
    assert summary_number(summary, "Images", "Used") == used
    assert summary_number(summary, "Images", "Total") == int(stats["RawImageTotal"]) >= int(table["src_image"][-1])
    assert summary_number(summary, "Images", "Particles Per Used Image") == pytest.approx(N / used, abs=0.0051)
    assert set(table["cal_const"]) == {fluid["CalibrationConstant"]} == {"0.5479"}
    start_utc = datetime.fromisoformat(ctx["General"]["RunStartTime"]).replace(tzinfo=UTC)
    local = dict(summary["Date/Time"])
    assert start_utc == run.started_at
    assert datetime.fromisoformat(local["Start"]) - start_utc.replace(tzinfo=None) == timedelta(hours=2)
    first, last = (datetime.fromisoformat(table["timestamp"][k]) for k in (0, -1))
    assert datetime.fromisoformat(local["Start"]) < first < last < datetime.fromisoformat(local["End"])


def test_classification_file_tells_the_truth(run: SyntheticRun) -> None:
    (truth,) = parse_cla((run.folder / "trial_10x.cla").read_text(encoding="utf-8"))
    found = {i: entry.name for entry in truth.classes for i in entry.ids}
    assert [found[i + 1] for i in range(N)] == list(run.classes)


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_same_seed_same_bytes_other_seed_other_run(tmp_path: Path) -> None:
    one, two, other = (
        simulate_flowcam_run(tmp_path / f"r{i}", particles=25, seed=seed) for i, seed in enumerate((11, 11, 12))
    )
    assert digest(one.folder) == digest(two.folder)
    assert digest(one.folder)["demo_10x.lst"] != digest(other.folder)["demo_10x.lst"]
    assert "demo_10x.cla" not in digest(one.folder)


@pytest.mark.parametrize(("share", "real"), [(0.0, 0), (1.0, 12)])
def test_all_drawn_and_all_real(tmp_path: Path, share: float, real: int) -> None:
    run = simulate_flowcam_run(tmp_path, particles=12, real_share=share)
    assert np.count_nonzero(run.is_real) == real
    assert (b"VLIZ" in (run.folder / "demo_10x_notes.txt").read_bytes()) == bool(real)


def test_one_particle_and_chosen_kinds_at_another_scale(tmp_path: Path) -> None:
    run = simulate_flowcam_run(
        tmp_path, name="one", particles=1, real_share=0, um_per_px=1.38, kind_shares={"bubble": 1}, local_offset_h=-4.5
    )
    assert run.classes == ("bubble",) and run.um_per_px == 1.38
    ctx = parse_ctx((run.folder / "one.ctx").read_text(encoding="utf-8"))
    assert (ctx["Software"]["CameraMagnification"], ctx["Fluid"]["FlowCellType"]) == ("4", "FC300")


def test_optics_follow_the_scale() -> None:
    assert [nearest_optics(scale).magnification for scale in (1.4, 0.55, 0.28)] == [4, 10, 20]
    with pytest.raises(ValueError, match="um_per_px"):
        nearest_optics(math.nan)


@pytest.mark.parametrize(
    "wrong",
    [
        {"particles": 0},
        {"real_share": 1.5},
        {"um_per_px": 0.0},
        {"particles_per_image": 0.0},
        {"name": "../out"},
        {"name": "a:b"},
        {"name": " "},
        {"seed": -1},
        {"started_at": datetime(2024, 1, 1)},
        {"local_offset_h": 30.0},
        {"kind_shares": {"unicorn": 1.0}},
        {"kind_shares": {"bubble": -1.0}},
        {"kind_shares": {}},
    ],
)
def test_arguments_out_of_range_are_refused_and_nothing_is_written(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        simulate_flowcam_run(tmp_path, **{"particles": 3, **wrong})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    run = simulate_flowcam_run(tmp_path, particles=2)
    before = digest(run.folder)
    with pytest.raises(PlankterError, match="holds a run"):
        simulate_flowcam_run(tmp_path, particles=2, seed=2)
    assert digest(run.folder) == before


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo_10x").write_text("x")
    with pytest.raises(PlankterError, match="demo_10x"):
        simulate_flowcam_run(tmp_path, particles=2)
