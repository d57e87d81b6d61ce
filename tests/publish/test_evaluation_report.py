"""The page is parsed again: only its own script may run, every number of the JSON stands in it, hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest

from plankter.classify.breakdowns import worst_errors
from plankter.classify.evaluation_summary import Evaluated, jsonable, summarise
from plankter.publish.evaluation_report import THUMBNAIL_PX, render_evaluation_report, thumbnail
from plankter.publish.evaluation_words import in_short, p_words, percent, score, signed
from plankter.types import ImageArray

EVIL = "<script>alert(1)</script>"
BREAKOUT = "\" onload='x' {{ 7 * 7 }} </style></title><img src=x onerror=y>"


class Page(HTMLParser):
    """Elements with their attributes and the text in each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes something else"

    def handle_data(self, data: str) -> None:
        tag = self.open[-1] if self.open else ""
        self.text[tag] = self.text.get(tag, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self) -> str:
        texts = [text for tag, text in self.text.items() if tag not in ("style", "script")]
        return " ".join(" ".join(texts).split())


def numbers(ids: tuple[str, ...] = ("Acartia", "Bubbles", "Noctiluca", "Tripos"), **changes: Any) -> dict[str, Any]:
    """An evaluation of 120 images of three of four classes, as the workflow makes it."""
    rng = np.random.default_rng(5)
    true = np.repeat([0, 1, 2], 40)
    logits = rng.normal(0, 1, (120, 4))
    logits[np.arange(120), true] += 2
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mix = np.array([500.0, 100.0, 50.0, 350.0])
    groups = {"date": ["2021" if k % 2 else None for k in range(120)]}
    found = summarise(Evaluated(true, scores, ids, (900, 120, 30, 60), mix, groups))
    for entry in found["per_class"]:
        entry |= {"name": f"{entry['class_id']} sp.", "own_threshold": None}
    for pair in found["pairs"]:
        pair["pictures"] = {
            "first_right": ["a.png"], "first_as_second": ["b.png", "gone.png"], "second_as_first": [],
            "second_right": ["a.png"],
        }  # fmt: skip
    found["reweighted"]["mix"] = "table.csv"
    errors = [
        {
            "file": f"{ids[true[row]]}/{row}.png", "true": ids[true[row]], "given": ids[int(scores[row].argmax())],
            "score": float(scores[row].max()), "true_score": float(scores[row, true[row]]), "true_rank": 2,
        }
        for row in worst_errors(true, scores)
    ]  # fmt: skip
    return {
        "made_by": "plankter 0.1.0",
        "model": {"name": "tiny", "model_id": "0123456789abcdef", "precision": "f32", "classes": 4},
        "half": "all", "class_mix": "training", "unknown_folders": ["Whales"],
        "failures": [{"file": "a/broken.png", "reason": "cut off"}], **found,
        "decisions": None, "worst_errors": jsonable(errors), "comparison": None, **changes,
    }  # fmt: skip


def picture(name: str) -> ImageArray | None:
    return None if name == "gone.png" else np.full((40, 60), len(name), np.uint8)


COMPARED = {
    "against": {"name": "older", "model_id": "fedcba9876543210"}, "images": 120, "both": 80, "only_first": 25,
    "only_second": 5, "neither": 10, "p": 0.00032, "first": {"top1": 0.875, "macro_f1": 0.87},
    "second": {"top1": 0.708, "macro_f1": 0.7}, "top1": {"value": 0.167, "low": 0.09, "high": 0.24, "standard_error": 0.04},
    "macro_f1": {"value": 0.17, "low": 0.1, "high": 0.25, "standard_error": 0.04},
    "per_class": [
        {"class_id": "Acartia", "images": 40, "first_f1": 0.9, "second_f1": 0.6, "only_first": 12, "only_second": 1, "p": 0.01},
        {"class_id": "only of the other", "images": 40, "first_f1": 0.5, "second_f1": 0.8, "only_first": 0, "only_second": 4, "p": 0.4},
        {"class_id": "Bubbles", "images": 40, "first_f1": 0.7, "second_f1": 0.7, "only_first": 1, "only_second": 1, "p": 1.0},
    ],
}  # fmt: skip
DECIDED = {
    "class_right": 70, "class_wrong": 5, "group_right": 9, "group_wrong": 1, "unknown": 35, "unknown_right": 20,
}  # fmt: skip


def hostile() -> dict[str, Any]:
    given = numbers((EVIL, BREAKOUT, "c", "d"), unknown_folders=[EVIL], decisions=DECIDED, comparison=COMPARED)
    given["failures"] = [{"file": BREAKOUT, "reason": EVIL}]
    given["groups"] = {EVIL: [{**given["groups"]["date"][0], "group": BREAKOUT}]}
    given["reweighted"]["mix"] = EVIL
    given["model"] = {**given["model"], "name": BREAKOUT, "model_id": EVIL}
    return given


@pytest.mark.parametrize("given", [numbers(), hostile()], ids=["plain", "hostile"])
def test_nothing_is_loaded_and_only_the_sorting_runs(given: dict[str, Any]) -> None:
    page = Page(render_evaluation_report(given, picture))
    assert page.open == []
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "base", "form", "image"}
    assert len(page.all("script")) == 1 and not page.all("script")[0]
    digest = base64.b64encode(hashlib.sha256(page.text["script"].encode()).digest()).decode()
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )  # fmt: skip
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        if "src" in attributes:
            assert tag == "img" and (attributes["src"] or "").startswith("data:image/jpeg;base64,")
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in page.text["style"] and "url(" not in page.text["style"]


def test_hostile_text_is_shown_as_text() -> None:
    words = Page(render_evaluation_report(hostile(), picture)).words()
    assert words.count(EVIL) >= 8 and "{{ 7 * 7 }}" in words and "49" not in re.findall(r"\b49\b", words)


def test_every_figure_stands_in_the_page() -> None:
    given = numbers()
    words = Page(render_evaluation_report(given, picture)).words()
    for name, figure in given["figures"].items():
        shown = score(figure["value"], 3) if name == "log_loss" else percent(figure["value"])
        assert " ".join(shown.split()) in words, name
    assert percent(given["reweighted"]["figures"]["top1"]["value"]).split()[0] in words
    assert "35.0 % of that mix are classes without an image here" in words
    for entry in given["per_class"]:
        assert entry["name"] in words
    assert "a/broken.png" in words and "cut off" in words and "Whales" in words


def test_the_table_of_classes_can_be_sorted_by_numbers() -> None:
    page = Page(render_evaluation_report(numbers(), picture))
    values = [float(cell["data-v"] or "x") for cell in page.all("td") if "data-v" in cell]
    assert len(values) >= 8 * 3 and all(np.isfinite(values))
    assert "sortable" in str([table.get("class") for table in page.all("table")])


def test_pictures_are_small_and_missing_ones_are_left_out() -> None:
    page = Page(render_evaluation_report(numbers(), picture))
    titles = [image["title"] for image in page.all("img") if "title" in image]
    assert "b.png" in titles and "gone.png" not in titles
    assert all(int(image["width"] or 0) <= THUMBNAIL_PX for image in page.all("img"))


@pytest.mark.parametrize(("height", "width", "shown"), [(20, 30, (60, 40)), (400, 100, (26, 104)), (1, 900, (104, 1))])
def test_thumbnails_keep_their_shape_and_are_not_blown_up(height: int, width: int, shown: tuple[int, int]) -> None:
    uri, *size = thumbnail(np.full((height, width), 90, np.uint8))
    assert tuple(size) == shown
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_UNCHANGED).shape == (shown[1], shown[0])


def test_comparison_and_decisions_in_words() -> None:
    words = Page(render_evaluation_report(numbers(comparison=COMPARED, decisions=DECIDED), picture)).words()
    assert "Both were right on 80, only tiny on 25, only older on 5, neither on 10" in words
    assert "probability of 0.00032" in words and "only of the other" in words
    assert "tiny has the higher F1 in 1 classes, older in 1" in words
    assert "A class is given to 75 images, right for 93.3 %" in words and "Nothing is said of 35" in words


def test_a_perfect_model_and_one_class_alone() -> None:
    given = Evaluated(np.zeros(3, int), np.array([[0.9, 0.1]] * 3), ("a", "b"), (0, 0))
    found = summarise(given)
    for entry in found["per_class"]:
        entry |= {"name": entry["class_id"], "own_threshold": None}
    page = {**numbers(), **found, "worst_errors": [], "failures": [], "unknown_folders": []}
    words = Page(render_evaluation_report(page, picture)).words()
    assert "100.0 % of 3 images" in words and "Every image could be read" in words
    assert page["figures"]["top1"]["low"] < 0.5  # three images prove little


def test_the_json_is_json_and_small() -> None:
    text = json.dumps(numbers(), allow_nan=False)
    assert json.loads(text)["images"] == 120 and len(text) < 20_000
    assert jsonable({"a": np.float32(0.5), "b": [np.nan, np.int64(2)], "c": (True, np.inf)}) == {
        "a": 0.5, "b": [None, 2], "c": [True, None],
    }  # fmt: skip


def test_sentences_say_which_way() -> None:
    modest = numbers(mean_score=0.5)
    assert "too modest" in " ".join(in_short(modest))
    assert "too sure of itself" in " ".join(in_short(numbers(mean_score=0.99)))
    level = numbers()
    level["mean_score"] = level["figures"]["top1"]["value"]
    assert "at their word" in " ".join(in_short(level))
    assert "more often than older by 16.7 points" in " ".join(in_short(numbers(comparison=COMPARED)))
    even = {**COMPARED, "p": 0.4}
    assert "equally often" in " ".join(in_short(numbers(comparison=even)))
    assert (percent(None), score(None), signed(-0.012)) == ("unknown", "–", "−1.20")
    assert (p_words(0.031), p_words(1e-9)) == ("p = 0.031", "p <\u00a00.0001")
