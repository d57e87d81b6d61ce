"""Splits: groups whole, classes in proportion, nothing judged that was learnt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.splits import Split, given_split, judges, make_split
from plankter.classify.training_set import TrainingSet


def a_set(counts: list[int], groups: list[str] | None = None) -> TrainingSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"{row}.png" for row in range(len(labels)))
    classes = tuple("abcdefghij"[: len(counts)])
    return TrainingSet(classes, labels, names, None if groups is None else tuple(groups))


def counts_of(data: TrainingSet, rows: np.ndarray) -> list[int]:
    return np.bincount(data.labels[rows], minlength=len(data.class_ids)).tolist()


def check(data: TrainingSet, split: Split) -> None:
    """What holds of every split."""
    together = np.concatenate([split.train, split.tune, split.judge])
    np.testing.assert_array_equal(np.sort(together), np.arange(len(data)))
    assert min(counts_of(data, split.train)) > 0
    if split.grouped_by and data.groups:
        sets = [{data.groups[row] for row in rows} for rows in (split.train, split.tune, split.judge)]
        assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


def test_without_groups_every_class_is_split_in_proportion() -> None:
    data = a_set([100, 50, 10, 3, 2])
    split = make_split(data, seed=4)
    check(data, split)
    assert counts_of(data, split.train) == [80, 40, 8, 1, 1]
    assert counts_of(data, split.tune) == [10, 5, 1, 1, 0]
    assert counts_of(data, split.judge) == [10, 5, 1, 1, 1]
    assert split.grouped_by is None and any("not known" in text for text in split.warnings)
    assert any("class e: no image left to be tuned on" in text for text in split.warnings)


def test_a_class_of_one_image_is_learnt_and_named() -> None:
    data = a_set([20, 1])
    split = make_split(data)
    check(data, split)
    assert counts_of(data, split.train)[1] == 1
    assert [text for text in split.warnings if "class b: one image only" in text]


def test_the_seed_decides() -> None:
    data = a_set([40, 40])
    np.testing.assert_array_equal(make_split(data, 3).judge, make_split(data, 3).judge)
    assert not np.array_equal(make_split(data, 3).judge, make_split(data, 4).judge)


def test_groups_stay_whole_and_near_the_shares() -> None:
    rng = np.random.default_rng(0)
    groups = [f"s{g}" for g in rng.integers(0, 60, 2000)]
    data = a_set([1200, 600, 200], groups)
    split = make_split(data, seed=1, grouped_by="sample")
    check(data, split)
    assert split.grouped_by == "sample" and split.warnings == ()
    for rows, share in ((split.train, 0.8), (split.tune, 0.1), (split.judge, 0.1)):
        np.testing.assert_allclose(np.array(counts_of(data, rows)) / data.counts, share, atol=0.08)


def test_a_class_in_one_group_only_is_learnt_from_not_judged() -> None:
    data = a_set([300, 5], [f"s{row % 30}" for row in range(300)] + ["rare"] * 5)
    split = make_split(data, seed=2)
    check(data, split)
    assert any("class b: no image left to be judged" in text for text in split.warnings)


def test_too_few_groups_are_said() -> None:
    split = make_split(a_set([30, 30], ["one"] * 30 + ["two"] * 30), grouped_by="date")
    assert split.grouped_by is None and "only 2 groups (date)" in split.warnings[0]
    assert len(split.judge) == 6


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12), st.integers(0, 5))
def test_every_split_holds_each_image_once(counts: list[int], groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = a_set(counts, [str(g) for g in rng.integers(0, groups, sum(counts))])
    check(data, make_split(data, seed))
    check(data, make_split(a_set(counts), seed))


def test_a_split_that_was_given_is_taken() -> None:
    data = a_set([4, 4])
    words = ["train", "Train ", "tune", "judge", "train", "train", "validation", "test"]
    split = given_split(data, words, "sample")
    assert [rows.tolist() for rows in split.parts().values()] == [[0, 1, 4, 5], [2, 6], [3, 7]]
    with pytest.raises(ValueError, match="'maybe'"):
        given_split(data, ["maybe", *words[1:]])
    with pytest.raises(ValueError, match="class b"):
        given_split(data, ["train"] * 4 + ["judge"] * 4)
    assert any("no image is left to judge" in text for text in given_split(data, ["train"] * 8).warnings)


def test_bad_shares_and_empty_classes_are_refused() -> None:
    for shares in ((0.5, 0.1, 0.1), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)):
        with pytest.raises(ValueError, match="shares"):
            make_split(a_set([5, 5]), shares=shares)
    with pytest.raises(ValueError, match="needs an image"):
        make_split(TrainingSet(("a", "b"), np.zeros(3, np.int64), ("1", "2", "3")))


def test_half_of_the_names_judge_whatever_their_folder() -> None:
    names = [f"image_{k}.png" for k in range(2000)]
    assert 0.45 < np.mean([judges(name) for name in names]) < 0.55
    assert judges("image_1.png") == judges("image_1.png")
