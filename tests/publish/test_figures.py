"""Figures are XML that loads nothing and says the same twice; bars are measured in the drawing itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from plankter.publish.figures import class_counts_svg, score_histogram_svg, size_spectrum_svg

SVG = "{http://www.w3.org/2000/svg}"
EDGES = [1, 2, 4, 8, 16]


def spectrum(description: str = "sizes") -> str:
    return size_spectrum_svg(EDGES, [3, 0, 30, np.nan], y_label="particles per mL", description=description)


def bars(svg: str, colour: str = "--bar,") -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of every filled rectangle of that colour."""
    found = []
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if colour in path.get("style", ""):
            numbers = np.array(re.findall(r"-?\d+\.?\d*", path.get("d", "")), float).reshape(-1, 2)
            found.append((*numbers.min(axis=0), *numbers.max(axis=0)))
    return found


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_the_same_numbers_give_the_same_bytes_without_a_date() -> None:
    assert spectrum() == spectrum()
    assert "date" not in spectrum().lower() and "matplotlib" not in spectrum().lower()


@pytest.mark.parametrize(
    "svg",
    [
        spectrum(),
        class_counts_svg({"a": 1}, description="d"),
        class_counts_svg({}, description="d"),
        score_histogram_svg([0.2, np.nan], description="d"),
        score_histogram_svg([], description="d"),
        size_spectrum_svg([1, 2], [0], y_label="n", description="d"),
    ],
)
def test_pictures_load_nothing_and_describe_themselves(svg: str) -> None:
    root = ET.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label") in ("d", "sizes")
    assert not re.findall(r'(?:href|src)="(?!#)', svg) and "@import" not in svg and "<script" not in svg
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", svg))


def test_ids_differ_between_pictures_of_one_page() -> None:
    page = spectrum() + class_counts_svg({"a": 1}, description="d") + score_histogram_svg([0.2], description="d")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_spectrum_bars_stand_on_log_axes() -> None:
    first, second = bars(spectrum())  # classes of 0 and of nothing known have no bar
    assert second[2] - second[0] == pytest.approx(first[2] - first[0], rel=1e-4)  # both classes double the size
    assert second[0] - first[0] == pytest.approx(2 * (first[2] - first[0]), rel=1e-4)
    assert first[3] == pytest.approx(second[3])
    # floor is a third of the lowest bar: heights go as log(3) and log(30)
    assert (second[3] - second[1]) / (first[3] - first[1]) == pytest.approx(np.log(30) / np.log(3), rel=1e-4)


def test_class_bars_are_ranked_and_the_rest_is_summed() -> None:
    svg = class_counts_svg({"few": 2, "many": 40, "none": 0, "some": 10, "rare": 1}, top=2, description="d")
    many, some = bars(svg)
    (rest,) = bars(svg, "--bar-2,")
    assert (many[2] - many[0]) / (some[2] - some[0]) == pytest.approx(4, rel=1e-4)
    assert (many[2] - many[0]) / (rest[2] - rest[0]) == pytest.approx(40 / 3, rel=1e-3)
    assert many[1] < some[1] < rest[1]
    assert {"many", "some", "2 other classes", "40", "10", "3"} <= set(texts(svg))
    assert "few" not in texts(svg) and "none" not in texts(svg)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "$x^2$", r"\frac{", "Ωμέγα", "浮游生物"])
def test_names_are_written_as_they_are(name: str) -> None:
    assert name in texts(class_counts_svg({name: 3}, description="d"))


def test_control_characters_do_not_break_the_picture() -> None:
    assert "a b" in texts(class_counts_svg({"a\x00\x1b\n\ud800b": 3}, description='"\x00<'))


def test_scores_fall_into_twenty_steps() -> None:
    found = bars(score_histogram_svg([0.0, 0.01, 1.0, 0.97, 0.99, 0.96], description="d"))
    heights = [bottom - top for _, top, _, bottom in found]
    assert len(found) == 20 and heights[19] == pytest.approx(2 * heights[0], rel=1e-4)
    assert sum(height > 1e-6 for height in heights) == 2
