"""Pictures of an evaluation: reliability and coverage by matplotlib; matrix, curves and sizes as small hand-made SVG,
so that each cell and point says its class when the pointer rests on it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plankter.publish.figures import BAR, BAR_2, INK, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST_LABEL = 34
_MATRIX_PX = 1060
_CELL_PX = (3.0, 26.0)  # smallest and largest side of a cell
_NUMBERS_FROM_PX = 20.0  # cells of this size hold their number
LEVELS = 8  # shades of a cell, as classes of the page's style sheet


def reliability_svg(bins: Sequence[Mapping[str, Any]], *, description: str) -> str:
    """Share right against mean score, bin by bin, on the line where both are the same; below it the images of each bin.

    Args:
        bins: entries with low, high, images, mean_score and right; the last two None where a bin is empty.
        description: the picture in words.
    """
    there = [b for b in bins if b["images"]]

    def plot(axes: Axes) -> None:
        most = max((b["images"] for b in there), default=1)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        for b in there:
            axes.bar(
                b["low"], 0.18 * b["images"] / most, width=(b["high"] - b["low"]) * 0.92, align="edge", bottom=-0.22,
                color=BAR_2, linewidth=0,
            )  # fmt: skip
        axes.plot(
            [b["mean_score"] for b in there], [b["right"] for b in there], color=BAR, linewidth=1.6, marker="o",
            markersize=5,
        )  # fmt: skip
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set_xlim(0, 1.01)
        axes.set_ylim(-0.23, 1.03)
        axes.set_yticks(np.linspace(0, 1, 6), [f"{k:.1f}" for k in np.linspace(0, 1, 6)])
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.text(0.5, 0.46, "promised = kept", fontsize=9, rotation=33, rotation_mode="anchor", va="top")
        axes.text(0.01, -0.05, "images in each bin", fontsize=9, va="top")
        axes.set_xlabel("score of the best class (what the model promises)")
        axes.set_ylabel("share right (what it keeps)")

    return draw_svg("reliability", plot, (5.6, 4.6), description)


def coverage_svg(points: Sequence[Mapping[str, Any]], *, description: str) -> str:
    """Share right of the images kept against the share kept, for rising thresholds; some thresholds are named."""
    there = [p for p in points if p["precision"] is not None and p["coverage"] > 0]
    macro = [p for p in there if p["macro_precision"] is not None]  # None where only classes without images are given

    def plot(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        x, y = [100 * p["coverage"] for p in there], [100 * p["precision"] for p in there]
        axes.plot(x, y, color=BAR, linewidth=1.8, label="images")
        axes.plot(
            [100 * p["coverage"] for p in macro], [100 * p["macro_precision"] for p in macro], color=BAR_2,
            linewidth=1.4, linestyle=(0, (5, 2)), label="mean of the classes",
        )  # fmt: skip
        for p in there:
            if p["threshold"] in (0.5, 0.75, 0.9, 0.95, 0.99):
                axes.plot([100 * p["coverage"]], [100 * p["precision"]], color=BAR, marker="o", markersize=5)
                axes.annotate(
                    f"{p['threshold']:g}", (100 * p["coverage"], 100 * p["precision"]), xytext=(5, 5),
                    textcoords="offset points", fontsize=9,
                )  # fmt: skip
        low = min([*y, *(100 * p["macro_precision"] for p in macro), 99.0])
        axes.set_xlim(0, 101)
        axes.set_ylim(max(0, math.floor(low / 5) * 5), 100.9)
        axes.set_xlabel("images that keep a class, %")
        axes.set_ylabel("right among them, %")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=6))
        axes.legend(frameon=False, fontsize=9, loc="lower left")

    return draw_svg("coverage", plot, (5.6, 4.6), description)


def confusion_svg(
    class_ids: Sequence[str],
    cells: Sequence[Sequence[int]],
    support: Sequence[int],
    *,
    counts: bool,
    below: Sequence[int] | None = None,
    description: str,
) -> str:
    """The confusion matrix, true class by row; right answers in one colour, errors in another, the darker the more.

    Args:
        class_ids: rows and columns.
        cells: [true, given, images] that are not 0.
        support: images of each true class.
        counts: shade by images; otherwise by the share of the true class.
        below: for a threshold: images of each class whose score is below it, as a last column.
        description: the picture in words.
    """
    n = len(class_ids)
    columns = n + (below is not None)
    side = min(_CELL_PX[1], max(_CELL_PX[0], _MATRIX_PX / max(columns, 1)))
    font = min(12.0, max(2.6, side * 0.86))
    labels = [_short(c) for c in class_ids] + (["below the threshold"] if below is not None else [])
    margin = 8 + 0.56 * font * max((len(label) for label in labels), default=1)
    width, height = margin + columns * side + 4, margin + n * side + 4
    most = max((int(c[2]) for c in cells), default=1)
    all_cells = [(t, g, k) for t, g, k in cells] + [(t, n, k) for t, k in enumerate(below or ()) if k]
    parts = [_matrix_labels(labels, n, margin, side, font), _grid(n, columns, margin, side)]
    for true, given, images in all_cells:
        share = images / max(support[true], 1)
        shade = min(LEVELS, max(1, math.ceil(LEVELS * math.sqrt(images / most if counts else share))))
        kind = "b" if given == n else "r" if given == true else "w"
        x, y = margin + given * side, margin + true * side
        said = "below the threshold" if given == n else f"given {class_ids[given]}"
        title = f"true {class_ids[true]}, {said}: {images} of {support[true]} ({share:.0%})"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" class="{kind}{shade}">'
            f"<title>{html.escape(title)}</title></rect>"
        )
        if side >= _NUMBERS_FROM_PX:
            shown = str(images) if counts else f"{100 * share:.0f}"
            parts.append(
                f'<text x="{x + side / 2:.1f}" y="{y + side * 0.68:.1f}" text-anchor="middle" class="in">{shown}</text>'
            )
    return _page(width, height, "".join(parts), description, "matrix", font)


def _matrix_labels(labels: Sequence[str], rows: int, margin: float, side: float, font: float) -> str:
    found = []
    for k, label in enumerate(labels):
        middle = margin + (k + 0.5) * side
        text = html.escape(label)
        if k < rows:
            found.append(f'<text x="{margin - 4:.1f}" y="{middle + font * 0.34:.1f}" text-anchor="end">{text}</text>')
        found.append(
            f'<text transform="translate({middle + font * 0.34:.1f} {margin - 4:.1f}) rotate(-90)">{text}</text>'
        )
    return "".join(found)


def _grid(rows: int, columns: int, margin: float, side: float) -> str:
    """A thin line every five classes leads the eye from the name to the cell."""
    lines = []
    for k in range(0, rows + 1, 5):
        at = margin + k * side
        lines.append(f"M{margin:.1f} {at:.1f}h{columns * side:.1f}")
    for k in range(0, columns + 1, 5):
        at = margin + k * side
        lines.append(f"M{at:.1f} {margin:.1f}v{rows * side:.1f}")
    return f'<path class="grid" d="{"".join(lines)}"/>'


def curve_svg(curve: Mapping[str, Sequence[float | None]], cut_off: float | None, *, description: str) -> str:
    """Precision (full line) and recall (dashed) of one class against the lowest score asked for; a mark at the cut-off."""
    width, height = 170.0, 92.0
    parts = [f'<path class="grid" d="M20 6h{width - 26}M20 43h{width - 26}M20 80h{width - 26}"/>']
    parts += ['<text x="16" y="10" text-anchor="end">1</text><text x="16" y="83" text-anchor="end">0</text>']
    for name in ("recall", "precision"):
        points = [
            f"{20 + t * (width - 26):.1f},{80 - v * 74:.1f}"
            for t, v in zip(curve["thresholds"], curve[name], strict=True)
            if t is not None and v is not None
        ]
        parts.append(f'<polyline class="{name}" points="{" ".join(points)}"/>')
    if cut_off is not None:
        parts.append(f'<path class="cut" d="M{20 + cut_off * (width - 26):.1f} 6v74"/>')
    parts.append(f'<text x="20" y="91">0</text><text x="{width - 6}" y="91" text-anchor="end">score 1</text>')
    return _page(width, height, "".join(parts), description, "curve", 8)


def size_svg(classes: Sequence[Mapping[str, Any]], size: str, *, x_label: str, description: str) -> str:
    """F1 of each class against its images on a logarithmic axis; a point says its class when the pointer rests on it."""
    width, height, left, bottom = 640.0, 300.0, 44.0, 40.0
    shown = [c for c in classes if c["f1"] is not None and c[size]]
    low = math.log10(min((c[size] for c in shown), default=1) / 1.2)
    high = max(math.log10(max((c[size] for c in shown), default=10) * 1.2), low + 0.3)

    def x_of(n: float) -> float:
        return left + (math.log10(n) - low) / (high - low) * (width - left - 10)

    def y_of(f1: float) -> float:
        return 10 + (1 - f1) * (height - bottom - 10)

    parts = []
    for step in range(6):
        y = y_of(step / 5)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - 10}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{step / 5:.1f}</text>')
    for decade in range(math.floor(low), math.ceil(high) + 1):
        for n in (10.0**decade, 2 * 10.0**decade, 5 * 10.0**decade):
            if low <= math.log10(n) <= high:
                parts.append(f'<text x="{x_of(n):.1f}" y="{height - 24}" text-anchor="middle">{n:,.0f}</text>')
    for c in shown:
        title = f"{c['name']}: F1 {c['f1']:.2f}, {c[size]:,} {x_label}"
        at = f'cx="{x_of(c[size]):.1f}" cy="{y_of(c["f1"]):.1f}"'
        parts.append(f'<circle {at} r="4.5" class="point"><title>{html.escape(title)}</title></circle>')
    for c, x, y in _labels(shown, size, x_of, y_of):
        end = ' text-anchor="end"' if x > width * 0.6 else ""
        gap = -8 if end else 8
        parts.append(f'<text x="{x + gap:.1f}" y="{y + 4:.1f}"{end}>{html.escape(_short(c["name"]))}</text>')
    parts.append(
        f'<text x="{(left + width) / 2:.0f}" y="{height - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    parts.append(f'<text transform="translate(12 {height / 2:.0f}) rotate(-90)" text-anchor="middle">F1</text>')
    return _page(width, height, "".join(parts), description, "sizes", 11)


def _labels(
    shown: Sequence[Mapping[str, Any]], size: str, x_of: Any, y_of: Any, most: int = 8
) -> list[tuple[Mapping[str, Any], float, float]]:
    """The classes of lowest F1, left out where their names would lie on each other."""
    found: list[tuple[Mapping[str, Any], float, float]] = []
    for c in sorted(shown, key=lambda c: c["f1"])[:most]:
        x, y = x_of(c[size]), y_of(c["f1"])
        if all(abs(y - other) > 12 for _, _, other in found):
            found.append((c, x, y))
    return found


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _page(width: float, height: float, inner: str, description: str, kind: str, font: float) -> str:
    label = html.escape(description, quote=True)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" class="{kind}" role="img" '
        f'aria-label="{label}" font-size="{font:.1f}">{inner}</svg>'
    )
