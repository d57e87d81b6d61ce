"""The page is parsed again: nothing is loaded, nothing runs, the numbers stand where they should."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plankter
from plankter.publish.flag_words import _MEANINGS, meaning
from plankter.publish.run_report import ClassRow, Density, ModelFacts, RunReport, number, render_run_report
from plankter.quantify.abundance import size_spectrum
from plankter.types import Flag, ImageArray, Run, Sample, Severity

EVIL = "<script>alert(1)</script>"
BREAKOUT = "\" onload='x' {{ 7 * 7 }} </style></title><img src=x onerror=y>"


class Page(HTMLParser):
    """Elements with their attributes and the text of each, in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes something else"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self) -> str:
        return " ".join(" ".join(data for tag, data in self.text if tag != "style").split())


def vignettes(n: int = 3) -> list[tuple[int, ImageArray, float]]:
    rng = np.random.default_rng(1)
    return [(k, rng.integers(0, 255, (30 + k, 40), np.uint8), 1 - k / 10) for k in range(n)]


SIZES = np.geomspace(8, 64, 103)
SPECTRUM = size_spectrum(SIZES, 0.5)


def report(**changes: Any) -> RunReport:
    run = Run(
        "0123456789abcdef", "S1", "flowcam", "run 7", "flowcam/7", um_per_px=1.25, volume_imaged_ml=0.5,
        started_at=datetime(2021, 4, 20, 9, 13, tzinfo=UTC), settings={"Fluid/Depth": "80"},
    )  # fmt: skip
    rows = [
        ClassRow("Acartia", "Acartia", 104108, 10, 0, Density(20, 9.59, 36.8)),
        ClassRow("Bubbles", "Bubbles", None, 90, 4, Density(180, 145, 221)),
        ClassRow("Noctiluca", "Noctiluca", 109921, 0, 0, Density(0, 0, 7.38)),
    ]
    given = RunReport(
        run, Sample("S1", station="330", latitude_deg=51.4333, longitude_deg=-2.5), 103, 100, 100,
        [(4, "damaged"), (5, "damaged"), (6, "cut off")], rows, Density(206, 168, 250),
        ModelFacts("8f2c1d0a9b3e4f56", "flowcam", "bf16", 0.8931),
        SIZES, np.linspace(0.4, 1, 100), (SPECTRUM.edges_um, SPECTRUM.count), {"Bubbles": vignettes()}, version="0.1.0",
    )  # fmt: skip
    return replace(given, **changes)


def with_run(**changes: Any) -> RunReport:
    return report(run=replace(report().run, **changes))


def hostile() -> RunReport:
    run = replace(
        report().run, name=EVIL, sample_id=BREAKOUT, instrument=EVIL, source=BREAKOUT, software=EVIL, notes=BREAKOUT,
        settings={EVIL: BREAKOUT}, flags=(Flag(EVIL, BREAKOUT, file=EVIL, row=3),),
    )  # fmt: skip
    return report(
        run=run, sample=Sample(BREAKOUT, station=EVIL, environment={EVIL: BREAKOUT}),
        classes=[ClassRow(EVIL, EVIL, 1, 5, 0), ClassRow("b", BREAKOUT, None, 4, 0)], failures=[(1, EVIL)],
        model=ModelFacts(EVIL, BREAKOUT, EVIL), class_vignettes={EVIL: vignettes(), "b": vignettes()}, version=EVIL,
    )  # fmt: skip


@pytest.mark.parametrize("given", [report(), hostile()], ids=["plain", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(given: RunReport) -> None:
    html = render_run_report(given)
    page = Page(html)
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "video",
        "audio",
        "source",
        "image",
    }
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not {"srcset", "background", "poster", "action", "ping"} & set(attributes)
        if "src" in attributes:
            assert tag == "img" and (attributes["src"] or "").startswith("data:image/jpeg;base64,")
        for name in ("href", "xlink:href"):
            target = attributes.get(name)
            if target is not None:
                worms = r"https://www\.marinespecies\.org/aphia\.php\?p=taxdetails&id=\d+"
                assert target.startswith("#") or (tag == "a" and re.fullmatch(worms, target)), target
    styles = "".join(data for tag, data in page.text if tag == "style") + str(
        [a.get("style") for _, a in page.elements]
    )
    assert "@import" not in styles
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", styles))
    policy = [m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert (policy[0]["content"] or "").startswith("default-src 'none'")


def test_hostile_text_is_shown_as_text() -> None:
    words = Page(render_run_report(hostile())).words()
    assert words.count(EVIL) >= 8 and "{{ 7 * 7 }}" in words


def test_page_is_accessible() -> None:
    html = render_run_report(report())
    page = Page(html)
    assert (
        page.all("html")[0]["lang"] == "en"
        and len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    )
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(image["alt"] and image["width"] and image["height"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [a.get("aria-labelledby") for _, a in page.elements if a.get("aria-labelledby")]
    used += [(a["href"] or "")[1:] for a in page.all("a") if (a.get("href") or "").startswith("#")]
    assert set(used) <= set(ids) and "class-1" in used


def luminance(colour: str) -> float:
    parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colours_have_contrast_in_light_dark_and_print() -> None:
    css = files("plankter.publish").joinpath("templates/report.css").read_text("utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{([^}]*)\}", css)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        for paper in ("paper", "band"):
            for ink, least in [
                *((k, 4.5) for k in ("ink", "quiet", "link", "error", "warning", "note")),
                ("bar", 3),
                ("bar-2", 3),
            ]:
                light, dark = sorted((luminance(scheme[paper]), luminance(scheme[ink])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= least, (paper, ink)


def test_in_short_and_table_say_the_numbers() -> None:
    html = render_run_report(report())
    words = Page(html).words().replace("\u00a0", " ")
    assert "The instrument recorded 103 particles; 100 of them have a usable image." in words
    assert "The most common classes by the model: Bubbles (90, 90 %) and Acartia (10, 10 %)." in words
    assert "206 per mL of the imaged water (95 % interval of counting error 168 to 250)" in words
    assert "3 images could not be used" in words and "Nothing unusual" not in words
    assert "predictions of a model, not validated identifications" in words
    assert "confirmed or corrected 4 of the 103 particles" in words
    assert "right for 89.3 %" in words
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html, re.S)]
    start = cells.index("Bubbles")
    assert cells[start : start + 12] == [
        "Bubbles", "none", "90", "4", "180", "145 to 221", "Acartia", "104108", "10", "0", "20.0", "9.59 to 36.8",
    ]  # fmt: skip
    assert "1 further class that the model knows was not found" in words and "Noctiluca" not in words
    assert "51.4333° N, 2.5000° W" in words and "2021-04-20 09:13:00 UTC" in words and "Fluid/Depth" in words


def test_a_perfect_run_says_so() -> None:
    words = Page(render_run_report(report(particles=100, failures=[]))).words()
    assert "100 particles, each with a usable image" in words and "Nothing unusual was found" in words


def test_flags_stand_worst_first_with_what_they_mean() -> None:
    flags = [
        Flag("masks-missing", "m1", Severity.NOTE),
        Flag("odd", "m2"),
        Flag("list-truncated", "m3.", Severity.ERROR),
    ]
    words = Page(render_run_report(report(flags=flags))).words()
    assert "3 things about this run should be known" in words and "Nothing unusual" not in words
    assert (
        words.index("Serious: m3. Do not publish")
        < words.index("Check this: m2. Look at this")
        < words.index("Note: m1.")
    )


def test_unknown_volume_scale_and_model_are_said() -> None:
    bare = replace(
        with_run(um_per_px=None, volume_imaged_ml=None, started_at=None, started_at_local="2021-04-20 11:13"),
        total=None, model=None, sample=None, esd_um=np.empty(0), scores=np.empty(0), failures=[], version="",
        classes=[ClassRow("Acartia", "Acartia", 104108, 3, 0)], class_vignettes={"Acartia": vignettes(1)},
    )  # fmt: skip
    html = render_run_report(bare)
    words = Page(html).words()
    assert "imaged volume is unknown, so no abundance can be given" in words and "per mL" not in words
    assert "No model has predicted" in words and "No sizes in µm" in words and "time zone unknown" in words
    assert "scale bar of 100 px" in html or "scale bar of 50 px" in html


def test_an_empty_run_is_a_page_too() -> None:
    empty = report(
        particles=0, vignettes=0, masks=0, failures=[], classes=[], total=Density(0, 0, 7.378), esd_um=np.empty(0),
        scores=np.empty(0), class_vignettes={},
    )  # fmt: skip
    assert "recorded 0 particles." in Page(render_run_report(empty)).words()


def test_vignettes_may_be_loaded_class_by_class() -> None:
    asked: list[str] = []

    def load(class_id: str) -> Sequence[tuple[int, ImageArray, float]]:
        asked.append(class_id)
        return vignettes(2)

    page = Page(render_run_report(report(class_vignettes=load)))
    assert asked == ["Bubbles", "Acartia"] and len(page.all("img")) == 2
    assert (page.all("img")[0]["alt"] or "").startswith(
        "2 pictures of particles predicted as Bubbles, with a scale bar of "
    )


def test_long_lists_of_failures_are_cut_and_say_so() -> None:
    words = Page(render_run_report(report(failures=[(k, f"bad {k}") for k in range(1000)]))).words()
    assert "bad 199" in words and "bad 200" not in words and "the first 200 are shown" in words


def test_the_same_report_gives_the_same_page() -> None:
    assert render_run_report(report()) == render_run_report(report())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1,230"),
        (999.6, "1,000"),
        (12, "12.0"),
        (0.04567, "0.0457"),
        (1.5e-9, "1.50e-09"),
        (float("nan"), "unknown"),
    ],
)
def test_numbers_as_people_read_them(value: float, text: str) -> None:
    assert number(value) == text


def test_every_flag_of_the_readers_has_its_meaning() -> None:
    """The codes are collected from the source of readers and formats, so that a new flag cannot be forgotten here."""
    source = Path(plankter.__file__).parent
    codes = set()
    for path in [*source.glob("readers/*.py"), *source.glob("formats/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "Flag"
                and isinstance(node.args[0], ast.Constant)
            ):
                codes.add(node.args[0].value)
    of_folders = {"no-run", "no-list", "several-readers", "zip-refused", "left-out"}  # never a run's own
    assert len(codes) > 20 and codes - of_folders <= set(_MEANINGS)
    assert meaning(Flag("never-seen", "x", Severity.ERROR)).startswith("Do not use")
