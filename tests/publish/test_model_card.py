"""Cards and comparisons: what a reader finds, and nothing that breaks out of its place."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

from plankter.publish.comparison import COLUMNS, comparison_csv, comparison_svg
from plankter.publish.model_card import model_card

CLASSES = [
    {
        "class_id": "a|b",
        "aphia_id": 104,
        "train": 8,
        "tune": 1,
        "judge": 1,
        "precision": 0.5,
        "recall": 1.0,
        "f1": 2 / 3,
    },
    {
        "class_id": "c",
        "aphia_id": None,
        "train": 1,
        "tune": 0,
        "judge": 0,
        "precision": None,
        "recall": None,
        "f1": None,
    },
]


def test_a_card_says_figures_warnings_and_classes() -> None:
    text = model_card(
        "mine", {"made": "today"}, {"images": 1234, "top1": 0.9, "macro_f1": 0.8123}, CLASSES,
        warnings=["not grouped"], problems=[{"problem": "twice", "count": 3, "message": "stands twice"}],
    )  # fmt: skip
    assert text.startswith("# mine\n\n- made: today\n")
    assert "On 1,234 images" in text and "| F1, mean over the classes | 0.812 |" in text
    assert "- not grouped" in text and "- 3 x stands twice" in text
    assert "| a\\|b | 104 | 8 | 1 | 1 | 0.500 | 1.000 | 0.667 |" in text
    assert "| c | - | 1 | 0 | 0 | - | - | - |" in text


def test_a_card_says_intervals_where_there_are_some() -> None:
    with_some = [
        {**CLASSES[0], "recall_interval": (0.2066, 1.0), "f1_interval": None},
        {**CLASSES[1], "recall_interval": (0.0, 1.0)},
    ]
    text = model_card("mine", {}, {"images": 1, "top1": 1.0}, with_some)
    assert "| a\\|b | 104 | 8 | 1 | 1 | 0.500 | 1.000 (0.21 to 1.00) | 0.667 |" in text
    assert "| c | - | 1 | 0 | 0 | - | - | - |" in text and "95 % intervals" in text
    assert "intervals" not in model_card("mine", {}, {"images": 1, "top1": 1.0}, CLASSES)


def test_a_card_without_a_judgement_says_so_and_takes_no_markup() -> None:
    text = model_card("x\n# y <script>", {}, {"images": 0}, CLASSES)
    assert "No image was left" in text and "\n# y" not in text and "<script" not in text


ROWS = [
    {
        "name": "small", "mode": "head", "top1": 0.8, "macro_f1": 0.7, "parameters": 2_000_000, "images_per_s": 900.0,
        "size_mb": 4.5, "memory_mb": 210.0, "failure": None,
    },
    {
        "name": "large & <slow>", "mode": "finetune", "top1": 0.9, "macro_f1": 0.82, "parameters": 12_000_000,
        "images_per_s": 60.0, "failure": None,
    },
    {"name": "no torch", "mode": "finetune", "failure": "needs torch"},
]  # fmt: skip


def test_a_comparison_as_table() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(ROWS).removeprefix("\ufeff"))))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["name"] for row in rows] == ["small", "large & <slow>", "no torch"]
    assert rows[0]["memory_mb"] == "210.0" and rows[1]["memory_mb"] == "" and rows[2]["failure"] == "needs torch"


def test_a_comparison_as_picture() -> None:
    svg = comparison_svg(ROWS)
    root = ET.fromstring(svg)
    words = " ".join(root.itertext())
    assert "small (2.0 M)" in words and "large & <slow> (12.0 M)" in words and "no torch" not in words
    assert "0.820" in root.attrib["aria-label"]
    assert comparison_svg(ROWS) == svg
    ET.fromstring(comparison_svg([]))
