"""What an epoch shows: the same for the same seed, classes in balance, sizes and context hidden now and then."""

from __future__ import annotations

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.finetune_data import Balance, BatchMaker, choose_balance
from plankter.classify.finetune_images import ArrayImages
from plankter.classify.selection import RESAMPLE_UP_TO, balance_for
from plankter.vignettes.augment import Augmentation

NONE = Balance("none", np.ones(3), "")


def _data(n: int = 20, px: int = 12) -> ArrayImages:
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 255, (n, px, px), dtype=np.uint8)
    return ArrayImages(("a", "b", "c"), np.arange(n) % 3, np.full((n, 2), 40.0, np.float32), squares)


def _maker(**changes: object) -> BatchMaker:
    given: dict[str, object] = {
        "data": _data(), "rows": np.arange(18), "px": 12, "batch": 4, "seed": 5, "balance": NONE,
        "augmentation": Augmentation(),
    }  # fmt: skip
    return BatchMaker(**(given | changes))  # type: ignore[arg-type]


def test_effective_numbers_by_hand() -> None:
    found = choose_balance([1, 100, 0], "loss")
    raw = np.array([1.0, 0.001 / (1 - 0.999**100)])
    scale = 101 / (raw[0] * 1 + raw[1] * 100)
    np.testing.assert_allclose(found.weights, [*(raw * scale), 0.0])
    assert found.method == "loss" and "as asked" in found.reason


@pytest.mark.parametrize("method", ["none", "loss", "resample"])
def test_weights_average_one_over_the_images(method: str) -> None:
    counts = np.array([3, 500, 20, 0])
    weights = choose_balance(counts, method).weights
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1.0)
    assert weights[3] == 0


@pytest.mark.parametrize(
    ("counts", "method"),
    [([50, 60, 40], "none"), ([1000, 20, 30], "resample"), ([60_000, 20, 30], "loss"), ([5], "none")],
)
def test_auto_chooses_by_imbalance_and_size_and_says_so(counts: list[int], method: str) -> None:
    found = choose_balance(counts)
    assert found.method == method
    assert found.reason.startswith("chosen") and f"{sum(counts):,} in all" in found.reason


def test_unknown_balance_is_refused() -> None:
    with pytest.raises(ModelError, match="balance must be one of"):
        choose_balance([1, 2], "magic")


def test_resampling_draws_rare_classes_more_often() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    data = ArrayImages(("a", "b"), labels, np.full((1000, 2), 9, np.float32), np.zeros((1000, 2, 2), np.uint8))
    balance = choose_balance([900, 100], "resample")
    maker = _maker(data=data, rows=np.arange(1000), balance=balance)
    share = np.mean([labels[maker.order(e)].mean() for e in range(20)])
    assert share == pytest.approx(0.25, abs=0.01)  # sqrt(100) / (sqrt(100) + sqrt(900))


def test_an_epoch_shows_each_row_once_and_another_epoch_in_another_order() -> None:
    maker = _maker()
    assert sorted(maker.order(0).tolist()) == list(range(18))
    assert maker.order(0).tolist() != maker.order(1).tolist()
    assert maker.steps == 4 and len(list(maker.epoch(0))) == 4


def test_batches_from_the_middle_are_those_of_the_whole_epoch() -> None:
    whole, rest = list(_maker().epoch(3)), list(_maker().epoch(3, skip=2))
    assert len(rest) == 2 and list(_maker().epoch(3, skip=4)) == []
    for expected, found in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(found.vignettes, expected.vignettes)
        np.testing.assert_array_equal(found.sizes, expected.sizes)
        np.testing.assert_array_equal(found.labels, expected.labels)
    other = next(iter(_maker(seed=6).epoch(3)))
    assert not np.array_equal(other.vignettes, whole[0].vignettes)


def test_without_augmentation_images_are_shown_as_they_are() -> None:
    maker = _maker(augmentation=None)
    batch, rows = next(iter(maker.epoch(0))), maker.order(0)[:4]
    np.testing.assert_array_equal(batch.vignettes, _data().array[rows])
    assert batch.sizes[:, 2].tolist() == [1, 1, 1, 1] and batch.context is None


def test_sizes_and_context_are_hidden_whole_rows_at_a_time() -> None:
    context = np.ones((20, 4), np.float32)
    batch = next(iter(_maker(context=context, size_hidden=1.0, context_hidden=1.0).epoch(0)))
    assert batch.context is not None and not batch.context.any() and not batch.sizes.any()
    maker = _maker(context=context, context_hidden=0.5, rows=np.tile(np.arange(20), 20), batch=400)
    some = next(iter(maker.epoch(0))).context
    assert some is not None
    sums = some.sum(axis=1)
    assert set(sums.tolist()) == {0.0, 4.0} and 0.4 < (sums == 0).mean() < 0.6
    assert context.all()  # the given array is left alone


def test_size_jitter_changes_width_and_height_by_one_factor() -> None:
    data = ArrayImages(
        ("a",), np.zeros(400, np.int64), np.tile(np.float32([[30, 60]]), (400, 1)), np.zeros((400, 12, 12), np.uint8)
    )
    maker = _maker(data=data, rows=np.arange(400), batch=400, size_jitter=0.15, balance=Balance("none", np.ones(1), ""))
    width, height = np.exp(next(iter(maker.epoch(0))).sizes[:, :2] * 5.0).T
    np.testing.assert_allclose(height / width, 2.0, rtol=1e-4)
    assert np.log(width / 30).std() == pytest.approx(0.15, rel=0.15)
    assert (data.sizes == [30, 60]).all()


@pytest.mark.parametrize(
    ("counts", "head", "network"),
    [
        ([10, 10, 100], "none", "none"),  # ten times the median: still even
        ([10, 10, 101], "loss", "resample"),
        ([0, 10, 10, 101], "loss", "resample"),  # a class without images does not count
        ([1_000, 1_000, 60_000], "loss", "loss"),  # too many for an epoch to leave images out
        ([], "none", "none"),
    ],
)
def test_one_rule_for_heads_and_networks(counts: list[int], head: str, network: str) -> None:
    assert balance_for(counts)[0] == head
    chosen = choose_balance(counts)
    assert chosen.method == network
    assert chosen.reason == balance_for(counts, resample_up_to=RESAMPLE_UP_TO)[1]
    for wanted in ("none", "resample", "loss"):
        assert balance_for(counts, wanted)[0] == choose_balance(counts, wanted).method == wanted
    with pytest.raises(ModelError, match="magic"):
        balance_for(counts, "magic")
