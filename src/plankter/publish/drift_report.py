"""Drift of a series of runs as one page that stands alone: chart, verdicts in words, accuracy, the oddest pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from plankter.publish.contact_sheets import contact_sheet
from plankter.publish.drift_figures import accuracy_chart_svg, control_chart_svg, limit_beyond
from plankter.publish.run_report import _environment, _svg, number
from plankter.types import ImageArray

SHEET_VIGNETTES = 24


@dataclass(frozen=True)
class DriftRow:
    """One run of the report.

    Attributes:
        started_at: as text, None where unknown.
        difference: square root of the squared discrepancy within the classes, None where none could be compared.
        mmd_p, class_mix_p, confidence_p: after the correction for all tests.
        mix_distance: share of the particles in another class than expected, 0..1.
        psi: of the scores.
        verdict, advice: in words.
        alarm: whether the images are judged to be others, or the run lies over the limit of the series.
        rising, falling: class, share expected and share found, the largest changes first.
        vignettes: index, pixels and distance of those farthest from the reference.
        um_per_px: of the run, None where unknown.
    """

    run_id: str
    name: str
    sample_id: str
    started_at: str | None
    particles: int
    difference: float | None
    mmd_p: float
    class_mix_p: float
    mix_distance: float
    confidence_p: float
    psi: float
    verdict: str
    advice: str
    alarm: bool
    rising: Sequence[tuple[str, float, float]] = ()
    falling: Sequence[tuple[str, float, float]] = ()
    vignettes: Sequence[tuple[int, ImageArray, float]] = ()
    um_per_px: float | None = None


@dataclass(frozen=True)
class MonthRow:
    """Validated labels of one month against the predictions; shares are 0..1."""

    month: str
    labels: int
    right: int
    accuracy: float
    low: float
    high: float
    alarm: bool


@dataclass(frozen=True)
class DriftReport:
    """What the page is made of.

    Attributes:
        model_name, model_id: whose training set the runs are compared with.
        training_images: in the sample that they are compared with.
        runs: in the order of the chart.
        centre, upper: of the chart of ``difference``; ``upper`` is None where runs are too few.
        false_alarms: chance of an alarm of the series for each run where nothing changes.
        tolerance: limit of ``difference`` that does not come from the runs.
        alpha: chance of any false alarm among the tests.
        months: in their order.
        expected: accuracy on the model's own validation images, None where unknown.
        warnings: what should be known.
        version: of plankter.
    """

    model_name: str
    model_id: str
    training_images: int
    runs: Sequence[DriftRow]
    centre: float
    upper: float | None
    false_alarms: float
    tolerance: float
    alpha: float
    months: Sequence[MonthRow] = ()
    expected: float | None = None
    warnings: Sequence[str] = field(default_factory=tuple)
    version: str = ""


def render_drift_report(report: DriftReport) -> str:
    """The report as one HTML page that loads nothing from elsewhere; every text of the data is escaped."""
    groups = _groups(report.runs)
    environment = _environment()
    environment.filters["p"] = p_text
    environment.filters["share"] = lambda value: f"{100 * value:.0f}\u00a0%"
    return environment.get_template("drift_report.html.j2").render(
        report=report,
        summary=_summary(report.runs),
        chart=_chart(report),
        accuracy=_accuracy(report),
        sheets=_sheets(report.runs),
        groups=groups,
        group_of={run.run_id: number for number, group in enumerate(groups, 1) for run in group["runs"]},
        limit_beyond=limit_beyond([run.difference for run in report.runs], report.tolerance, report.upper),
    )


def p_text(p: float) -> str:
    """A p-value as people read it.

    >>> p_text(0.0312), p_text(0.4567), p_text(1e-9), p_text(1.0)
    ('0.031', '0.46', '<\xa00.001', '1')
    """
    if p < 0.001:
        return "<\u00a00.001"
    return f"{p:.2g}" if p < 0.1 else f"{p:.2f}" if p < 0.995 else "1"


def _summary(runs: Sequence[DriftRow]) -> list[tuple[str, int]]:
    """Verdict -> runs, the frequent ones first."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.verdict] = counts.get(run.verdict, 0) + 1
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _groups(runs: Sequence[DriftRow]) -> list[dict[str, Any]]:
    """Runs with the same verdict and advice together, alarms first."""
    found: dict[tuple[str, str], list[DriftRow]] = {}
    for run in runs:
        found.setdefault((run.verdict, run.advice), []).append(run)
    ranked = sorted(found.items(), key=lambda pair: (not pair[1][0].alarm, pair[0][0] == "none"))
    return [{"verdict": verdict, "advice": advice, "runs": members} for (verdict, advice), members in ranked]


def _chart(report: DriftReport) -> Any:
    values = [math.nan if run.difference is None else run.difference for run in report.runs]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    odd = [run.name for run in report.runs if run.alarm]
    description = (
        f"Difference of the images from the training images for {len(known)} runs, from {number(min(known))} to "
        f"{number(max(known))}; alarms: {', '.join(odd) if odd else 'none'}."
    )
    return _svg(
        control_chart_svg(
            [run.name for run in report.runs], values, [run.alarm for run in report.runs], centre=report.centre,
            upper=report.upper, tolerance=report.tolerance, y_label="difference of the images", description=description,
        )
    )  # fmt: skip


def _accuracy(report: DriftReport) -> Any:
    months = report.months
    if not months:
        return None
    odd = [month.month for month in months if month.alarm]
    description = (
        f"Share of right predictions in {len(months)} months, numbers in the table; "
        f"under what was expected: {', '.join(odd) if odd else 'none'}."
    )
    return _svg(
        accuracy_chart_svg(
            [m.month for m in months], [m.accuracy for m in months], [m.low for m in months], [m.high for m in months],
            [m.alarm for m in months], expected=report.expected, description=description,
        )
    )  # fmt: skip


def _sheets(runs: Sequence[DriftRow]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for position, run in enumerate(runs, 1):
        sheet = contact_sheet(run.vignettes, run.um_per_px, n=SHEET_VIGNETTES)
        if sheet is not None:
            found.append({"run": run, "position": position, "sheet": sheet})
    return found
