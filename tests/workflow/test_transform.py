"""The copy of an image set: whole or not there, every file in the manifest, the same again from the same seed."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter._errors import Conflict, ModelError, NotFound, PlankterError, ReadError
from plankter.classify.models import built_in_models, load_model
from plankter.types import Model
from plankter.vignettes.codec import read_image
from plankter.vignettes.match import CARD_KEY, measure_statistics
from plankter.workflow import image_sets
from plankter.workflow import transform as transform_module
from plankter.workflow.image_sets import measure_folder
from plankter.workflow.predict import image_files
from plankter.workflow.transform import HEADER, transform


def write(path: Path, background: int, grey: int, seed: int = 0, size: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((size, size + 11), background, np.uint8)
    cv2.ellipse(image, (size // 2, size // 2), (size // 3, size // 4), seed * 20.0, 0, 360, (grey,), -1)
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    cv2.imwrite(str(path), np.clip(image + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of 5 and 2 images, light and pale."""
    folder = tmp_path / "images"
    for number in range(5):
        write(folder / "Copepoda" / f"c{number}.png", 240, 190, number)
    for number in range(2):
        write(folder / "Detritus" / "deep" / f"d{number}.jpg", 240, 190, number)
    return folder


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    for number in range(6):
        write(tmp_path / "reference" / f"r{number}.png", 170, 90, number, size=50)
    return tmp_path / "reference"


def manifest(out: Path) -> list[dict[str, str]]:
    data = (out / "manifest.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    assert tuple(rows[0]) == HEADER
    return rows


def digests(out: Path) -> dict[str, str]:
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*")) if p.is_file()
    }  # fmt: skip


def test_a_matched_copy_mirrors_the_folders_and_says_what_was_done(
    images: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = transform(images, out, like=str(reference))
    rows = manifest(out)
    assert (found["images"], found["written"], found["failures"]) == (7, 7, [])
    assert found["classes"] == {"Copepoda": 5, "Detritus": 2}
    assert {row["output_file"] for row in rows} >= {"Copepoda/c0.png", "Detritus/deep/d1.png"}
    for row in rows:
        source, output = images / row["source_file"], out / row["output_file"]
        assert hashlib.sha256(source.read_bytes()).hexdigest() == row["source_sha256"]
        assert hashlib.sha256(output.read_bytes()).hexdigest() == row["output_sha256"]
        assert "background 2" in row["done"] and (row["copy"], row["seed"]) == ("0", "0")
        assert read_image(output).shape[:2] == (int(row["output_height_px"]), int(row["output_width_px"]))
    like, after = (measure_folder(folder)[0] for folder in (reference, out / "Copepoda"))
    assert abs(after.background - like.background) <= 3 and after.contrast == pytest.approx(like.contrast, rel=0.1)
    assert read_image(out / "preview.png").shape[1] > 500
    assert found["matching"]["of"]["images"] == 7 and found["matching"]["like"]["images"] == 6
    json.dumps(found, allow_nan=False)


def test_the_same_seed_gives_the_same_files_and_another_gives_others(images: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        transform(images, tmp_path / name, copies=2, seed=seed)
    one, two, three = (digests(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two and len(one) == 7 * 3 + 2
    same = {name for name in one if one[name] == three[name]}
    assert same == {name for name in one if "copy" not in name and not name.startswith(("manifest", "preview"))} | (
        {"preview.png"} if one["preview.png"] == three["preview.png"] else set()
    )


def test_another_image_does_not_change_the_copies_of_the_others(images: Path, tmp_path: Path) -> None:
    transform(images, tmp_path / "before", copies=1)
    write(images / "Copepoda" / "a_first.png", 240, 100, 9)
    transform(images, tmp_path / "after", copies=1)
    before, after = digests(tmp_path / "before"), digests(tmp_path / "after")
    assert all(after[name] == before[name] for name in before if name.startswith(("Copepoda/", "Detritus/")))


def test_every_class_gets_as_many_images(images: Path, tmp_path: Path) -> None:
    found = transform(images, tmp_path / "out", balance=4)
    rows = manifest(tmp_path / "out")
    assert found["classes"] == {"Copepoda": 4, "Detritus": 4} == dict(Counter(row["class"] for row in rows))
    assert all(row["copy"] == "0" for row in rows if row["class"] == "Copepoda")
    per_source = Counter(row["source_file"] for row in rows if row["class"] == "Detritus")
    assert set(per_source.values()) == {2}
    assert all(row["done"] == "" for row in rows if row["copy"] == "0")
    assert all("turned" in row["done"] for row in rows if row["copy"] != "0")


def test_the_preview_shows_matched_images_and_varied_copies(images: Path, reference: Path, tmp_path: Path) -> None:
    transform(images, tmp_path / "varied", copies=1)  # nothing is matched: only the copies differ from their sources
    transform(images, tmp_path / "both", like=str(reference), copies=1, preview=tmp_path / "sheet.png")
    alone, both = read_image(tmp_path / "varied" / "preview.png"), read_image(tmp_path / "sheet.png")
    before, after = alone[26:100, 6:100], alone[202:276, 6:100]
    assert not np.array_equal(before, after) and not (tmp_path / "both" / "preview.png").exists()
    assert both.shape[0] > alone.shape[0]  # and the reference below


def test_a_flat_folder_is_one_class_without_a_name(reference: Path, tmp_path: Path) -> None:
    assert transform(reference, tmp_path / "out", balance=9)["classes"] == {"": 9}


def test_unreadable_files_are_named_and_left_out(images: Path, reference: Path, tmp_path: Path) -> None:
    (images / "Copepoda" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    (images / "Copepoda" / "text.jpg").write_text("not an image")
    whole = (images / "Copepoda" / "c0.png").read_bytes()
    (images / "Detritus" / "cut.png").write_bytes(whole[: len(whole) // 2])
    found = transform(images, tmp_path / "out", like=str(reference), copies=1)
    assert [f["file"] for f in found["failures"]] == ["Copepoda/broken.png", "Copepoda/text.jpg", "Detritus/cut.png"]
    assert all(f["reason"] for f in found["failures"]) and found["written"] == 14 and found["images"] == 10


def test_channels_that_are_no_colour_are_left_out(
    images: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = np.zeros((20, 20, 2), np.uint8)
    decode = transform_module.decode_image
    monkeypatch.setattr(transform_module, "decode_image", lambda data, path: two if "c1" in path else decode(data))
    found = transform(images, tmp_path / "out", like=str(reference))
    assert [f["file"] for f in found["failures"]] == ["Copepoda/c1.png"] and found["written"] == 6


def test_nothing_readable_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_text("no")
    for options in ({"copies": 1}, {"like": str(tmp_path / "bad")}):
        with pytest.raises(ReadError, match="can be read"):
            transform(tmp_path / "bad", tmp_path / "out", **options)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["bad"]


def test_the_output_is_new_or_empty_and_outside_the_images(images: Path, reference: Path, tmp_path: Path) -> None:
    for wrong in (images / "out", images, reference / "deep" / "out"):
        with pytest.raises(Conflict):
            transform(images, wrong, like=str(reference))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    with pytest.raises(Conflict, match="empty folder"):
        transform(images, tmp_path / "full", copies=1)
    assert (tmp_path / "full" / "precious.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert transform(images, tmp_path / "empty", copies=1)["written"] == 14
    assert not (images / "out").exists() and sorted(p.name for p in images.iterdir()) == ["Copepoda", "Detritus"]


def test_a_stopped_copy_leaves_nothing(images: Path, tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int | None) -> None:
        if step == "images" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transform(images, tmp_path / "out", copies=1, progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images"]


@pytest.mark.parametrize(
    "options",
    [{}, {"copies": -1}, {"balance": 0}, {"copies": 1, "balance": 3}, {"copies": 1, "um_per_px": 1.0}],
    ids=str,
)
def test_contradictions_are_refused(images: Path, tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(PlankterError):
        transform(images, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_pixel_sizes_come_in_pairs(images: Path, reference: Path, tmp_path: Path) -> None:
    for one in ({"um_per_px": 1.0}, {"like_um_per_px": 1.0}):
        with pytest.raises(PlankterError, match="pixel size of one set alone"):
            transform(images, tmp_path / "out", like=str(reference), **one)  # type: ignore[arg-type]
    for wrong in (0.0, -2.0, float("nan")):
        with pytest.raises(PlankterError, match="above 0"):
            transform(images, tmp_path / "out", like=str(reference), um_per_px=wrong, like_um_per_px=2.0)
    transform(images, tmp_path / "out", like=str(reference), um_per_px=1.0, like_um_per_px=2.0)
    assert read_image(tmp_path / "out" / "Copepoda" / "c0.png").shape[0] == 20


def test_files_of_one_stem_do_not_take_each_others_place(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for number, name in enumerate(("a.png", "a.jpg", "A.bmp", "a_copy1.png", "preview.png", "manifest.png")):
        write(folder / name, 200, 100, number)
    transform(folder, tmp_path / "out", copies=1)
    rows = manifest(tmp_path / "out")
    outputs = [row["output_file"].lower() for row in rows]
    assert len(rows) == 12 and len(set(outputs)) == 12 and "preview.png" not in outputs
    assert all((tmp_path / "out" / row["output_file"]).is_file() for row in rows)


def test_jpeg_stays_jpeg_where_asked(images: Path, tmp_path: Path) -> None:
    transform(images, tmp_path / "out", copies=1, keep_jpeg=True)
    suffixes = Counter(Path(row["output_file"]).suffix for row in manifest(tmp_path / "out"))
    assert suffixes == {".png": 10, ".jpg": 4}
    assert (tmp_path / "out" / "Detritus" / "deep" / "d0_copy1.jpg").read_bytes()[:3] == b"\xff\xd8\xff"


def test_names_that_a_spreadsheet_would_run_are_made_harmless(tmp_path: Path) -> None:
    write(tmp_path / "images" / "=cmd" / "+x.png", 200, 100)
    transform(tmp_path / "images", tmp_path / "out", copies=1)
    row = manifest(tmp_path / "out")[0]
    assert row["class"] == "'=cmd" and row["source_file"].startswith("'=")


def test_a_model_is_a_reference_where_its_card_says_how_its_images_look(
    images: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        transform(images, tmp_path / "out", like="no_such_model")
    shipped = load_model(built_in_models()["flowcam"])

    def with_card(card: object) -> None:
        found = Model(**{**shipped.__dict__, "card": {CARD_KEY: card}})
        monkeypatch.setattr(image_sets, "find_model", lambda name, workspace: found)

    for wrong in (None, "no object", {"version": 99}):
        with_card(wrong)
        with pytest.raises(ModelError, match=r"how its training images look|version"):
            transform(images, tmp_path / "out", like="flowcam")
    statistics = measure_folder(reference)[0]
    with_card(json.loads(json.dumps(statistics.to_dict())))
    transform(images, tmp_path / "by_model", like="flowcam")
    transform(images, tmp_path / "by_folder", like=str(reference))
    one, two = digests(tmp_path / "by_model"), digests(tmp_path / "by_folder")
    assert {k: v for k, v in one.items() if k != "preview.png"} == {k: v for k, v in two.items() if k != "preview.png"}


def test_large_sets_are_described_by_some_of_their_images(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sets, "MEASURED_AT_MOST", 4)
    found, shown = measure_folder(reference, seed=1)
    assert found.images == 4 and len(shown) == 4


def test_zooscan_images_lose_bars_and_look_like_the_flowcam(shared_data: Path, tmp_path: Path) -> None:
    labelled = shared_data / "labelled"
    for folder in ("Copepoda", "detritus"):
        (tmp_path / "some" / folder).mkdir(parents=True)
        for path in sorted((labelled / "ecotaxa_ml_4class" / folder).glob("*.jpg"))[:12]:
            shutil.copy(path, tmp_path / "some" / folder)
    found = transform(tmp_path / "some", tmp_path / "out", like=str(labelled / "flowcam_vliz_demo"))
    assert found["written"] == 24 and found["matching"]["scale_bars"] and found["matching"]["margin"] is not None
    after = measure_statistics([read_image(p) for p in (tmp_path / "out").rglob("*/*.png")])
    assert after.scale_bar_share == 0 and abs(after.background - found["matching"]["like"]["background"]) <= 2


def test_the_preview_is_no_image_of_the_set(images: Path, tmp_path: Path) -> None:
    transform(images, tmp_path / "out", copies=1)
    assert (tmp_path / "out" / "preview.png").is_file()
    found = [path.name for path in image_files(tmp_path / "out")]
    assert len(found) == 2 * len(image_files(images)) and "preview.png" not in found
    (images / "preview.png").write_bytes((tmp_path / "out" / "preview.png").read_bytes())
    assert "preview.png" in [path.name for path in image_files(images)]  # somebody's own image of that name


def test_only_images_that_were_tried_are_said_to_be_unreadable(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(ReadError, match="none of 1 images"):
        transform(tmp_path / "images", tmp_path / "out", balance=1)
    with pytest.raises(ReadError, match="none of 3 images"):
        transform(tmp_path / "images", tmp_path / "out", copies=1)
    assert not (tmp_path / "out").exists()


def test_the_preview_overwrites_no_image_and_has_a_folder(images: Path, reference: Path, tmp_path: Path) -> None:
    image = image_files(images)[0]
    before = image.read_bytes()
    for wrong in (image, images / "new.png", image_files(reference)[0]):
        with pytest.raises(Conflict, match="preview"):
            transform(images, tmp_path / "out", like=str(reference), preview=wrong)
    with pytest.raises(Conflict, match="preview"):
        transform(image, tmp_path / "out", copies=1, preview=image)
    with pytest.raises(ReadError, match="folder that exists"):
        transform(images, tmp_path / "out", copies=1, preview=tmp_path / "missing" / "p.png")
    assert image.read_bytes() == before and not (tmp_path / "out").exists()
    transform(image, tmp_path / "out", copies=1, preview=image.parent / "beside.png")
    assert (image.parent / "beside.png").is_file()
