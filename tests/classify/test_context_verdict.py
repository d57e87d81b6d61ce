"""Context is judged on groups never seen: one that only names the group is refused, one that tells is taken."""

from __future__ import annotations

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.context_verdict import check_context, context_verdict, deal_groups, grouped_error


def _centroids(features: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Nearest class mean: a head quick enough for a test."""
    named = np.unique(labels)
    means = np.stack([features[labels == c].mean(0) for c in named])
    return named[np.argmin(((held[:, None] - means[None]) ** 2).sum(2), axis=1)]


def test_numbers_by_hand() -> None:
    found = context_verdict(
        random_without=[1, 0, 0, 0], random_with=[1, 1, 1, 0], grouped_without=[1, 1, 0, 0], grouped_with=[1, 0, 0, 0],
        groups=["a", "a", "b", "b"],
    )  # fmt: skip
    assert (found.random_gain, found.grouped_gain) == (0.5, -0.25)
    # sums of deviations by group: chance (0 + 1) - 2 * .5 and (1 + 0) - 2 * .5; unseen (0 - 1) + .5 and 0 + .5
    assert found.random_gain_se == 0
    assert found.grouped_gain_se == pytest.approx(np.sqrt((0.25 + 0.25) * 2 / 1) / 4)
    assert found.memorises and not found.accepted and "memorises the groups" in found.reason
    with pytest.raises(ModelError, match=r"-25\.0 points") as caught:
        found.require()
    assert caught.value.hint is not None and "--force-context" in caught.value.hint


def test_a_loss_is_taken_only_when_asked_for() -> None:
    given = {"random_without": [1, 1], "random_with": [1, 0], "grouped_without": [1, 1], "grouped_with": [0, 1]}
    refused = context_verdict(**given, groups=[1, 2])
    assert not refused.accepted and not refused.memorises and "it hurts, and is refused" in refused.reason
    forced = context_verdict(**given, groups=[1, 2], force=True)
    assert forced.accepted and forced.forced and "asked for" in forced.reason
    forced.require()


def test_no_change_is_no_harm() -> None:
    same = {name: [1, 0, 1] for name in ("random_without", "random_with", "grouped_without", "grouped_with")}
    found = context_verdict(**same, groups=[1, 2, 3])
    assert found.accepted and not found.memorises and "no harm" in found.reason


@pytest.mark.parametrize("groups", [["a", "a"], ["a"]])
def test_one_group_proves_nothing(groups: list[str]) -> None:
    with pytest.raises(ValueError, match="at least two groups"):
        context_verdict(random_without=[1, 1], random_with=[1, 1], grouped_without=[1, 1], grouped_with=[1, 1],
                        groups=groups)  # fmt: skip


def _dated(seed: int, known_effect: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings that tell two classes apart only a little, 24 dates, one context column.

    With a known effect the temperature of a date decides which class blooms; without, every date has its own mix that
    has nothing to do with the temperature, which then only names the date.
    """
    rng = np.random.default_rng(seed)
    dates = np.repeat(np.arange(24), 60)
    warm = rng.normal(size=24)
    mix = np.where(warm > 0, 0.9, 0.1) if known_effect else rng.permutation(np.repeat([0.1, 0.9], 12))
    labels = (rng.random(len(dates)) < mix[dates]).astype(np.int64)
    embeddings = (labels[:, None] * 0.8 + rng.normal(size=(len(dates), 4))).astype(np.float32)
    return embeddings, labels, warm[dates][:, None] if known_effect else dates[:, None].astype(float), dates


def test_a_known_effect_helps_on_unseen_dates_and_is_taken() -> None:
    embeddings, labels, values, dates = _dated(0, known_effect=True)
    found = check_context(embeddings, labels, ("temperature_c",), values, dates.tolist(), _centroids)
    assert found.accepted and not found.memorises
    assert found.grouped_gain > 0.03 and found.grouped_gain > 2 * found.grouped_gain_se and "it helps" in found.reason


def _nearest(features: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The commonest class among the 15 nearest: a head that can learn a date by heart."""
    distance = (held[:, None, 0:4] - features[None, :, 0:4]) ** 2
    total = distance.sum(2)
    if features.shape[1] > 4:
        total = total + 400 * (held[:, None, 4] - features[None, :, 4]) ** 2
    near = np.argpartition(total, 15, axis=1)[:, :15]
    return (labels[near].mean(1) > 0.5).astype(np.int64)


def test_a_column_that_names_the_date_is_refused_though_chance_praises_it() -> None:
    embeddings, labels, values, dates = _dated(1, known_effect=False)
    found = check_context(embeddings, labels, ("day",), values, dates.tolist(), _nearest)
    assert found.random_gain > 0.1 and found.grouped_gain < 0
    assert found.memorises and not found.accepted


def test_missing_context_is_no_error() -> None:
    embeddings, labels, values, dates = _dated(2, known_effect=True)
    values[::3] = np.nan
    found = check_context(embeddings, labels, ("temperature_c",), values, dates.tolist(), _centroids, folds=3)
    assert np.isfinite(found.grouped_with) and found.accepted


def test_groups_stay_whole_and_folds_even() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(5, 60, 30))
    fold = deal_groups(groups.tolist(), 3, np.random.default_rng(1))
    assert all(len(set(fold[groups == g].tolist())) == 1 for g in range(30))
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() < 0.1 * len(groups)
    other = deal_groups(groups.tolist(), 3, np.random.default_rng(2))
    assert not np.array_equal(fold, other)


def test_error_of_groups_of_one_is_that_of_a_plain_mean() -> None:
    values = np.random.default_rng(0).normal(size=200)
    assert grouped_error(values, np.arange(200)) == pytest.approx(values.std(ddof=1) / np.sqrt(200))
    assert grouped_error(np.repeat(values, 5), np.repeat(np.arange(200), 5)) == pytest.approx(
        values.std(ddof=1) / np.sqrt(200)
    )
    assert np.isnan(grouped_error(values, np.zeros(200, int)))
