"""What happens in the field: cut lists, missing and damaged collages, boxes outside, names that lead elsewhere."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter._errors import ReadError
from plankter.formats.flowcam_cla import write_cla
from plankter.formats.flowcam_lst import write_lst
from plankter.readers.base import RunSource
from plankter.readers.flowcam import FlowCamReader
from plankter.types import Severity, Vignette

MakeRun = Callable[..., RunSource]
READER = FlowCamReader()


def read_all(source: RunSource):  # type: ignore[no-untyped-def]
    read = READER.read(source)
    return read, list(READER.vignettes(source, read.particles))


def codes(read) -> set[str]:  # type: ignore[no-untyped-def]
    return {flag.code for flag in read.run.flags}


def images(found: list[Vignette]) -> list[bool]:
    return [vignette.image is not None for vignette in found]


def test_a_whole_run(make_run: MakeRun, pixels_of: Callable[[int], np.ndarray]) -> None:
    source = make_run()
    read, found = read_all(source)
    assert read.run.run_id == hashlib.sha256(source.path.read_bytes()).hexdigest()[:16]
    assert read.run.files["RUN.lst"] == hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert len(read.run.files) == 11
    assert (read.run.sample_id, read.run.name, read.run.instrument) == ("station", "RUN", "flowcam")
    assert read.run.volume_imaged_ml == pytest.approx(0.1)  # 1e6 px * 0.25 um2 * 100 um * 4000 images
    assert read.run.started_at == datetime(2024, 6, 1, 10, tzinfo=UTC)
    assert read.run.flags == ()
    assert [(label.index, label.class_name) for label in read.labels] == [(0, "diatom"), (2, "diatom"), (14, "other")]
    assert len(found) == 15
    for vignette in found:
        x = 30 * (vignette.index % 5)
        assert np.array_equal(vignette.image, pixels_of(1 + vignette.index // 5)[10:35, x : x + 20])
        assert vignette.mask is not None and vignette.mask[:10].all() and not vignette.mask[10:].any()
        assert vignette.image is not None
        base = vignette.image.base
        assert base is None or (isinstance(base, np.ndarray) and base.nbytes == 25 * 20 * 3)  # the collage can go


def test_particles_that_alternate_between_collages(make_run: MakeRun, pixels_of: Callable[[int], np.ndarray]) -> None:
    pages = [1 + (7 * i) % 5 for i in range(25)]
    source = make_run(collages=5, collage_file=[f"RUN_{page:06d}.tif" for page in pages])
    _, found = read_all(source)
    for vignette, page in zip(found, pages, strict=True):
        x = 30 * (vignette.index % 5)
        assert np.array_equal(vignette.image, pixels_of(page)[10:35, x : x + 20])


def test_reading_may_stop_half_way(make_run: MakeRun) -> None:
    source = make_run()
    read = READER.read(source)
    vignettes = READER.vignettes(source, read.particles)
    assert next(vignettes).index == 0
    vignettes.close()  # type: ignore[attr-defined]


def test_a_cut_list_gives_its_good_rows(make_run: MakeRun) -> None:
    source = make_run()
    source.path.write_bytes(source.path.read_bytes()[:-100])
    read, found = read_all(source)
    assert len(read.particles) == 14
    assert images(found) == [True] * 14
    flag = next(flag for flag in read.run.flags if flag.code == "list-truncated")
    assert (flag.file, flag.row, flag.severity) == ("RUN.lst", 67 + 15, Severity.ERROR)
    assert {"count-disagrees", "labels-unknown-ids"} <= codes(read)


def test_a_missing_collage_fails_its_particles(make_run: MakeRun) -> None:
    source = make_run()
    (source.path.parent / "RUN_000002.tif").unlink()
    read, found = read_all(source)
    assert images(found) == [True] * 5 + [False] * 5 + [True] * 5
    assert {vignette.failure for vignette in found[5:10]} == {"collage RUN_000002.tif is missing"}
    assert read.particles.failure[5] == "collage RUN_000002.tif is missing"
    assert read.particles.page[5] == "RUN_000002.tif"
    assert "collages-missing" in codes(read)


def test_a_list_alone_is_no_failure(make_run: MakeRun) -> None:
    source = make_run()
    for path in source.path.parent.glob("*.tif"):
        path.unlink()
    read, found = read_all(source)
    assert read.particles.page == (None,) * 15
    assert [(v.image, v.mask, v.failure) for v in found] == [(None, None, None)] * 15
    assert "list-alone" in codes(read)
    assert read.run.volume_imaged_ml == pytest.approx(0.1)
    assert not read.has_masks


def test_missing_companions_are_said(make_run: MakeRun) -> None:
    source = make_run()
    for name in ("RUN.ctx", "RUN_run_summary.txt", "cal_image_000001.tif", "RUN_000002_bin.tif"):
        (source.path.parent / name).unlink()
    read, found = read_all(source)
    expected = {"no-context", "no-summary", "masks-missing", "calibration-image-missing", "time-zone-unknown"}
    assert codes(read) == expected
    assert [v.mask is not None for v in found] == [True] * 5 + [False] * 5 + [True] * 5
    assert read.has_masks
    assert (read.run.um_per_px, read.run.volume_imaged_ml, read.run.started_at) == (0.5, None, None)


@pytest.mark.parametrize("damage", ["cut", "middle", "text", "empty"])
def test_a_damaged_collage_among_good_ones(make_run: MakeRun, damage: str) -> None:
    source = make_run()
    path = source.path.parent / "RUN_000002.tif"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "middle":
        # OpenCV alone would hand out wrong pixels here without a word
        data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    else:
        data = bytearray(b"no image" if damage == "text" else b"")
    path.write_bytes(data)
    _, found = read_all(source)
    assert images(found) == [True] * 5 + [False] * 5 + [True] * 5
    for vignette in found[5:10]:
        assert vignette.failure is not None
        assert vignette.failure.startswith("collage RUN_000002.tif cannot be used: ")


def test_a_damaged_mask_leaves_the_vignettes(make_run: MakeRun) -> None:
    source = make_run()
    (source.path.parent / "RUN_000001_bin.tif").write_bytes(b"no image")
    cv2.imwrite(str(source.path.parent / "RUN_000002_bin.tif"), np.zeros((5, 5), np.uint8))
    read, found = read_all(source)
    assert images(found) == [True] * 15
    assert [v.mask is not None for v in found] == [False] * 10 + [True] * 5
    assert [flag.code for flag in read.run.flags] == ["mask-damaged", "mask-damaged", "masks-missing"]


def test_a_box_outside_names_box_and_collage(make_run: MakeRun) -> None:
    x = [30 * (i % 5) for i in range(15)]
    x[7] = 181
    source = make_run(image_x=x)
    read, found = read_all(source)
    expected = "the box x=181 y=10 width=20 height=25 lies outside the collage of 200 x 120 px"
    assert found[7].failure == read.particles.failure[7] == expected
    assert sum(images(found)) == 14


def tiff_bomb(width: int, height: int) -> bytes:
    """A TIFF of a few hundred bytes that claims width x height pixels."""
    strip = zlib.compress(bytes(1000))
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, height), (279, 4, len(strip))]  # fmt: skip
    ifd = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHI", tag, kind, 1) + (struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value))
        for tag, kind, value in tags
    )
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + ifd + bytes(4)


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_an_image_bomb_is_not_decoded(make_run: MakeRun, side: int) -> None:
    source = make_run()
    (source.path.parent / "RUN_000003.tif").write_bytes(tiff_bomb(side, side))
    read, found = read_all(source)
    assert images(found) == [True] * 10 + [False] * 5
    assert "over the limit" in str(found[10].failure)
    assert found[10].failure == read.particles.failure[10]
    assert "collage-damaged" in codes(read)


def test_no_name_leads_out_of_the_folder(make_run: MakeRun, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "secret.tif"), np.zeros((120, 200, 3), np.uint8))
    names = ["RUN_000001.tif"] * 15
    names[3:7] = ["../secret.tif", str(tmp_path / "secret.tif"), "..", "..\\secret.tif"]
    _, found = read_all(make_run(collage_file=names))
    assert images(found) == [True] * 3 + [False] * 4 + [True] * 8
    assert found[3].failure == found[4].failure == found[6].failure == "collage secret.tif is missing"
    assert "names no collage" in str(found[5].failure)


def test_windows_paths_and_other_case_are_found(make_run: MakeRun) -> None:
    names = [f"C:\\FlowCam\\data\\run_{1 + i // 5:06d}.TIF" for i in range(15)]
    read, found = read_all(make_run(collage_file=names))
    assert images(found) == [True] * 15
    assert all(vignette.mask is not None for vignette in found)
    assert read.particles.page[0] == "run_000001.TIF"


def test_an_unknown_version_is_refused(make_run: MakeRun) -> None:
    source = make_run()
    source.path.write_text(source.path.read_text().replace("017", "031", 1))
    assert READER.can_read(source.path) is None  # it is a list, and reading it says what is wrong
    with pytest.raises(ReadError, match="version '031'; expected '017'") as caught:
        READER.read(source)
    assert caught.value.path == str(source.path)
    assert caught.value.row == 1


def test_a_missing_list_is_a_read_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be read"):
        READER.read(RunSource("flowcam", tmp_path / "no.lst", "no.lst"))


def test_an_empty_run_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "none.lst"
    path.write_text(write_lst({}, 0))
    read, found = read_all(RunSource("flowcam", path, "none.lst"))
    assert len(read.particles) == 0
    assert found == []
    assert "empty-run" in codes(read)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_of_every_text(make_run: MakeRun, encoding: str) -> None:
    source = make_run()
    (source.path.parent / "RUN_notes.txt").write_bytes("Nährstoffe µ".encode(encoding))
    for name in ("RUN.lst", "RUN.ctx", "RUN.cla", "RUN_run_summary.txt"):
        path = source.path.parent / name
        path.write_bytes(path.read_bytes().decode().encode(encoding))
    assert READER.can_read(source.path) is None
    read, found = read_all(source)
    assert images(found) == [True] * 15
    assert read.run.volume_imaged_ml == pytest.approx(0.1)
    assert len(read.labels) == 3
    assert read.notes == "Nährstoffe µ"
    assert read.run.flags == ()


def test_repeated_ids_and_labels_of_unknown_ones(make_run: MakeRun) -> None:
    ids = list(range(1, 16))
    ids[4] = 3
    source = make_run(id=ids)
    (source.path.parent / "RUN.cla").write_text(write_cla({"mine": {"a": [1, 3, 99], "b": [1]}}))
    read = READER.read(source)
    assert codes(read) == {"duplicate-ids", "labels-unknown-ids", "labels-several-classes"}
    assert [(label.index, label.class_name) for label in read.labels] == [(0, "a"), (0, "b")]


def test_broken_labels_never_stop_a_run(make_run: MakeRun) -> None:
    source = make_run()
    (source.path.parent / "RUN.cla").write_text("v9\n")
    read = READER.read(source)
    assert read.labels == ()
    (flag,) = read.run.flags
    assert (flag.code, flag.file, flag.row) == ("labels-unreadable", "RUN.cla", 1)


def test_an_export_under_another_name_is_said(make_run: MakeRun) -> None:
    source = make_run(name="RUN_images")
    assert "saved-as-export" in codes(READER.read(source))


def test_a_list_of_another_name_takes_the_only_context(make_run: MakeRun) -> None:
    source = make_run()
    moved = source.path.rename(source.path.with_name("metadata.lst"))
    read = READER.read(RunSource("flowcam", moved, str(moved)))
    assert read.run.volume_imaged_ml == pytest.approx(0.1)
    assert len(read.labels) == 3


def test_two_lists_in_a_folder_do_not_share_their_files(make_run: MakeRun) -> None:
    first, second = make_run(name="A"), make_run(name="A_2", collages=1)
    (first.path.parent / "A.ctx").unlink()
    files, others = READER.read(first).run.files, READER.read(second).run.files
    assert set(files) & set(others) == {"cal_image_000001.tif"}
    assert "A_2_000001.tif" in others and "A_000003_bin.tif" in files
    assert "no-context" in codes(READER.read(first))


def test_a_csv_that_disagrees_with_its_list_is_a_problem_only(make_run: MakeRun) -> None:
    source = make_run()
    rows = "".join(f"{i},0.00,1.0\n" for i in range(1, 15))
    (source.path.parent / "RUN.csv").write_text(f"Particle ID,Diameter (ABD),Length,Width\n{rows}")
    read = READER.read(source)
    assert read.run.flags == ()
    assert [flag.code for flag in read.problems] == ["csv-disagrees"]


def test_a_run_of_version_5_is_read_by_its_export(tmp_path: Path, pixels_of: Callable[[int], np.ndarray]) -> None:
    header = "Name,Length (µm),Image File,Image X (px),Image Y (px),Image Width (px),Image Height (px),Capture ID,UUID"
    (tmp_path / "v5.csv").write_bytes(
        f"{header}\na,4.5,c_1.png,30,10,20,25,7,x\nb,5.5,c_1.png,60,10,20,25,8,y\n".encode("latin-1")
    )
    (tmp_path / "v5_summary.csv").write_text("Fluid Volume Imaged (ml),0.25\nCalibration Factor,0.5\nCount,2\n")
    cv2.imwrite(str(tmp_path / "c_1.png"), pixels_of(1))
    assert READER.can_read(tmp_path / "v5.csv") is None
    assert READER.can_read(tmp_path / "v5_summary.csv") is not None
    source = RunSource("flowcam", tmp_path / "v5.csv", "v5.csv")
    read, found = read_all(source)
    assert read.particles.label == ("7", "8")
    assert np.array_equal(found[1].image, pixels_of(1)[10:35, 60:80])
    assert (read.run.um_per_px, read.run.volume_imaged_ml) == (0.5, 0.25)
    (tmp_path / "v5.lst").write_text(write_lst({}, 0))
    assert "beside a list" in str(READER.can_read(tmp_path / "v5.csv"))
