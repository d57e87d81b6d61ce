"""Hand-made figures are XML in which every cell, point and curve can be counted again."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from plankter.publish.evaluation_figures import confusion_svg, coverage_svg, curve_svg, reliability_svg, size_svg

IDS = ("Acartia", "Bubbles & <foam>", "Noctiluca")
CELLS = [[0, 0, 8], [0, 1, 2], [1, 1, 5], [2, 0, 3]]
SUPPORT = (10, 5, 3)


def rects(svg: str) -> dict[str, tuple[str, float, float]]:
    """Title of each cell -> its class, left and top."""
    found = {}
    for rect in ET.fromstring(svg).iter("rect"):
        title = "".join(rect.itertext())
        found[title] = (rect.get("class") or "", float(rect.get("x") or 0), float(rect.get("y") or 0))
    return found


def matrix(**changes: Any) -> str:
    given: dict[str, Any] = {"counts": False, "description": 'a "matrix"', **changes}
    return confusion_svg(IDS, CELLS, SUPPORT, **given)


def test_each_cell_says_what_it_is() -> None:
    found = rects(matrix())
    assert set(found) == {
        "true Acartia, given Acartia: 8 of 10 (80%)",
        "true Acartia, given Bubbles & <foam>: 2 of 10 (20%)",
        "true Bubbles & <foam>, given Bubbles & <foam>: 5 of 5 (100%)",
        "true Noctiluca, given Acartia: 3 of 3 (100%)",
    }


def test_right_and_wrong_have_their_colours_and_places() -> None:
    found = list(rects(matrix()).values())
    assert [kind for kind, _, _ in found] == ["r8", "w4", "r8", "w8"]  # the root of the share, in eighths
    assert [kind for kind, _, _ in rects(matrix(counts=True)).values()] == ["r8", "w4", "r7", "w5"]
    (_, x0, y0), (_, x1, y1), (_, x2, y2), (_, x3, y3) = found
    assert y0 == y1 < y2 < y3 and x0 == x3 < x1 == x2
    assert x1 - x0 == pytest.approx(y2 - y0)


def test_below_the_threshold_is_a_last_column() -> None:
    found = rects(matrix(below=[0, 0, 1]))
    kind, x, _ = found["true Noctiluca, below the threshold: 1 of 3 (33%)"]
    assert kind.startswith("b") and x > max(x for k, x, _ in found.values() if not k.startswith("b"))


def test_small_matrices_hold_their_numbers_and_large_ones_stay_small() -> None:
    texts = ["".join(t.itertext()) for t in ET.fromstring(matrix(counts=True)).iter("text")]
    assert {"8", "2", "5", "3"} <= set(texts)
    many = [f"class {k}" for k in range(95)]
    cells = [[k, g, 1] for k in range(95) for g in range(95) if (k * 7 + g) % 6 == 0 or k == g]
    svg = confusion_svg(many, cells, [20] * 95, counts=False, description="m")
    assert len(rects(svg)) == len(cells) and len(svg) < 150 * len(cells) + 30_000
    assert ET.fromstring(svg).get("aria-label") == "m"


def test_curves_leave_out_what_is_unknown() -> None:
    curve: dict[str, list[float | None]] = {
        "thresholds": [0.0, 0.5, 1.0], "precision": [0.5, 1.0, None], "recall": [1.0, 0.5, 0.0],
    }  # fmt: skip
    svg = ET.fromstring(curve_svg(curve, 0.5, description="c"))
    points = {line.get("class"): (line.get("points") or "").split() for line in svg.iter("polyline")}
    assert len(points["precision"]) == 2 and len(points["recall"]) == 3
    first, second = (tuple(map(float, p.split(","))) for p in points["precision"])
    assert first[0] < second[0] and first[1] > second[1]  # rising precision goes up
    assert len([p for p in svg.iter("path") if p.get("class") == "cut"]) == 1
    assert 'class="cut"' not in curve_svg(curve, None, description="c")


def test_size_points_name_their_class_and_rise_with_f1() -> None:
    classes = [
        {"name": "a < b", "f1": 0.2, "training_images": 50}, {"name": "c", "f1": 0.9, "training_images": 5000},
        {"name": "never seen", "f1": None, "training_images": 10}, {"name": "unknown", "f1": 0.5, "training_images": 0},
    ]  # fmt: skip
    svg = ET.fromstring(size_svg(classes, "training_images", x_label="training images", description="s"))
    low, high = list(svg.iter("circle"))
    assert "".join(low.itertext()) == "a < b: F1 0.20, 50 training images"
    assert float(low.get("cx") or 0) < float(high.get("cx") or 0)
    assert float(low.get("cy") or 0) > float(high.get("cy") or 0)
    assert list(ET.fromstring(size_svg([], "support", x_label="x", description="s")).iter("circle")) == []


BINS = [
    {"low": 0.0, "high": 0.5, "images": 0, "mean_score": None, "right": None},
    {"low": 0.5, "high": 1.0, "images": 9, "mean_score": 0.8, "right": 0.9},
]
POINTS = [
    {"threshold": 0.0, "coverage": 1.0, "precision": 0.8, "macro_precision": 0.7},
    {"threshold": 0.9, "coverage": 0.5, "precision": 0.95, "macro_precision": 0.9},
    {"threshold": 0.95, "coverage": 0.2, "precision": 0.0, "macro_precision": None},
    {"threshold": 0.99, "coverage": 0.0, "precision": None, "macro_precision": None},
]


@pytest.mark.parametrize(
    "svg",
    [
        reliability_svg(BINS, description="d"),
        reliability_svg([], description="d"),
        coverage_svg(POINTS, description="d"),
        coverage_svg([], description="d"),
    ],
    ids=["reliability", "no bins", "coverage", "no points"],
)
def test_drawn_figures_load_nothing_and_describe_themselves(svg: str) -> None:
    assert ET.fromstring(svg).get("aria-label") == "d"
    assert not re.findall(r'(?:href|src)="(?!#)', svg) and "<script" not in svg
    words = ["".join(t.itertext()) for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "share right (what it keeps)" in words or "right among them, %" in words


def test_named_thresholds_stand_on_the_coverage_curve() -> None:
    svg = coverage_svg(POINTS, description="d")
    words = ["".join(t.itertext()) for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "0.9" in words and "0.99" not in words  # nothing is left there
