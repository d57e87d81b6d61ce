"""The archive: what comes back, what is refused, and what a kill, an error or a full disk leaves behind."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import small_runs
from PIL import Image
from small_runs import COLUMNS, features, mask_png, png

from plankter._errors import Conflict, NewerWorkspace, NotFound, StoreError
from plankter.store import archive_writer, files, zip_members
from plankter.store.archive import Archive
from plankter.store.archived_run import run_lock
from plankter.testing.examples import (
    CLASSES,
    example_particles,
    example_predictions,
    example_run,
    run_id_of,
)
from plankter.types import ImportedLabel, Sample
from plankter.vignettes.codec import decode_image

A = run_id_of("a")
Write = Callable[..., None]
LABELS = (ImportedLabel(0, "Copepoda", "auto"), ImportedLabel(3, "détritus", "Ada"))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def tree(root: Path) -> dict[str, str]:
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and ".locks" not in path.parts:
            found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_a_run_comes_back_as_it_was(archive: Archive, write_run: Write) -> None:
    assert archive.run_ids() == [] and not archive.has(A)
    write_run(archive, labels=LABELS)
    assert archive.run_ids() == [A] and archive.has(A)
    found = archive.open(A)
    assert (found.run, found.fringe_px, found.labels()) == (example_run(), 0.25, LABELS)
    expected, particles = example_particles(12), found.particles()
    for name in ("label", "page", "failure"):
        assert getattr(particles, name) == getattr(expected, name)
    assert np.array_equal(particles.box, expected.box) and list(particles.features) == list(expected.features)
    assert np.array_equal(particles.features["raw_area"], expected.features["raw_area"], equal_nan=True)
    assert np.array_equal(particles.features["capture"], expected.features["capture"])
    columns, values = found.features("morphology")
    assert columns == ("esd_um", "abd_area_um2", "grey_mean") and values.dtype == np.float32
    assert np.array_equal(values[:, 2], np.where(np.arange(12) % 5 == 4, np.nan, values[:, 2]), equal_nan=True)
    with pytest.raises(NotFound):
        found.features("other")


def test_pixels_are_read_at_their_offsets_and_by_any_zip_tool(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    found = archive.open(A)
    with zipfile.ZipFile(found.folder / "vignettes.zip") as packed:
        assert packed.testzip() is None
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in packed.infolist())
        for index in range(12):
            expected = None if index % 5 == 4 else png(index)
            assert found.vignette_png(index) == expected
            if expected:
                assert packed.read(f"{index:06d}.png") == expected
            assert found.mask_png(index) == (mask_png(index) if expected and index % 2 == 0 else None)
    there, offsets, lengths = found.vignette_index()
    assert there.tolist() == [i for i in range(12) if i % 5 != 4]
    raw = (found.folder / "vignettes.zip").read_bytes()
    for index, offset, length in zip(there, offsets, lengths, strict=True):
        assert raw[offset : offset + length] == png(int(index))
    assert list(found.read_vignettes([7, 4, 2])) == [(2, png(2)), (7, png(7))]
    digests = found.vignette_sha256()
    assert [d is None for d in digests] == [i % 5 == 4 for i in range(12)]
    assert digests[3] == hashlib.sha256(png(3)).hexdigest()
    for index in (-1, 12):
        with pytest.raises(NotFound):
            found.vignette_png(index)
        with pytest.raises(NotFound):
            list(found.read_vignettes([index]))


def test_rows_for_the_catalogue(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    rows, particles = archive.open(A).rows(), example_particles(12)
    assert rows.width_px[0] == 6 and rows.height_px[1] == 6  # of the vignette
    assert (rows.width_px[4], rows.height_px[4]) == (particles.box[4, 2], particles.box[4, 3])  # of the box alone
    assert rows.has_vignette.tolist() == [i % 5 != 4 for i in range(12)]
    assert rows.has_mask.tolist() == [i % 5 != 4 and i % 2 == 0 for i in range(12)]
    assert rows.failure == particles.failure
    assert rows.esd_um[2] == np.float32(6 / 7) and np.isnan(rows.area_um2[4])


def test_the_same_run_is_the_same_bytes(tmp_path: Path, write_run: Write) -> None:
    trees = []
    for name in ("one", "two"):
        write_run(Archive(tmp_path / name), labels=LABELS)
        trees.append(tree(tmp_path / name))
    assert trees[0] == trees[1] and len(trees[0]) == 6


def test_particles_without_pixels_need_not_be_added(archive: Archive, write_run: Write) -> None:
    write_run(archive, pixels=False)
    found = archive.open(A)
    assert found.vignette_index()[0].tolist() == [] and found.vignette_png(3) is None
    assert found.rows().width_px.tolist() == [0 if i % 4 == 3 else i % 7 + 2 for i in range(12)]


def test_a_run_without_particles(archive: Archive, write_run: Write) -> None:
    write_run(archive, n=0)
    found = archive.open(A)
    assert len(found.particles()) == len(found.rows()) == 0
    found.put_predictions(example_predictions(indices=()))
    assert len(found.predictions("m1")) == 0


def test_what_does_not_fit_is_refused(archive: Archive, write_run: Write) -> None:
    with archive.create(A) as writer:
        writer.add(3, b"x", None)
        with pytest.raises(StoreError, match="particle 2 came after particle 3"):
            writer.add(2, b"x", None)
        for run, n, rows in ((example_run("b"), 5, 5), (example_run(), 3, 3), (example_run(), 5, 4)):
            with pytest.raises(StoreError):
                writer.commit(run, example_particles(n), (), "m", "1", COLUMNS, features(rows), 0.0)
    for name in ("..", "../../etc", A.upper(), ""):
        with pytest.raises(NotFound):
            archive.open(name)
    assert archive.run_ids() == []


def test_nothing_is_left_by_an_error_or_without_a_commit(archive: Archive) -> None:
    with pytest.raises(ZeroDivisionError), archive.create(A) as writer:
        writer.add(0, b"x", None)
        raise ZeroDivisionError
    with archive.create(A) as writer:
        writer.add(0, b"x", None)
    assert tree(archive.root) == {} and archive.sweep() == []


@pytest.mark.parametrize("when", ["add", "close", "table", "run.json"])
def test_a_full_disk_is_said_and_leaves_nothing(
    archive: Archive, write_run: Write, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def full(*_arguments: object, **_rest: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    targets = {
        "add": (zip_members.ZipWriter, "add"),
        "close": (zip_members, "_end"),
        "table": (archive_writer, "write_table"),
        "run.json": (Path, "write_text"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*targets[when], full)
        with pytest.raises(StoreError, match="disk is full"):
            write_run(archive)
    assert archive.run_ids() == [] and tree(archive.root) == {}
    write_run(archive)
    assert archive.has(A)


def test_a_full_disk_spares_what_was_there(archive: Archive, write_run: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(archive)
    found = archive.open(A)
    found.put_predictions(example_predictions())
    before = tree(archive.root)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StoreError, match="disk is full"):
        found.put_predictions(example_predictions(seed=4))
    with pytest.raises(StoreError, match="disk is full"):
        found.put_embeddings("b1", np.zeros((12, 3)))
    assert tree(archive.root) == before


# -- updates
def test_an_update_that_adds_labels_keeps_the_pixels_file_and_what_was_added(
    archive: Archive, write_run: Write
) -> None:
    write_run(archive)
    first = archive.open(A)
    first.put_predictions(example_predictions())
    first.put_embeddings("b1", np.ones((12, 3)))
    write_run(archive, labels=LABELS, run=example_run(files={"a.lst": "00", "a.cla": "22"}))
    found = archive.open(A)
    assert found.labels() == LABELS and found.run.files == {"a.lst": "00", "a.cla": "22"}
    assert found.file("vignettes").name == "vignettes.zip" and found.file("labels").name == "labels~2.json"
    assert not (found.folder / "labels.json").exists()
    assert found.prediction_model_ids() == ["m1"] and found.embeddings("b1").shape == (12, 3)
    assert found.problems(deep=True) == [] and archive.sweep() == []


def test_an_update_may_add_pixels_but_not_take_or_change_them(archive: Archive, write_run: Write) -> None:
    write_run(archive, pixels=False)
    write_run(archive)
    assert len(archive.open(A).vignette_index()[0]) == 10
    before = tree(archive.root)
    for change in ({"pixels": False}, {"seed": 1}, {"n": 11}):
        with pytest.raises(Conflict, match=A):
            write_run(archive, **change)
        assert tree(archive.root) == before
    write_run(archive)
    assert tree(archive.root) == before


def test_the_same_pixels_packed_otherwise_are_no_conflict(
    archive: Archive, write_run: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(archive)

    def pillow(index: int, seed: int = 0) -> bytes:
        out = io.BytesIO()
        Image.fromarray(decode_image(original(index, seed))).save(out, "PNG", compress_level=9)
        return out.getvalue()

    original = small_runs.png
    monkeypatch.setattr(small_runs, "png", pillow)
    assert pillow(0) != original(0)
    write_run(archive)
    assert archive.open(A).vignette_png(0) == pillow(0)


@pytest.mark.parametrize("step", ["before run.json", "after run.json"])
def test_an_update_cut_short_leaves_the_old_run_or_the_new_one(
    archive: Archive, write_run: Write, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_run(archive)
    original = archive_writer.write_text

    def cut(path: Path, text: str) -> None:
        if step == "after run.json":
            original(path, text)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archive_writer, "write_text", cut)
        with pytest.raises(KeyboardInterrupt):
            write_run(archive, labels=LABELS)
    assert archive.open(A).labels() == (LABELS if step == "after run.json" else ())
    assert archive.open(A).problems(deep=True) == []
    assert archive.sweep() == [A] and archive.sweep() == []
    assert len(list(archive.open(A).folder.glob("labels*"))) == 1


# -- several at once
def test_two_that_write_the_same_run_come_one_after_the_other(archive: Archive, write_run: Write) -> None:
    inside, seen = threading.Event(), []

    def second() -> None:
        inside.wait()
        with archive.create(A):
            seen.append(archive.has(A))

    thread = threading.Thread(target=second)
    thread.start()
    with archive.create(A) as writer:
        inside.set()
        thread.join(timeout=0.1)  # must still be waiting
        assert thread.is_alive() and seen == []
        writer.commit(example_run(), example_particles(2), (), "m", "1", COLUMNS, features(2), 0.0)
    thread.join()
    assert seen == [True] and archive.run_ids() == [A]


def test_sweep_leaves_a_run_at_work_alone_and_removes_a_dead_one(archive: Archive, write_run: Write) -> None:
    write_run(archive, "b")
    dead = archive.root / f".partial-{run_id_of('dead')}"
    (dead / "features").mkdir(parents=True)
    (dead / "vignettes.zip").write_bytes(b"half")
    half_removed = archive.root / run_id_of("gone")
    half_removed.mkdir()
    (half_removed / "masks.zip").write_bytes(b"rest")
    found: list[str] = []
    with archive.create(A) as writer:
        writer.add(0, b"x", None)
        sweeping = threading.Thread(target=lambda: found.extend(archive.sweep()))
        sweeping.start()
        sweeping.join()
        assert (archive.root / f".partial-{A}" / "vignettes.zip").exists()
    assert found == sorted([run_id_of("dead"), run_id_of("gone")])
    assert archive.run_ids() == [run_id_of("b")] and archive.sweep() == []
    assert not dead.exists() and not half_removed.exists()


def test_remove(archive: Archive, write_run: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(archive)
    archive.attach(A, "elsewhere")

    def cut(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Archive, "_clear", cut)
        with pytest.raises(KeyboardInterrupt):
            archive.remove(A)
    assert not archive.has(A) and archive.run_ids() == []
    write_run(archive)  # over what is left
    archive.remove(A)
    assert tree(archive.root) == {}
    with pytest.raises(NotFound):
        archive.remove(A)


def test_sweep_waits_for_nobody_and_spares_what_is_being_added(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    partial = archive.root / A / "predictions" / ".m1.parquet.1.partial"
    partial.parent.mkdir()
    partial.write_bytes(b"half")
    with run_lock(archive.root / A).held():
        found: list[list[str]] = []
        other = threading.Thread(target=lambda: found.append(archive.sweep()))
        other.start()
        other.join()
        assert found == [[]] and archive.sweep() == [] and partial.exists()
    assert archive.sweep() == [A] and not partial.exists()


# -- what is added later
def test_features_of_a_newer_version(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    found = archive.open(A)
    found.put_features("morphology", "2", ("a",), np.ones((12, 1), np.float32))
    found.put_features("texture", "1.0", ("b", "c"), np.zeros((12, 2), np.float32))
    assert found.features("morphology")[0] == ("a",) and found.features("texture")[1].shape == (12, 2)
    with pytest.raises(StoreError, match="12 rows"):
        found.put_features("texture", "2", ("b",), np.zeros((11, 1), np.float32))
    with pytest.raises(StoreError, match="already"):
        found.put_features("morphology", "1", ("b",), np.zeros((12, 1), np.float32))
    with pytest.raises(StoreError, match="name of letters"):
        found.put_features("../x", "1", ("b",), np.zeros((12, 1), np.float32))


def test_embeddings(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    found = archive.open(A)
    values = np.linspace(-1, 1, 36).reshape(12, 3)
    values[4] = np.nan
    found.put_embeddings("0a1b", values)
    kept = found.embeddings("0a1b")
    assert kept.dtype == np.float16 and np.array_equal(kept, values.astype(np.float16), equal_nan=True)
    with pytest.raises(NotFound):
        found.embeddings("ffff")
    (found.folder / "embeddings" / "0a1b.npy").write_bytes(b"\x93NUMPY cut")
    with pytest.raises(StoreError, match="embeddings"):
        found.embeddings("0a1b")


def test_predictions_come_back_and_the_newest_is_last(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    found = archive.open(A)
    for model_id, seed in (("m9", 1), ("m1", 2), ("m9", 3)):
        found.put_predictions(example_predictions(indices=(0, 2, 7), model_id=model_id, seed=seed))
    assert found.prediction_model_ids() == archive.open(A).prediction_model_ids() == ["m1", "m9"]
    expected, kept = example_predictions(indices=(0, 2, 7), model_id="m9", seed=3), found.predictions("m9")
    for name in ("model_id", "run_id", "precision", "class_ids"):
        assert getattr(kept, name) == getattr(expected, name)
    for name in ("index", "best", "scores"):
        ours, theirs = getattr(kept, name), getattr(expected, name)
        assert np.array_equal(ours, theirs) and ours.dtype == theirs.dtype
    table = pq.read_table(found.folder / "predictions" / "m9.parquet")
    assert table["class_1"].to_pylist() == [CLASSES[i] for i in expected.best[:, 0]]
    with pytest.raises(NotFound):
        found.predictions("m2")


def test_samples_and_attachments(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    odd = ["../../etc/passwd", "a/b", "a_b", "A_B", "ü" * 300, "con", "."]
    for sample_id in odd:
        archive.put_sample(Sample(sample_id))
    archive.put_sample(Sample("a/b", latitude_deg=3.5))
    assert [s.sample_id for s in archive.samples()] == sorted(odd)
    assert next(s for s in archive.samples() if s.sample_id == "a/b").latitude_deg == 3.5
    assert len(list((archive.root / "samples").iterdir())) == len(odd)
    archive.attach(A, "a/b")
    assert archive.open(A).run == replace(example_run(), sample_id="a/b")
    write_run(archive, labels=LABELS)
    assert archive.open(A).run.sample_id == "a/b"
    with pytest.raises(NotFound):
        archive.attach(run_id_of("nothing"), "x")


# -- damage
def test_damage_is_found(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    found = archive.open(A)
    found.put_predictions(example_predictions())
    assert found.problems(deep=True) == []
    pack = found.folder / "vignettes.zip"
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    assert found.problems(deep=False) == [] and [
        "vignettes.zip is damaged" in p for p in found.problems(deep=True)
    ] == [True]
    pack.write_bytes(data[:100])
    assert any("100 bytes" in p for p in found.problems(deep=False))
    with pytest.raises(StoreError, match="ends before"):
        found.vignette_png(11)
    pack.unlink()
    assert any("is missing" in p for p in found.problems(deep=False))
    (found.folder / "predictions" / "m1.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(StoreError):
        found.predictions("m1")


def test_run_json_of_a_later_version_or_damaged(archive: Archive, write_run: Write) -> None:
    write_run(archive)
    path = archive.root / A / "run.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**facts, "format": 2}), encoding="utf-8")
    with pytest.raises(NewerWorkspace):
        archive.open(A)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match="facts of a run"):
        archive.open(A)
