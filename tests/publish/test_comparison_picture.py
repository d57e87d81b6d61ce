"""The table and the picture of a comparison: every number plain, every name readable."""

from __future__ import annotations

import csv
import io
import re

import pytest

from plankter.publish.comparison import COLUMNS, comparison_csv, comparison_svg, label_offsets


def row(name: str, speed: float, good: float, parameters: float = 2.4e6) -> dict[str, object]:
    return {"name": name, "images_per_s": speed, "macro_f1": good, "parameters": parameters, "failure": None}


ROWS = [
    row("flowcam+lda", 1500, 0.80), row("flowcam+logistic", 1490, 0.79), row("mobilenet_v2", 1510, 0.795),
    row("efficientnet_b0", 420, 0.81, 4.1e6), row("efficientnet_lite2", 800, 0.81, 4.9e6),
    {"name": "broken", "failure": "no torch"},
]  # fmt: skip


def test_the_table_has_a_row_a_candidate_and_blanks_where_nothing_is_known() -> None:
    found = list(csv.DictReader(io.StringIO(comparison_csv(ROWS).removeprefix("\ufeff"))))
    assert list(found[0]) == list(COLUMNS) and len(found) == len(ROWS)
    assert found[3]["images_per_s"] == "420" and found[3]["memory_mb"] == "" and found[5]["failure"] == "no torch"


def test_numbers_are_plain_and_candidates_named() -> None:
    svg = comparison_svg(ROWS)
    texts = re.findall(r">([^<>]+)</text>", svg)
    assert "mathdefault" not in svg and "$" not in "".join(texts)
    assert {"500", "1,000", "2,000"} <= set(texts)
    assert {"flowcam+lda (2.4 M)", "efficientnet_b0 (4.1 M)"} <= set(texts)
    assert not any("broken" in text for text in texts)


@pytest.mark.parametrize(("slow", "fast"), [(900, 1_000), (1, 50_000), (0.5, 0.6), (300, 300)])
def test_ticks_stand_for_every_range_of_speeds(slow: float, fast: float) -> None:
    texts = re.findall(r">([^<>]+)</text>", comparison_svg([row("a", slow, 0.5), row("b", fast, 0.6)]))
    numbers = [text for text in texts if re.fullmatch(r"[\d,.]+", text)]
    assert len(numbers) >= 4  # those of both axes


def test_texts_cover_neither_each_other_nor_a_dot() -> None:
    dots = [(100.0, 100.0), (103.0, 104.0), (101.0, 108.0), (180.0, 100.0), (60.0, 101.0)]
    names = ["a name of some length (2.4 M)"] * len(dots)
    offsets = label_offsets(dots, names)
    boxes = []
    for (x, y), (dx, dy), name in zip(dots, offsets, names, strict=True):
        boxes.append((x + dx, y + dy - 4, x + dx + len(name) * 4.9, y + dy + 4))
    for k, one in enumerate(boxes):
        for other in boxes[:k]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert not any(one[0] < x < one[2] and one[1] < y < one[3] for x, y in dots)
