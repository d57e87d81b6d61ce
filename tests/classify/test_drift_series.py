"""Limits that hold what they say for short and long series; accuracy by month."""

from __future__ import annotations

import numpy as np
import pytest

from plankter.classify.drift_series import LEAST_LABELS, accuracy_by_month, control_chart


@pytest.mark.parametrize("runs", [6, 12, 40])
@pytest.mark.parametrize("both", [False, True])
def test_false_alarms_are_as_rare_as_said_for_every_length(runs: int, both: bool) -> None:
    rng = np.random.default_rng(1)
    series = [control_chart(rng.normal(5, 2, runs), both_sides=both, false_alarms=0.02) for _ in range(2000)]
    rate = np.mean([chart.alarms.mean() for chart in series])
    assert 0.015 < rate < 0.025


def test_odd_runs_do_not_move_the_limits() -> None:
    rng = np.random.default_rng(2)
    usual = rng.normal(0.05, 0.005, 20)
    values = np.concatenate([usual, [0.4, 0.5, 0.45]])
    chart = control_chart(values)
    assert chart.alarms.tolist() == [False] * 20 + [True] * 3
    assert chart.upper is not None and chart.upper < 0.1 and chart.lower is None


def test_low_values_alarm_only_where_asked() -> None:
    values = np.concatenate([np.linspace(9, 11, 30), [-40]])
    assert not control_chart(values).alarms.any()
    chart = control_chart(values, both_sides=True)
    assert chart.alarms.tolist() == [False] * 30 + [True] and chart.lower is not None


def test_few_runs_have_no_limits_and_unknown_values_no_say() -> None:
    chart = control_chart([0.1, 0.2, 0.1, float("nan"), 9.0])
    assert chart.upper is None and not chart.alarms.any() and chart.centre == pytest.approx(0.15)
    assert np.isnan(control_chart([]).centre)
    unknown = control_chart([1.0, 1.1, 0.9, float("nan"), 1.05, 0.95, 50.0])
    assert unknown.alarms.tolist() == [False] * 6 + [True]


def test_equal_values_alarm_nothing_and_the_one_that_differs() -> None:
    assert not control_chart([0.0] * 9).alarms.any()
    assert control_chart([0.0] * 9 + [0.5]).alarms.tolist() == [False] * 9 + [True]


def test_a_chance_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(ValueError, match="false alarm"):
        control_chart([1, 2], false_alarms=1e-6)


def test_months_in_their_order_with_their_interval() -> None:
    right = np.array([True] * 45 + [False] * 5 + [True] * 20 + [False] * 30)
    months = ["2024-05"] * 50 + ["2024-03"] * 50
    march, may = accuracy_by_month(months, right, expected=0.82)
    assert (march.month, march.labels, march.right, march.alarm) == ("2024-03", 50, 20, True)
    assert (may.accuracy, may.alarm) == (0.9, False) and may.low < 0.82 < may.high
    assert march.low < 0.4 < march.high < 0.82


def test_few_labels_or_no_expectation_raise_no_alarm() -> None:
    wrong = np.zeros(LEAST_LABELS - 1, bool)
    assert not accuracy_by_month(["2024-05"] * len(wrong), wrong, expected=0.9)[0].alarm
    assert accuracy_by_month(["2024-05"] * LEAST_LABELS, np.zeros(LEAST_LABELS, bool), expected=0.9)[0].alarm
    assert not accuracy_by_month(["2024-05"] * LEAST_LABELS, np.zeros(LEAST_LABELS, bool))[0].alarm
    assert accuracy_by_month([], np.zeros(0, bool)) == []
    with pytest.raises(ValueError, match="months"):
        accuracy_by_month(["2024-05"], np.zeros(2, bool))


def test_false_alarms_of_the_months_are_rare() -> None:
    rng = np.random.default_rng(4)
    months = [f"{k:03d}" for k in range(400) for _ in range(60)]
    found = accuracy_by_month(months, rng.random(len(months)) < 0.8, expected=0.8)
    assert np.mean([month.alarm for month in found]) < 0.05
