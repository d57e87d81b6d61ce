"""Images decoded once: what is unreadable is counted, what is kept is used again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.finetune_images import ArrayImages, decode_images, read_images, resized
from plankter.vignettes.letterbox import letterbox


def _files(folder: Path, n: int) -> list[Path]:
    rng = np.random.default_rng(0)
    files = []
    for i in range(n):
        image = rng.integers(0, 255, (20 + i, 30, 3), dtype=np.uint8)
        files.append(folder / f"{i}.png")
        files[-1].write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return files


def test_files_are_letterboxed_as_prediction_does_and_failures_named(tmp_path: Path) -> None:
    files = _files(tmp_path, 3)
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:40])
    files += [tmp_path / "cut.png", tmp_path / "gone.png"]
    seen: list[tuple[str, int, int | None]] = []
    found = read_images(files, np.zeros(5, np.int64), ("a",), 16, progress=lambda *step: seen.append(step))
    assert sorted(found.failures) == [3, 4] and "gone.png" in found.failures[4]
    for i in range(3):
        grey = cv2.imread(str(files[i]), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(found.pixels(np.array([i]))[0], letterbox(np.asarray(grey, np.uint8), 16))
    np.testing.assert_array_equal(found.sizes[:3], [[30, 20], [30, 21], [30, 22]])
    assert np.isnan(found.sizes[3:]).all()
    assert seen[-1][0] == "images read" and seen[-1][2] == 5


def test_the_cache_is_used_until_a_file_changes(tmp_path: Path) -> None:
    files = _files(tmp_path, 3)
    files.append(tmp_path / "gone.png")
    labels, cache = np.zeros(4, np.int64), tmp_path / "cache"
    first = read_images(files, labels, ("a",), 16, cache=cache)
    assert len(list(cache.glob("*.npy"))) == 1
    again = read_images(files, labels, ("a",), 16, cache=cache)
    assert isinstance(again.array, np.memmap) and again.failures == first.failures
    np.testing.assert_array_equal(again.array, first.array)
    np.testing.assert_array_equal(again.sizes, first.sizes)
    files[0].write_bytes(files[1].read_bytes())
    changed = read_images(files, labels, ("a",), 16, cache=cache)
    np.testing.assert_array_equal(changed.array[0], first.array[1])
    assert len(list(cache.glob("*.npy"))) == 2


def test_a_cache_that_a_kill_cut_off_is_made_anew(tmp_path: Path) -> None:
    files, cache = _files(tmp_path, 2), tmp_path / "cache"
    whole = read_images(files, np.zeros(2, np.int64), ("a",), 16, cache=cache)
    expected = np.array(whole.array)
    next(cache.glob("*.npz")).unlink()
    next(cache.glob("*.npy")).write_bytes(b"half")
    np.testing.assert_array_equal(read_images(files, np.zeros(2, np.int64), ("a",), 16, cache=cache).array, expected)


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ModelError, match="cannot be kept"):
        read_images(_files(tmp_path, 1), np.zeros(1, np.int64), ("a",), 16, cache=tmp_path / "file")


def test_encoded_images_may_come_in_any_order_and_not_at_all(tmp_path: Path) -> None:
    encoded = [file.read_bytes() for file in _files(tmp_path, 3)]
    found = decode_images([(2, encoded[2]), (0, encoded[0])], np.zeros(3, np.int64), ("a",), 16)
    assert found.failures == {1: "no image"}
    assert found.sizes[2].tolist() == [30, 22]


def test_arrays_that_do_not_fit_are_refused() -> None:
    squares, sizes = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        ArrayImages(("a",), np.zeros(3, np.int64), sizes, squares)
    with pytest.raises(ValueError, match="positions in 1 classes"):
        ArrayImages(("a",), np.array([0, 1]), sizes, squares)


def test_squares_are_reduced_by_area() -> None:
    squares = np.arange(16, dtype=np.uint8).reshape(1, 4, 4) * 10
    np.testing.assert_array_equal(resized(squares, 2)[0], [[25, 45], [105, 125]])
    np.testing.assert_array_equal(resized(squares, 4), squares)
