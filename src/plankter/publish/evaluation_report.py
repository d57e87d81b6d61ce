"""An evaluation as a page that a taxonomist can read: what each number means, where to look, pictures of the errors."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import cv2
import numpy as np

from plankter.publish.evaluation_figures import confusion_svg, coverage_svg, curve_svg, reliability_svg, size_svg
from plankter.publish.evaluation_words import FIGURE_WORDS, SIZE_WORDS, in_short, p_value, percent, score, signed
from plankter.publish.run_report import _environment, _svg
from plankter.types import ImageArray

THUMBNAIL_PX = 104
LARGEST_ZOOM = 2.0
JPEG_QUALITY = 82
MAX_FAILURES = 200
MAX_GROUPS = 200
DUELS_SHOWN = 12
ReadPicture = Callable[[str], ImageArray | None]


def render_evaluation_report(numbers: Mapping[str, Any], picture: ReadPicture) -> str:
    """The report as one HTML page that loads nothing from elsewhere.

    Every text of the data is escaped. Without scripts all of it can be read; the one script there is, whose hash the page
    names in its policy, sorts the table of classes.

    Args:
        numbers: the object that `plankter evaluate --report` writes as JSON; docs/evaluation.md describes it.
        picture: name of an image's file -> its pixels, None where there are none.
    """
    script = files("plankter.publish").joinpath("templates/sort_table.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pictures = _Thumbnails(picture)
    environment = _environment()
    environment.filters |= {"percent": percent, "score": score, "signed": signed, "p_value": p_value}
    names = {entry["class_id"]: entry["name"] for entry in numbers["per_class"]}
    return environment.get_template("evaluation_report.html.j2").render(
        n=numbers,
        names=names,
        script=_svg(script),
        script_hash=digest,
        summary=in_short(numbers),
        figures=[(word, *_figure(numbers, key), meaning) for key, word, meaning in FIGURE_WORDS],
        reliability=_svg(reliability_svg(numbers["reliability"], description=_reliability_words(numbers))),
        coverage=_svg(coverage_svg(numbers["coverage"], description="Share right of the images kept; see the table.")),
        coverage_rows=[p for p in numbers["coverage"] if p["threshold"] in (0.0, 0.5, 0.75, 0.9, 0.95, 0.99)],
        classes=[_class(entry) for entry in numbers["per_class"] if entry["support"] or entry["predicted"]],
        sizes=[(name, SIZE_WORDS[name], rows) for name, rows in numbers["class_size"].items()],
        size_picture=_size_picture(numbers),
        matrices=_matrices(numbers),
        pairs=[{**pair, "rows": _pair_rows(pair, names, pictures)} for pair in numbers["pairs"]],
        errors=[{**error, "picture": pictures(error["file"])} for error in numbers["worst_errors"]],
        groups=[(column, rows[:MAX_GROUPS], len(rows)) for column, rows in numbers["groups"].items()],
        duels=_duels(numbers["comparison"]),
        failures=numbers["failures"][:MAX_FAILURES],
    )  # fmt: skip


class _Thumbnails:
    """Pictures small enough that hundreds fit in a page; each file is read once."""

    def __init__(self, picture: ReadPicture) -> None:
        self._picture = picture
        self._made: dict[str, tuple[str, int, int] | None] = {}

    def __call__(self, name: str) -> tuple[str, int, int] | None:
        """Data URI, width and height; None where there is no picture."""
        if name not in self._made:
            image = self._picture(name)
            self._made[name] = None if image is None or image.size == 0 else thumbnail(image)
        return self._made[name]


def thumbnail(image: ImageArray, longest_px: int = THUMBNAIL_PX) -> tuple[str, int, int]:
    """A vignette as a small JPEG: its longest side ``longest_px``, but enlarged at most `LARGEST_ZOOM` times."""
    zoom = min(LARGEST_ZOOM, longest_px / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    encoded = cv2.imencode(".jpg", np.asarray(small, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii"), *size


def _figure(numbers: Mapping[str, Any], key: str) -> tuple[bool, Any, Any]:
    """Whether it is a share, the figure, and the one under the other class mix."""
    other = (numbers["reweighted"] or {}).get("figures", {}).get(key)
    return key != "log_loss", numbers["figures"][key], other


def _reliability_words(numbers: Mapping[str, Any]) -> str:
    ece = numbers["figures"]["ece"]["value"]
    return f"Share right against the score promised, in 15 steps; on average they lie {100 * ece:.1f} points apart."


def _class(entry: Mapping[str, Any]) -> dict[str, Any]:
    cut = entry["cut_offs"]["0.9"]
    words = f"Precision and recall of {entry['name']} against the lowest score asked for."
    shown = {name: values for name, values in entry["curve"].items() if name in ("thresholds", "precision", "recall")}
    picture = curve_svg(shown, None if cut is None else cut["score"], description=words)
    return {**entry, "curve_svg": _svg(picture), "cut": cut}


def _size_picture(numbers: Mapping[str, Any]) -> Any:
    training = any(entry["training_images"] for entry in numbers["per_class"])
    size, label = ("training_images", "training images") if training else ("support", "images of this evaluation")
    words = f"F1 of each class against its {label}; the table of classes holds the numbers."
    return _svg(size_svg(numbers["per_class"], size, x_label=label, description=words))


def _matrices(numbers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Name and picture of each view of the confusion matrix; classes with no image and no prediction are left out."""
    per_class = numbers["per_class"]
    kept = [k for k, entry in enumerate(per_class) if entry["support"] or entry["predicted"]]
    place = {k: position for position, k in enumerate(kept)}
    ids, support = [per_class[k]["class_id"] for k in kept], [per_class[k]["support"] for k in kept]

    def moved(cells: Sequence[Sequence[int]]) -> list[list[int]]:
        return [[place[t], place[g], images] for t, g, images in cells]

    cells = moved(numbers["confusion"]["cells"])
    words = "Confusion matrix, true classes by row, given classes by column; {}."
    found = [
        ("Share of the true class", confusion_svg(
            ids, cells, support, counts=False, description=words.format("shaded by the share of the true class"))),
        ("Images", confusion_svg(ids, cells, support, counts=True, description=words.format("shaded by images"))),
    ]  # fmt: skip
    for view in numbers["thresholded"]:
        if view["threshold"] > 0:
            about = words.format(f"only images of a score of {view['threshold']:g} or more")
            below = [view["below"][k] for k in kept]
            svg = confusion_svg(ids, moved(view["cells"]), support, counts=False, below=below, description=about)
            found.append((f"Score at least {view['threshold']:g}", svg))
    return [(name, _svg(svg)) for name, svg in found]


def _pair_rows(pair: Mapping[str, Any], names: Mapping[str, str], pictures: _Thumbnails) -> list[tuple[str, list[Any]]]:
    first, second = names[pair["first"]], names[pair["second"]]
    words = (
        ("first_right", f"{first}, recognised"),
        ("first_as_second", f"{first}, taken for {second}"),
        ("second_as_first", f"{second}, taken for {first}"),
        ("second_right", f"{second}, recognised"),
    )
    rows = []
    for key, text in words:
        shown = [(name, pictures(name)) for name in pair["pictures"][key]]
        shown = [(name, made) for name, made in shown if made is not None]
        if shown:
            rows.append((text, shown))
    return rows


def _duels(comparison: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Classes that one of two models does better: the largest gaps of F1, and whether chance may explain them."""
    if comparison is None:
        return {"won": [], "lost": []}
    by_gap = sorted(comparison["per_class"], key=lambda d: d["second_f1"] - d["first_f1"])
    won = [d for d in by_gap if d["first_f1"] > d["second_f1"]]
    lost = [d for d in reversed(by_gap) if d["first_f1"] < d["second_f1"]]
    return {
        "won": won[:DUELS_SHOWN], "lost": lost[:DUELS_SHOWN], "won_all": won, "lost_all": lost,
    }  # fmt: skip
