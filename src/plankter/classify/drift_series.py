"""Drift over a series of runs: a chart with alarm limits, and accuracy by month from the labels that come in later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from plankter.classify.resampling import wilson

FALSE_ALARMS = 0.0027  # a run; that of the usual limits at 3 standard deviations
LEAST_RUNS, LEAST_LABELS = 5, 20
_SIMULATED, _SEED = 400_000, 1
MAD_TO_SD = 1.4826  # of normal values
_SMALLEST_SPREAD = 1e-9


@dataclass(frozen=True)
class Chart:
    """Values of runs in their order with alarm limits; without limits where there are fewer than `LEAST_RUNS`.

    Attributes:
        centre: median.
        lower, upper: limits; ``lower`` is None where only high values are alarming.
        alarms: bool (n,).
        false_alarms: chance of an alarm for each run where nothing changes and the values are normal.
    """

    centre: float
    lower: float | None
    upper: float | None
    alarms: npt.NDArray[np.bool_]
    false_alarms: float


@dataclass(frozen=True)
class Month:
    """Validated labels of one month: how many the model had right, with the 95 % Wilson interval of the share.

    ``alarm``: the whole interval lies under what was expected.
    """

    month: str
    labels: int
    right: int
    accuracy: float
    low: float
    high: float
    alarm: bool


def control_chart(values: npt.ArrayLike, *, both_sides: bool = False, false_alarms: float = FALSE_ALARMS) -> Chart:
    """Limits around the median by the median absolute deviation: up to half of the runs may be odd without moving them.

    The factor is found by simulating normal values for the same number of runs, as that deviation is far from the
    standard deviation where runs are few: the chance of a false alarm is ``false_alarms`` a run for every length.

    Args:
        values: (n,) one a run, NaN for a run that has none: it neither counts nor alarms.
        both_sides: whether low values alarm as well.
        false_alarms: chance a run, between 0.001 and 0.5.

    Raises:
        ValueError: a chance outside its range.
    """
    if not 0.001 <= false_alarms <= 0.5:
        raise ValueError(f"the chance of a false alarm must be 0.001 to 0.5 a run, got {false_alarms}")
    series = np.asarray(values, np.float64)
    known = series[np.isfinite(series)]
    centre = float(np.median(known)) if len(known) else float("nan")
    if len(known) < LEAST_RUNS:
        return Chart(centre, None, None, np.zeros(len(series), bool), false_alarms)
    spread = max(float(np.median(np.abs(known - centre))) * MAD_TO_SD, _SMALLEST_SPREAD * max(1.0, abs(centre)))
    reach = _factor(min(len(known), 100), both_sides, false_alarms) * spread
    away = np.nan_to_num(series - centre, nan=0.0)
    alarms = (np.abs(away) if both_sides else away) > reach
    return Chart(centre, centre - reach if both_sides else None, centre + reach, alarms, false_alarms)


@lru_cache(maxsize=64)
def _factor(runs: int, both_sides: bool, false_alarms: float) -> float:
    """Deviations from the median, in units of the rescaled MAD, that a normal value exceeds with the given chance."""
    rng = np.random.default_rng(_SEED)
    draws = rng.standard_normal((_SIMULATED // runs, runs))
    away = draws - np.median(draws, axis=1, keepdims=True)
    away /= np.median(np.abs(away), axis=1, keepdims=True) * MAD_TO_SD
    return float(np.quantile(np.abs(away) if both_sides else away, 1 - false_alarms))


def accuracy_by_month(
    months: Sequence[str], right: npt.NDArray[np.bool_], expected: float | None = None
) -> list[Month]:
    """How often the model was right in each month, from labels that people gave later.

    An alarm needs `LEAST_LABELS` labels and an interval that lies wholly under ``expected``; where nothing changed it
    comes with a chance of about 2.5 % a month. Labels are taken for a fair sample of the month: where people look at
    doubtful particles first, accuracy comes out too low.

    Args:
        months: (n,) "2024-05" of each label, sorted or not.
        right: bool (n,) whether the prediction that was looked at was what the person said.
        expected: accuracy on the model's own validation images, None where unknown.

    Raises:
        ValueError: lengths that differ.
    """
    if len(months) != len(right):
        raise ValueError(f"{len(months)} months for {len(right)} labels")
    by_month: dict[str, list[bool]] = defaultdict(list)
    for month, hit in zip(months, right.tolist(), strict=True):
        by_month[month].append(hit)
    found = []
    for month, hits in sorted(by_month.items()):
        n, good = len(hits), sum(hits)
        low, high = wilson(good, n)
        alarm = expected is not None and n >= LEAST_LABELS and high < expected
        found.append(Month(month, n, good, good / n, low, high, alarm))
    return found
