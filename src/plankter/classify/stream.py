"""The fast path from encoded vignettes to predictions: decode, letterbox, embed and score, in order, in bounded memory.

Each worker takes one batch through all steps. With a backbone that runs each call on one core, as many workers as
cores keep all of them busy, and neither decoding nor the network waits for the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from os import cpu_count
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError
from plankter.classify.predictor import Predicted, Predictor
from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import UInt8Array, letterbox, size_inputs

DEFAULT_BATCH = 32
BATCHES_AHEAD = 2  # for each worker: one in work, one waiting
StreamProgress = Callable[[int, int | None], None]
ExtraInputs = Callable[[list[int], Sequence[UInt8Array | None]], npt.NDArray[np.floating]]


class StreamBackbone(Protocol):
    """What the stream needs of a backbone. Two attributes are optional: ``thread_safe`` (True: ``embed`` may be called
    from several threads at once; else the calls take turns) and ``batch`` (vignettes of a call it is fastest with)."""

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        ...

    def embed(self, vignettes: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """uint8 (n, s, s) letterboxed vignettes and float32 (n, 3) sizes -> float32 (n, dim) embeddings."""
        ...


@dataclass(frozen=True)
class StreamResult:
    """Predictions of the vignettes that could be used, in the order they came.

    Attributes:
        index: int64 (n,) keys of the items.
        best: int16 (n, k) positions of the best classes, best first.
        scores: float32 (n, k).
        outcome, said, reason: (n,) what is said of each, as in `Predicted`.
        embeddings: float16 (n, dim), None where they were not kept.
        failures: key -> why its vignette could not be used.
    """

    index: npt.NDArray[np.int64]
    best: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    outcome: npt.NDArray[np.int16]
    said: npt.NDArray[np.float32]
    reason: npt.NDArray[np.int8]
    embeddings: npt.NDArray[np.float16] | None
    failures: dict[int, str]


@dataclass(frozen=True)
class _Done:
    """One batch: every row of the items, the usable ones marked."""

    keys: list[int]
    good: npt.NDArray[np.bool_]
    predicted: Predicted
    embeddings: npt.NDArray[np.float16] | None
    failures: dict[int, str]


class _Collector:
    """Results by column in arrays made once; they grow only where more items come than were announced."""

    def __init__(self, total: int, k: int, dim: int | None) -> None:
        self.count = 0
        self.index = np.empty(total, np.int64)
        self.best = np.empty((total, k), np.int16)
        self.scores = np.empty((total, k), np.float32)
        self.outcome, self.said = np.empty(total, np.int16), np.empty(total, np.float32)
        self.reason = np.empty(total, np.int8)
        self.embeddings = None if dim is None else np.empty((total, dim), np.float16)
        self.failures: dict[int, str] = {}

    def add(self, done: _Done) -> None:
        stop = self.count + int(done.good.sum())
        if stop > len(self.index):
            self._grow(max(stop, len(self.index) * 3 // 2 + 1024))
        rows = slice(self.count, stop)
        self.index[rows] = np.array(done.keys, np.int64)[done.good]
        for name, values in done.predicted._asdict().items():
            getattr(self, name)[rows] = values[done.good]
        if self.embeddings is not None and done.embeddings is not None:
            self.embeddings[rows] = done.embeddings[done.good]
        self.failures |= done.failures
        self.count = stop

    def _grow(self, rows: int) -> None:
        for name in ("index", *Predicted._fields, "embeddings"):
            old = getattr(self, name)
            if old is not None:
                new = np.empty((rows, *old.shape[1:]), old.dtype)
                new[: self.count] = old[: self.count]
                setattr(self, name, new)

    def result(self) -> StreamResult:
        n = self.count
        kept = None if self.embeddings is None else self.embeddings[:n]
        columns = {name: getattr(self, name)[:n] for name in Predicted._fields}
        return StreamResult(index=self.index[:n], **columns, embeddings=kept, failures=self.failures)


class _Worker:
    """One batch of encoded vignettes through all steps; safe to call from several threads."""

    def __init__(
        self, backbone: StreamBackbone, predictor: Predictor, input_px: int, k: int, keep_embeddings: bool,
        extra: ExtraInputs | None,
    ) -> None:  # fmt: skip
        self.backbone, self.predictor, self.input_px, self.k = backbone, predictor, input_px, k
        self.keep_embeddings, self.extra = keep_embeddings, extra
        thread_safe = bool(getattr(backbone, "thread_safe", False))
        self.turn: AbstractContextManager[object] = nullcontext() if thread_safe else Lock()

    def __call__(self, items: list[tuple[int, bytes]]) -> _Done:
        n = len(items)
        # a failed vignette keeps its row, so that no other one moves and every number is the same in every run
        pixels = np.zeros((n, self.input_px, self.input_px), np.uint8)
        widths, heights = np.full(n, np.nan), np.full(n, np.nan)
        failures: dict[int, str] = {}
        good = np.ones(n, bool)
        images: list[UInt8Array | None] = [None] * n
        for row, (key, data) in enumerate(items):
            try:
                image = images[row] = decode_image(data, grey=True)
                pixels[row] = letterbox(image, self.input_px)
                heights[row], widths[row] = image.shape
            except (ImageError, ValueError) as error:
                failures[key], good[row] = str(error), False
        sizes = size_inputs(widths, heights)
        with self.turn:
            embeddings = self.backbone.embed(pixels, sizes)
        for row in np.flatnonzero(good & ~np.isfinite(embeddings).all(axis=1)).tolist():
            failures[items[row][0]], good[row] = "the network gave no finite numbers", False
        embeddings[~good] = 0
        keys = [key for key, _ in items]
        extra = None if self.extra is None else self.extra(keys, images)
        predicted = self.predictor.predict(embeddings, self.k, extra)
        kept = embeddings.astype(np.float16) if self.keep_embeddings else None
        return _Done(keys, good, predicted, kept, failures)


def _batches(items: Iterable[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _in_threads(
    batches: Iterable[list[tuple[int, bytes]]], work: _Worker, workers: int, add: Callable[[_Done], None]
) -> None:
    """Works batches off in ``workers`` threads; ``add`` takes them in their order, in this thread. Few are read ahead."""
    running: deque[Future[_Done]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="classify")
    try:
        for batch in batches:
            running.append(pool.submit(work, batch))
            if len(running) >= workers * BATCHES_AHEAD:
                add(running.popleft().result())
        while running:
            add(running.popleft().result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def classify_stream(
    items: Iterable[tuple[int, bytes]],
    total: int | None,
    backbone: StreamBackbone,
    predictor: Predictor,
    *,
    input_px: int,
    k: int = 5,
    threads: int | None = None,
    keep_embeddings: bool = True,
    extra: ExtraInputs | None = None,
    progress: StreamProgress | None = None,
) -> StreamResult:
    """Predicts encoded vignettes; what cannot be decoded becomes a failure and stops nothing.

    Args:
        items: key and encoded image each, read by this thread only and no faster than they are worked off.
        total: how many there will be, None where unknown: the results' arrays are made for so many.
        backbone: pixels -> embeddings.
        predictor: embeddings -> scores and decisions.
        input_px: side that the backbone takes.
        k: classes kept for each vignette; fewer where the head knows fewer.
        threads: workers; None takes one a core.
        keep_embeddings: False saves their memory (2 bytes a number).
        extra: for a head that takes more than embeddings: keys and decoded images (None where that failed) of one
            batch -> float (n, columns); called by the workers.
        progress: called by this thread after each batch with the items done so far and ``total``; what it raises
            stops the work and comes out here.

    Raises:
        ValueError: predictor and backbone do not fit.
    """
    if predictor.dim != backbone.dim:
        raise ValueError(f"the head takes {predictor.dim} numbers, the backbone gives {backbone.dim}")
    k = min(k, predictor.classes)
    workers = max(1, threads or cpu_count() or 1)
    work = _Worker(backbone, predictor, input_px, k, keep_embeddings, extra)
    collected = _Collector(total or 0, k, backbone.dim if keep_embeddings else None)
    done = 0
    batch_size = int(getattr(backbone, "batch", DEFAULT_BATCH))

    def add(finished: _Done) -> None:
        nonlocal done
        collected.add(finished)
        done += len(finished.keys)
        if progress is not None:
            progress(done, total)

    if total is not None and total <= batch_size:  # no thread is started for one batch
        for batch in _batches(items, batch_size):
            add(work(batch))
        return collected.result()
    _in_threads(_batches(items, batch_size), work, workers, add)
    return collected.result()
