"""Charts of drift: runs with alarm limits, accuracy by month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from plankter.publish.figures import BAR, BAR_2, INK, draw_svg, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_TICKS = 24


def limit_beyond(values: Sequence[float | None], tolerance: float, upper: float | None) -> bool:
    """Whether the limit of the series lies so high that drawing it would flatten all runs: it does where runs are few."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return upper is not None and upper > 1.3 * max([tolerance, *known])


def control_chart_svg(
    names: Sequence[str],
    values: npt.ArrayLike,
    alarms: Sequence[bool],
    *,
    centre: float,
    upper: float | None,
    tolerance: float,
    y_label: str,
    description: str,
) -> str:
    """One point a run in their order, alarms as larger diamonds with their number, limits as lines with their names.

    Args:
        names: (n,) of the runs, numbered on the axis.
        values: (n,) NaN where a run has none.
        alarms: (n,).
        centre: of the usual values. upper: alarm limit of the series, None where there is none.
        tolerance: limit that does not come from the series.
        y_label: what the values are. description: the picture in words.
    """
    y = np.asarray(values, np.float64)
    x = np.arange(1, len(y) + 1)
    odd = np.asarray(alarms, bool) & np.isfinite(y)
    if limit_beyond(y.tolist(), tolerance, upper):
        upper = None

    def plot(axes: Axes) -> None:
        usual = np.isfinite(y) & ~odd
        axes.plot(x[np.isfinite(y)], y[np.isfinite(y)], color=BAR, linewidth=0.8)
        axes.plot(x[usual], y[usual], "o", color=BAR, markersize=6)
        axes.plot(x[odd], y[odd], "D", color=BAR_2, markersize=9)
        top = max(v for v in (tolerance, upper or 0.0, centre, *y.tolist()) if np.isfinite(v)) * 1.15
        lines = [(tolerance, "tolerance", "-"), (centre, "median of the runs", ":")]
        lines += [] if upper is None else [(upper, "limit of the series", "--")]
        placed: list[float] = []
        for level, name, style in sorted(line for line in lines if np.isfinite(line[0])):
            axes.axhline(level, color=INK, linewidth=0.9, linestyle=style)
            at = max([level, *(p + top * 0.07 for p in placed[-1:])])
            axes.text(len(y) + 0.65, at, name, va="center", fontsize=9.5)
            placed.append(at)
        axes.set_xlim(0.4, len(y) + 0.6)
        axes.set_ylim(0, top)
        step = max(1, -(-len(x) // _MAX_TICKS))
        shown = x[::step]
        upright = len(x) > 6
        axes.set_xticks(
            shown, [printable(names[k - 1])[:24] for k in shown], rotation=60 if upright else 0,
            ha="right" if upright else "center", rotation_mode="anchor" if upright else "default", fontsize=9,
        )  # fmt: skip
        axes.set_ylabel(y_label)

    return draw_svg("control", plot, (7.6, 3.8), description)


def accuracy_chart_svg(
    months: Sequence[str],
    accuracy: npt.ArrayLike,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    alarms: Sequence[bool],
    *,
    expected: float | None,
    description: str,
) -> str:
    """Share of right predictions by month with its interval, and what was expected as a line.

    Args:
        months: (n,) names.
        accuracy, low, high: (n,) shares 0..1.
        alarms: (n,) months whose interval lies under what was expected.
        expected: share on the model's own validation images, None where unknown.
        description: the picture in words.
    """
    y, below, above = (np.asarray(v, np.float64) for v in (accuracy, low, high))
    x = np.arange(1, len(y) + 1)
    odd = np.asarray(alarms, bool)

    def plot(axes: Axes) -> None:
        for mask, colour, mark in ((~odd, BAR, "o"), (odd, BAR_2, "D")):
            axes.vlines(x[mask], 100 * below[mask], 100 * above[mask], color=colour, linewidth=2)
            axes.plot(x[mask], 100 * y[mask], mark, color=colour, markersize=7)
        if expected is not None:
            axes.axhline(100 * expected, color=INK, linewidth=0.9, linestyle="--")
            axes.text(len(y) + 0.65, 100 * expected, "expected", va="center", fontsize=9.5)
        axes.set_xlim(0.4, len(y) + 0.6)
        axes.set_ylim(0, 103)
        step = max(1, -(-len(x) // _MAX_TICKS))
        axes.set_xticks(x[::step], [printable(months[k - 1]) for k in x[::step]], fontsize=9)
        axes.set_ylabel("right predictions (%)")

    return draw_svg("accuracy", plot, (7.6, 2.8), description)
