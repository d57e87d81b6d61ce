"""The fast path: order, failures, memory and cancelling, on a backbone whose numbers are known."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from plankter.classify.decide import REASONS, Reason, Thresholds, taxonomy_of
from plankter.classify.head import Head
from plankter.classify.predictor import Predictor
from plankter.classify.stream import DEFAULT_BATCH, classify_stream

PX = 16
LEVELS = 4


class MeanGrey:
    """Embedding: mean grey / 255, and what the network is told of the size. Notes how it is called."""

    dim = 4

    def __init__(self, thread_safe: bool = True) -> None:
        self.thread_safe = thread_safe
        self.inside = self.most_inside = 0
        self.lock = threading.Lock()

    def embed(self, vignettes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        with self.lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        time.sleep(0.001)  # gives a second caller the time to come in, where it is let in
        with self.lock:
            self.inside -= 1
        return np.concatenate((vignettes.mean((1, 2))[:, None] / 255, sizes), 1).astype(np.float32)


def plain(scorer: Head) -> Predictor:
    return Predictor(scorer, taxonomy_of([f"c{i}" for i in range(scorer.classes)], {}), Thresholds())


def head() -> Predictor:
    """Class c is best for a mean grey of c / 3: logits -(x - c/3)^2 up to a constant."""
    centres = np.arange(LEVELS) / (LEVELS - 1)
    weight = np.zeros((4, LEVELS))
    weight[0] = 2 * centres * 50
    return plain(Head(weight, -(centres**2) * 50))


def encoded(level: int, width: int = 20, height: int = 10, ending: str = ".png") -> bytes:
    return bytes(cv2.imencode(ending, np.full((height, width), level * 85, np.uint8))[1])


def run_of(n: int) -> tuple[list[tuple[int, bytes]], np.ndarray]:
    levels = np.random.default_rng(n).integers(0, LEVELS, n)
    return [(10 * i + 3, encoded(int(level))) for i, level in enumerate(levels)], levels


@pytest.mark.parametrize("n", [0, 1, DEFAULT_BATCH, 5 * DEFAULT_BATCH + 7])
@pytest.mark.parametrize("announced", ["exact", "none", "too few", "too many"])
def test_order_and_answers(n: int, announced: str) -> None:
    items, levels = run_of(n)
    total = {"exact": n, "none": None, "too few": n // 3, "too many": n + 50}[announced]
    result = classify_stream(iter(items), total, MeanGrey(), head(), input_px=PX, k=2, threads=3)
    np.testing.assert_array_equal(result.index, [key for key, _ in items])
    np.testing.assert_array_equal(result.best[:, 0], levels)
    assert result.best.shape == result.scores.shape == (n, 2) and result.failures == {}
    assert (result.index.dtype, result.best.dtype, result.scores.dtype) == (np.int64, np.int16, np.float32)
    assert result.embeddings is not None and result.embeddings.dtype == np.float16
    np.testing.assert_allclose(result.embeddings[:, 0], levels / 3, atol=1e-3)


def test_the_network_is_told_the_size_of_the_vignette() -> None:
    result = classify_stream([(0, encoded(1, width=40, height=12))], 1, MeanGrey(), head(), input_px=PX, threads=1)
    assert result.embeddings is not None
    np.testing.assert_allclose(result.embeddings[0, 1:], [np.log(40) / 5, np.log(12) / 5, 1], rtol=1e-3)


def test_failures_are_named_and_move_nobody() -> None:
    items, levels = run_of(100)
    whole = classify_stream(items, 100, MeanGrey(), head(), input_px=PX, threads=2)
    bad = {0: b"", 31: b"no image", 32: items[32][1][:-20], 99: b"\x89PNG\r\n\x1a\n"}
    damaged = [(key, bad.get(i, data)) for i, (key, data) in enumerate(items)]
    result = classify_stream(damaged, 100, MeanGrey(), head(), input_px=PX, threads=2)
    assert set(result.failures) == {items[i][0] for i in bad}
    assert "end mark is missing" in result.failures[items[32][0]]
    kept = [i for i in range(100) if i not in bad]
    np.testing.assert_array_equal(result.index, [items[i][0] for i in kept])
    np.testing.assert_array_equal(result.best[:, 0], levels[kept])
    assert whole.embeddings is not None and result.embeddings is not None
    np.testing.assert_array_equal(result.embeddings, whole.embeddings[kept])
    np.testing.assert_array_equal(result.scores, whole.scores[kept])


def test_nothing_but_failures() -> None:
    result = classify_stream([(7, b"x")], 1, MeanGrey(), head(), input_px=PX, threads=1)
    assert len(result.index) == 0 and list(result.failures) == [7] and result.best.shape == (0, 4)


def test_numbers_that_are_not_finite_are_failures() -> None:
    class Broken(MeanGrey):
        def embed(self, vignettes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
            found = super().embed(vignettes, sizes)
            found[1] = np.nan
            return found

    items, _ = run_of(3)
    result = classify_stream(items, 3, Broken(), head(), input_px=PX, threads=1)
    assert result.failures == {items[1][0]: "the network gave no finite numbers"}
    np.testing.assert_array_equal(result.index, [items[0][0], items[2][0]])
    assert np.isfinite(result.scores).all()


def test_colour_and_16_bit_are_read_as_grey() -> None:
    colour = bytes(cv2.imencode(".png", np.full((9, 9, 3), 170, np.uint8))[1])
    deep = bytes(cv2.imencode(".png", np.full((9, 9), 170 * 257, np.uint16))[1])
    result = classify_stream([(0, colour), (1, deep)], 2, MeanGrey(), head(), input_px=PX, threads=1)
    np.testing.assert_array_equal(result.best[:, 0], [2, 2])


def test_embeddings_can_be_left_out() -> None:
    result = classify_stream(run_of(5)[0], 5, MeanGrey(), head(), input_px=PX, keep_embeddings=False, threads=1)
    assert result.embeddings is None and len(result.index) == 5


def test_calls_take_turns_unless_the_backbone_allows_more() -> None:
    items, _ = run_of(8 * DEFAULT_BATCH)
    alone = MeanGrey(thread_safe=False)
    classify_stream(items, None, alone, head(), input_px=PX, threads=4)
    assert alone.most_inside == 1

    class Together(MeanGrey):
        both = threading.Barrier(2, timeout=20)

        def embed(self, vignettes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
            self.both.wait()  # breaks where no second call comes while this one is under way
            return super().embed(vignettes, sizes)

    result = classify_stream(items, None, Together(), head(), input_px=PX, threads=2)
    assert len(result.index) == len(items)


def test_items_are_read_no_faster_than_they_are_worked_off() -> None:
    read, done = 0, 0
    lead: list[int] = []

    def items() -> Iterator[tuple[int, bytes]]:
        nonlocal read
        for i in range(40 * DEFAULT_BATCH):
            read += 1
            lead.append(read - done)
            yield i, encoded(0)

    def progress(count: int, total: int | None) -> None:
        nonlocal done
        done = count

    classify_stream(items(), None, MeanGrey(), head(), input_px=PX, threads=2, progress=progress)
    assert done == read == 40 * DEFAULT_BATCH
    assert max(lead) <= (2 * 2 + 1) * DEFAULT_BATCH


def test_progress_counts_everything_and_can_stop_the_work() -> None:
    items, _ = run_of(3 * DEFAULT_BATCH + 1)
    items[5] = (items[5][0], b"broken")
    seen: list[tuple[int, int | None]] = []
    classify_stream(items, len(items), MeanGrey(), head(), input_px=PX, threads=1, progress=lambda *a: seen.append(a))
    assert seen == [(min(len(items), DEFAULT_BATCH * (i + 1)), len(items)) for i in range(4)]

    class Stop(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        raise Stop

    backbone, drawn = MeanGrey(), 0

    def endless() -> Iterator[tuple[int, bytes]]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn, encoded(1)

    with pytest.raises(Stop):
        classify_stream(endless(), None, backbone, head(), input_px=PX, threads=2, progress=stop)
    assert backbone.inside == 0 and drawn <= 5 * DEFAULT_BATCH
    assert not [t for t in threading.enumerate() if t.name.startswith("classify")]


def test_an_error_while_reading_comes_out() -> None:
    def items() -> Iterator[tuple[int, bytes]]:
        yield 0, encoded(0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        classify_stream(items(), None, MeanGrey(), head(), input_px=PX, threads=2)


def test_a_head_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="the head takes 3 numbers, the backbone gives 4"):
        classify_stream([], 0, MeanGrey(), plain(Head(np.zeros((3, 2)), np.zeros(2))), input_px=PX)


def test_warning_filters_of_the_process_stay_as_they_were() -> None:
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        classify_stream(run_of(3000)[0], 3000, MeanGrey(), head(), input_px=PX, threads=4)
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before


def test_decisions_come_with_the_predictions() -> None:
    certain = Predictor(head().scorer, taxonomy_of(["c0", "c1", "c2", "c3"], {}), Thresholds({"c2": 1.01}))
    items, levels = run_of(40)
    result = classify_stream(items, 40, MeanGrey(), certain, input_px=PX, threads=2)
    np.testing.assert_array_equal(result.outcome, np.where(levels == 2, -1, levels))
    said = [REASONS[r] for r in result.reason]
    assert said == [Reason.UNCERTAIN if level == 2 else Reason.HIGHEST for level in levels]


def test_a_head_is_given_what_it_takes_beside_the_embedding() -> None:
    """Class 1 where the extra number is above 0, whatever the image shows."""

    class Follows:
        dim, classes = 4, 2

        def scores(self, embeddings: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
            assert extra is not None
            one = (extra[:, 0] > 0).astype(np.float32)
            return np.stack((1 - one, one), 1)

    items = [(key, encoded(1)) for key in range(70)]
    items[5] = (5, b"x")
    seen: list[bool] = []

    def extra(keys: list[int], images: list[np.ndarray | None]) -> np.ndarray:
        seen.extend(image is None for image in images)
        return np.array([[key % 2] for key in keys], np.float64)

    predictor = Predictor(Follows(), taxonomy_of(["c0", "c1"], {}), Thresholds())
    result = classify_stream(items, 70, MeanGrey(), predictor, input_px=PX, threads=1, extra=extra)
    np.testing.assert_array_equal(result.best[:, 0], result.index % 2)
    assert seen.count(True) == 1 and 5 in result.failures
