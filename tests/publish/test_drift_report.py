"""The page of drift: what stands in it, what is escaped, what it says where there is nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plankter.publish.drift_figures import accuracy_chart_svg, control_chart_svg, limit_beyond
from plankter.publish.drift_report import DriftReport, DriftRow, MonthRow, p_text, render_drift_report

EVIL = "<script>alert(1)</script>"


def row(name: str, difference: float | None, verdict: str = "none", **changes: Any) -> DriftRow:
    made = DriftRow(
        name * 4, name, f"sample {name}", "2024-05-01", 1234, difference, 1.0, 0.5, 0.12, 0.03, 0.05, verdict,
        f"advice for {verdict}", verdict.startswith("other instrument"),
    )  # fmt: skip
    return replace(made, **changes)


def report(**changes: Any) -> DriftReport:
    pixels = np.random.default_rng(1).integers(0, 255, (30, 40), np.uint8)
    runs = [
        row("a", 0.01), row("b", 0.02), row("c", None, "too few images"),
        row("d", 0.03, "other season (class mix)", rising=[("Tripos", 0.02, 0.41)], falling=[("Bubbles", 0.3, 0.1)]),
        row("e", 0.5, "other instrument (images)", vignettes=[(7, pixels, 9.0), (3, pixels, 12.0)]),
    ]  # fmt: skip
    months = [MonthRow("2024-05", 50, 45, 0.9, 0.79, 0.96, False), MonthRow("2024-06", 50, 20, 0.4, 0.28, 0.54, True)]
    made = DriftReport("flowcam", "0123456789abcdef", 1995, runs, 0.02, 0.09, 0.0027, 0.1, 0.01, months, 0.82, ("w1",))
    return replace(made, **changes)


def test_verdicts_numbers_and_advice_stand_in_the_page() -> None:
    page = render_drift_report(report())
    assert "2 runs: nothing unusual" in page and "1 run: other instrument (images)" in page
    assert "1,234" in page and "advice for other season (class mix)" in page
    assert "Tripos (2\u00a0% to 41\u00a0%)" in page and "Bubbles (30\u00a0% to 10\u00a0%)" in page
    assert "w1" in page and "79\u00a0% to 96\u00a0%" in page
    assert "Other instrument (images): e" in page and "Nothing unusual: a, b" in page


def test_alarms_come_first_in_what_to_do() -> None:
    headings = re.findall(r'<h3 id="do-\d+">([^:]+):', render_drift_report(report()))
    assert headings[0] == "Other instrument (images)" and headings[-1] == "Nothing unusual"


def test_pictures_run_from_the_farthest() -> None:
    page = render_drift_report(report())
    assert page.count("data:image/jpeg") == 1 and "Particles 3, 7." in page


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = render_drift_report(report(runs=[row(EVIL, 0.2, EVIL, advice=EVIL)], model_name=EVIL, warnings=(EVIL,)))
    assert "<script" not in page.lower() and "&lt;script&gt;" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page


def test_nothing_to_show_is_said() -> None:
    page = render_drift_report(report(runs=[], months=[], upper=None, centre=float("nan"), warnings=()))
    assert "No run could be compared" in page and "Nobody has validated" in page


def test_a_limit_far_above_the_runs_does_not_flatten_the_chart() -> None:
    assert limit_beyond([0.1, None, float("nan")], 0.1, 0.9) and not limit_beyond([0.8], 0.1, 0.9)
    assert not limit_beyond([0.1], 0.1, None)
    page = render_drift_report(report(upper=5.0))
    assert "beyond the chart" in page and "limit of the series</text>" not in page
    assert "limit of the series" in render_drift_report(report(upper=0.4)).split("<figcaption>")[0]


@pytest.mark.parametrize("runs", [1, 30])
def test_charts_take_any_number_of_runs_and_the_same_bytes_twice(runs: int) -> None:
    def chart() -> str:
        return control_chart_svg(
            [f"run {k} {EVIL}" for k in range(runs)], np.linspace(0, 1, runs), [False] * runs, centre=0.5, upper=None,
            tolerance=0.1, y_label="difference", description=EVIL,
        )  # fmt: skip

    assert chart() == chart() and chart().startswith("<svg") and "<script" not in chart()


def test_months_over_their_expectation_are_drawn_with_it() -> None:
    svg = accuracy_chart_svg(["2024-05"], [0.9], [0.8], [0.95], [False], expected=0.85, description="d")
    assert "expected" in svg and "2024-05" in svg
    assert "expected" not in accuracy_chart_svg(["m"], [0.9], [0.8], [0.95], [True], expected=None, description="d")


def test_p_values_as_people_read_them() -> None:
    assert [p_text(p) for p in (0.0312, 0.4567, 1e-9, 1.0)] == ["0.031", "0.46", "<\u00a00.001", "1"]
