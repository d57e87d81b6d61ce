"""What a network is trained on: images decoded once, classes in balance, shuffled augmented batches. No torch."""

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
from plankter.vignettes.augment import Augmentation, augment
from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import LETTERBOX_VERSION, letterbox, size_inputs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int | None], None]
ContextColumns = tuple[tuple[str, ...], npt.NDArray[np.floating]]  # names of c columns, (n, c) values
BALANCES = ("auto", "none", "resample", "loss")
EFFECTIVE_BETA = 0.999
BALANCED_BELOW = 10.0  # largest class over the median class: below this "auto" leaves the classes as they are
CHUNK = 512
RESAMPLE_UP_TO = 50_000  # images: above, "auto" weights the loss, so that an epoch still shows every image


class ImageSource(Protocol):
    """Labelled vignettes of one side, whatever they are kept in.

    Attributes:
        class_ids: names of the classes, in the order of the labels.
        labels: int64 (n,), positions in ``class_ids``.
        sizes: float32 (n, 2), width and height in px before the letterbox; NaN where unknown.
        failures: row -> why it has no pixels; such rows neither train nor judge.
    """

    @property
    def class_ids(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> IntArray: ...
    @property
    def sizes(self) -> FloatArray: ...
    @property
    def failures(self) -> dict[int, str]: ...

    def pixels(self, rows: IntArray) -> UInt8Array:
        """uint8 (len(rows), s, s) letterboxed grey vignettes."""
        ...


class Split(Protocol):
    """The part of a split that training uses; `plankter.classify.splits.Split` is one."""

    @property
    def train(self) -> IntArray: ...
    @property
    def tune(self) -> IntArray: ...


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


@dataclass(frozen=True)
class Balance:
    """How rare classes are helped.

    Attributes:
        method: "none", "resample" or "loss".
        weights: float64 (classes,): of an image in the loss, or of being drawn; their mean over the images is 1.
        reason: one sentence for the report.
    """

    method: str
    weights: npt.NDArray[np.float64]
    reason: str


def choose_balance(counts: npt.ArrayLike, wanted: str = "auto") -> Balance:
    """Decides how an imbalance of classes is met, and says why.

    "resample" draws an image with a chance of 1 / sqrt(images of its class); "loss" weights it by the inverse of the
    effective number of its class, (1 - beta) / (1 - beta^n) with beta 0.999 (Cui et al. 2019, CVPR).

    Args:
        counts: (classes,) training images; classes without one have weight 0.
        wanted: one of `BALANCES`; "auto" leaves mild imbalance alone, resamples small sets and weights large ones.

    Raises:
        ModelError: another word.
    """
    n = np.asarray(counts, dtype=np.float64)
    if wanted not in BALANCES:
        raise ModelError(f"balance must be one of {', '.join(BALANCES)}, got {wanted!r}")
    present = n[n > 0]
    ratio = float(present.max() / np.median(present)) if len(present) else 1.0
    method, reason = wanted, f"as asked; the largest class has {ratio:.1f} times the images of the median one"
    if wanted == "auto":
        rare = "resample" if n.sum() <= RESAMPLE_UP_TO else "loss"
        method = "none" if ratio <= BALANCED_BELOW else rare
        reason = (
            f"chosen: the largest class has {ratio:.1f} times the images of the median one, {int(n.sum()):,} in all"
        )
    safe = np.maximum(n, 1)
    if method == "resample":
        weights = 1 / np.sqrt(safe)
    elif method == "loss":
        weights = (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**safe)
    else:
        weights = np.ones(len(n))
    weights = np.where(n > 0, weights, 0.0)
    total = float((weights * n).sum())
    return Balance(method, weights * (n.sum() / total) if total else weights, reason)


@dataclass(frozen=True)
class Batch:
    """uint8 vignettes, float32 (n, 3) size inputs, int64 labels and, with context, float32 (n, 2c)."""

    vignettes: UInt8Array
    sizes: FloatArray
    labels: IntArray
    context: FloatArray | None


@dataclass(frozen=True)
class BatchMaker:
    """Batches of one training; what an epoch shows depends on nothing but the seed and the epoch's number.

    Args:
        data: the images.
        rows: int64, which of them train.
        px: side the network sees.
        batch: images a step; the rest of an epoch that fills no batch is left out.
        context: float32 (n, 2c) for every image of ``data``, or None.
        augmentation: None shows the images as they are.
        size_hidden: chance that a size is hidden, so that the network can do without.
        context_hidden: chance that the whole context of an image is hidden.
        balance: with "resample" an epoch draws its images with replacement.
    """

    data: ImageSource
    rows: IntArray
    px: int
    batch: int
    seed: int
    balance: Balance
    context: FloatArray | None = None
    augmentation: Augmentation | None = None
    size_hidden: float = 0.0
    context_hidden: float = 0.0

    @property
    def steps(self) -> int:
        return max(1, len(self.rows) // self.batch)

    def order(self, epoch: int) -> IntArray:
        """The rows of one epoch in the order they are shown."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.balance.method != "resample":
            return rng.permutation(self.rows)
        chance = self.balance.weights[self.data.labels[self.rows]]
        return rng.choice(self.rows, len(self.rows), p=chance / chance.sum())

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``skip`` on, each made while the one before it is used."""
        order = self.order(epoch)
        if skip >= self.steps:
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._make, order, epoch, skip)
            for step in range(skip + 1, self.steps):
                ready, ahead = ahead.result(), pool.submit(self._make, order, epoch, step)
                yield ready
            yield ahead.result()

    def _make(self, order: IntArray, epoch: int, step: int) -> Batch:
        rows = order[step * self.batch : (step + 1) * self.batch]
        rng = np.random.default_rng((self.seed, epoch, step))
        pixels, how = self.data.pixels(rows), self.augmentation
        if how is None:
            pixels = resized(pixels, self.px)
        else:
            pixels = np.stack([augment(square, self.px, rng, how) for square in pixels])
        sizes = self.data.sizes[rows].copy()
        sizes[rng.random(len(rows)) < self.size_hidden] = np.nan
        context = None
        if self.context is not None:
            context = self.context[rows].copy()
            context[rng.random(len(rows)) < self.context_hidden] = 0.0
        return Batch(pixels, size_inputs(sizes[:, 0], sizes[:, 1]), self.data.labels[rows], context)


def resized(pixels: UInt8Array, px: int) -> UInt8Array:
    """Squares brought to ``px`` by area, as they are where they have that side."""
    if pixels.shape[1] == px:
        return np.ascontiguousarray(pixels)
    return np.stack([np.asarray(cv2.resize(p, (px, px), interpolation=cv2.INTER_AREA), np.uint8) for p in pixels])
