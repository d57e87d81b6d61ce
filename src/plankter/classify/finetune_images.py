"""Labelled images as a training sees them: decoded and letterboxed once, kept, failures counted. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError, ModelError
from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import LETTERBOX_VERSION, letterbox

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int | None], None]
CHUNK = 512


class ImageSource(Protocol):
    """Labelled vignettes of one side, whatever they are kept in.

    Attributes:
        class_ids: names of the classes, in the order of the labels.
        labels: int64 (n,), positions in ``class_ids``.
        sizes: float32 (n, 2), width and height in px before the letterbox; NaN where unknown.
        failures: row -> why it has no pixels; such rows neither train nor judge.
    """

    @property
    def class_ids(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def labels(self) -> IntArray:
        """int64 (n,)."""
        ...

    @property
    def sizes(self) -> FloatArray:
        """float32 (n, 2) px."""
        ...

    @property
    def failures(self) -> dict[int, str]:
        """Why a row has no pixels."""
        ...

    def pixels(self, rows: IntArray) -> UInt8Array:
        """uint8 (len(rows), s, s) letterboxed grey vignettes."""
        ...


class Split(Protocol):
    """The part of a split that training uses; `plankter.classify.splits.Split` is one."""

    @property
    def train(self) -> IntArray:
        """Rows that the weights are fitted on."""
        ...

    @property
    def tune(self) -> IntArray:
        """Rows that stop a training and calibrate."""
        ...


@dataclass(frozen=True)
class ArrayImages:
    """An `ImageSource` over arrays in memory; ``array`` is uint8 (n, s, s), or (n, s, s, 3) for comparisons."""

    class_ids: tuple[str, ...]
    labels: IntArray
    sizes: FloatArray
    array: UInt8Array
    failures: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.labels)
        if len(self.array) != n or self.sizes.shape != (n, 2):
            raise ValueError(f"{n} labels, {len(self.array)} vignettes and sizes {self.sizes.shape} do not fit")
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_ids):
            raise ValueError(f"labels must be positions in {len(self.class_ids)} classes")

    def pixels(self, rows: IntArray) -> UInt8Array:
        """See `ImageSource.pixels`."""
        return self.array[rows]


def read_images(
    files: Sequence[Path], labels: IntArray, class_ids: tuple[str, ...], px: int, *, cache: Path | None = None,
    threads: int = 2, progress: Progress | None = None,
) -> ArrayImages:  # fmt: skip
    """Decodes and letterboxes files once, see `decode_images`; ``cache`` is a folder, its key the files' names and times.

    Raises:
        ModelError: the cache cannot be written.
    """
    unread: dict[int, str] = {}

    def items() -> Iterator[tuple[int, bytes]]:
        for row, file in enumerate(files):
            try:
                yield row, file.read_bytes()
            except OSError as error:
                unread[row] = f"{file}: cannot be read: {error.strerror}"

    kept = _cache_file(files, px, cache) if cache else None
    return decode_images(
        items(), labels, class_ids, px, failures=unread, cache=kept, threads=threads, progress=progress
    )


def decode_images(
    items: Iterable[tuple[int, bytes]], labels: IntArray, class_ids: tuple[str, ...], px: int, *,
    failures: dict[int, str] | None = None, cache: Path | None = None, threads: int = 2,
    progress: Progress | None = None,
) -> ArrayImages:  # fmt: skip
    """Decodes and letterboxes encoded images once, in parallel; what is unreadable becomes a failure, not an end.

    Args:
        items: row and encoded image, each row once, in any order; rows that never come are failures.
        px: side of the squares; a training at fewer pixels reduces them by area.
        failures: filled by ``items`` with rows that it could not read.
        cache: ``.npy`` file that keeps the squares for the next start (memory-mapped); None keeps them in memory.

    Returns:
        An `ImageSource`.

    Raises:
        ModelError: the cache cannot be written.
    """
    n, failed = len(labels), {} if failures is None else failures
    if cache is not None and cache.with_suffix(".npz").exists():
        with np.load(cache.with_suffix(".npz"), allow_pickle=False) as facts:
            failed = dict(zip(facts["failed"].tolist(), facts["why"].tolist(), strict=True))
            return ArrayImages(class_ids, labels, facts["sizes"], np.load(cache, mmap_mode="r"), failed)
    array = _room_for((n, px, px), cache)
    sizes = np.full((n, 2), np.nan, np.float32)

    def one(item: tuple[int, bytes]) -> None:
        row, encoded = item
        try:
            image = decode_image(encoded, grey=True)
            array[row] = letterbox(image, px)
            sizes[row] = image.shape[1], image.shape[0]
        except (ImageError, ValueError) as error:
            failed[row] = str(error)

    done = 0
    with ThreadPoolExecutor(threads) as pool:
        for some in batched(items, CHUNK):  # encoded images wait in memory only by the chunk
            done += len(list(pool.map(one, some)))
            if progress is not None:
                progress("images read", done, n)
    for row in np.flatnonzero(~np.isfinite(sizes[:, 0])).tolist():
        failed.setdefault(row, "no image")
    if cache is not None:  # the small file is written last: it says that the large one is whole
        rows = sorted(failed)
        why = np.array([failed[row] for row in rows], np.str_)
        np.savez(cache.with_suffix(".npz"), sizes=sizes, failed=np.array(rows, np.int64), why=why)
    return ArrayImages(class_ids, labels, sizes, array, failed)


def batched(items: Iterable[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    """Lists of ``size`` items each, the last one shorter."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def _room_for(shape: tuple[int, int, int], file: Path | None) -> UInt8Array:
    if file is None:
        return np.zeros(shape, np.uint8)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise ModelError(f"decoded images cannot be kept: {error}", path=file) from error


def _cache_file(files: Sequence[Path], px: int, cache: Path) -> Path:
    digest = hashlib.sha256(f"{LETTERBOX_VERSION} {px}\n".encode())
    for file in files:
        try:
            stat = file.stat()
            digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{file}\0missing\n".encode())
    return cache / f"vignettes-{px}px-{digest.hexdigest()[:16]}.npy"


def resized(pixels: UInt8Array, px: int) -> UInt8Array:
    """Squares brought to ``px`` by area, as they are where they have that side."""
    if pixels.shape[1] == px:
        return np.ascontiguousarray(pixels)
    return np.stack([np.asarray(cv2.resize(p, (px, px), interpolation=cv2.INTER_AREA), np.uint8) for p in pixels])
