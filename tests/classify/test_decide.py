"""What is said of a particle, and why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter.classify.decide import REASONS, Reason, Thresholds, decide, decide_many, taxonomy_of

CLASSES = ("Ceratium_fusus", "Ceratium_lineatum", "Ceratium", "Bubbles")
PARENTS = {
    "Ceratium_fusus": "Ceratium", "Ceratium_lineatum": "Ceratium", "Ceratium": "Dinoflagellata",
    "Dinoflagellata": None,
}  # fmt: skip
TAXONOMY = taxonomy_of(CLASSES, PARENTS)


@pytest.mark.parametrize(
    ("scores", "distance", "thresholds", "expected"),
    [
        ([0.9, 0.05, 0.03, 0.02], None, Thresholds(), ("Ceratium_fusus", 0.9, Reason.HIGHEST)),
        ([0.3, 0.29, 0.21, 0.2], None, Thresholds(), ("Ceratium_fusus", 0.3, Reason.HIGHEST)),
        ([0.5, 0.4, 0.06, 0.04], None, Thresholds({"Ceratium_fusus": 0.8}), ("Ceratium", 0.96, Reason.GROUP)),
        ([0.5, 0.1, 0.05, 0.35], None, Thresholds({"Ceratium_fusus": 0.8}), (None, 0.5, Reason.UNCERTAIN)),
        ([0.1, 0.1, 0.2, 0.6], None, Thresholds({"Bubbles": 0.7}), (None, 0.6, Reason.UNCERTAIN)),
        ([0.9, 0.05, 0.03, 0.02], 9.0, Thresholds(distance=8.0), (None, 0.9, Reason.NOVEL)),
        ([0.9, 0.05, 0.03, 0.02], 7.0, Thresholds(distance=8.0), ("Ceratium_fusus", 0.9, Reason.HIGHEST)),
        ([0.8, 0.1, 0.05, 0.05], None, Thresholds({"Ceratium_fusus": 0.8}), ("Ceratium_fusus", 0.8, Reason.HIGHEST)),
        ([0.2, 0.2, 0.55, 0.05], None, Thresholds({"Ceratium": 0.6}), ("Ceratium", 0.95, Reason.GROUP)),
    ],
)
def test_cases(scores: list[float], distance: float | None, thresholds: Thresholds, expected: tuple) -> None:
    class_id, score, reason = decide(np.array(scores, np.float32), distance, thresholds, TAXONOMY)
    assert (class_id, reason) == (expected[0], expected[2].value)
    assert score == pytest.approx(expected[1], abs=1e-6)


def test_groups_hold_two_classes_at_least_and_a_circle_ends() -> None:
    assert TAXONOMY.outcomes == (*CLASSES, "Ceratium", "Dinoflagellata")
    assert TAXONOMY.members[4].tolist() == TAXONOMY.members[5].tolist() == [True, True, True, False]
    lonely = taxonomy_of(["a", "b"], {"a": "A", "b": "B"})
    assert lonely.outcomes == ("a", "b") and lonely.above == ((), ())
    circle = taxonomy_of(["a", "b"], {"a": "x", "x": "y", "y": "x", "b": "x"})
    assert circle.outcomes == ("a", "b", "x", "y")


@given(st.lists(st.lists(st.floats(0.001, 1), min_size=4, max_size=4), min_size=1, max_size=20), st.floats(0, 1))
def test_many_is_one_by_one(rows: list[list[float]], lowest: float) -> None:
    scores = np.array(rows, np.float32)
    scores /= scores.sum(1, keepdims=True)
    thresholds = Thresholds(dict.fromkeys(CLASSES, lowest), distance=0.5)
    away = np.linspace(0, 1, len(rows))
    outcome, said, reason = decide_many(scores, away, thresholds, TAXONOMY)
    for row in range(len(rows)):
        one = decide(scores[row], float(away[row]), thresholds, TAXONOMY)
        name = TAXONOMY.outcomes[outcome[row]] if outcome[row] >= 0 else None
        assert one == (name, pytest.approx(float(said[row])), REASONS[reason[row]].value)
        assert 0 < said[row] <= 1
