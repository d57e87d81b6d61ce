"""A run's class mix, estimated from its own scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.estimated_mix import estimate_mix, under_own_mix


def drawn(mix: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels by ``mix`` and their scores under equal shares: points around the classes' centres, the exact posterior."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(0, 1.2, (len(mix), 6))
    labels = rng.choice(len(mix), n, p=mix)
    points = centres[labels] + rng.normal(0, 1, (n, 6))
    logits = -0.5 * ((points[:, None] - centres) ** 2).sum(2)
    scores = np.exp(logits - logits.max(1, keepdims=True))
    return labels, scores / scores.sum(1, keepdims=True)


def test_a_run_with_few_of_the_classes_is_named_better() -> None:
    mix = np.zeros(30)
    mix[[2, 7, 11, 20]] = 0.5, 0.3, 0.15, 0.05
    labels, scores = drawn(mix, 2000, 0)
    before = (scores.argmax(1) == labels).mean()
    after = (under_own_mix(scores, np.ones(30)).argmax(1) == labels).mean()
    assert after > before + 0.1


def test_a_run_with_the_mix_of_the_training_loses_nothing_to_speak_of() -> None:
    labels, scores = drawn(np.full(30, 1 / 30), 5000, 3)
    before = (scores.argmax(1) == labels).mean()
    assert (under_own_mix(scores, np.ones(30)).argmax(1) == labels).mean() > before - 0.02


def test_pseudo_images_hold_a_small_run_to_the_training() -> None:
    scores = np.tile([0.1, 0.2, 0.7], (10, 1))
    np.testing.assert_allclose(estimate_mix(scores, [2, 1, 1], pseudo_images=10), [0.25, 0.125, 0.625])
    np.testing.assert_allclose(estimate_mix(scores, [2, 1, 1], pseudo_images=1e12), [0.5, 0.25, 0.25])


def test_training_shares_must_fit_the_classes() -> None:
    with pytest.raises(ValueError, match="3 shares"):
        estimate_mix(np.full((4, 3), 1 / 3), [1, 1])


@given(st.integers(2, 12), st.integers(0, 40), st.integers(0, 2**31))
def test_shares_add_up_to_one_and_no_class_is_impossible(classes: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(classes), n)
    training = rng.integers(0, 50, classes)
    training[0] += 1
    found = estimate_mix(scores, training)
    assert found.sum() == pytest.approx(1) and (found > 0).all()
    moved = under_own_mix(scores, training)
    assert moved.shape == scores.shape and np.isfinite(moved).all()
