"""Models beside each other: a table, and a picture of accuracy against speed and size."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plankter.publish.figures import BAR, INK, draw_svg, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT, POINTS = 9, 72
WIDTH_OF_LETTER = 0.56  # of the font's height, on average
DOT = 6
COLUMNS = (
    "name", "mode", "top1", "macro_f1", "balanced_accuracy", "log_loss", "parameters", "size_mb", "images_per_s",
    "memory_mb", "train_s", "images", "model", "failure",
)  # fmt: skip


def comparison_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row a candidate, in the order of `COLUMNS`; UTF-8 with mark, so that Excel opens it as it is."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if row.get(name) is None else row[name] for name in COLUMNS])
    return "\ufeff" + out.getvalue()


def label_offsets(dots: Sequence[tuple[float, float]], texts: Sequence[str]) -> list[tuple[float, float]]:
    """Where the text of each dot begins beside it, so that texts cover neither each other nor a dot; all in points.

    The first free place of those right of the dot, below, above and left of it; a text's width is estimated.
    """
    taken = [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in dots]
    found: list[tuple[float, float]] = []
    for (x, y), text in zip(dots, texts, strict=True):
        width = len(text) * FONT * WIDTH_OF_LETTER
        tried: list[tuple[float, float]] = [(DOT + 2, step) for step in (4, -6, 12, -14, -24, 20, -34)]
        tried += [(-width / 2, -DOT - 8), (-width / 2, DOT + 8)]
        tried += [(-DOT - 2 - width, step) for step in (4, -6, 12, -14, -24, 20, -34)]
        boxes = [(x + dx, y + dy - FONT / 2, x + dx + width, y + dy + FONT / 2) for dx, dy in tried]
        free = [k for k, box in enumerate(boxes) if box[0] >= 0 and not any(_overlap(box, other) for other in taken)]
        k = free[0] if free else 0
        taken.append(boxes[k])
        found.append(tried[k])
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ticks(axes: Axes, low: float, high: float) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, as plain numbers; the powers alone where that would be many."""
    tens = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    steps = (1, 2, 5) if high / low < 100 else (1,)
    places = [ten * step for ten in tens for step in steps if low <= ten * step <= high]
    axes.set_xticks(places, [f"{place:,.0f}" if place >= 1 else f"{place:g}" for place in places])
    axes.set_xticks([], minor=True)


def comparison_svg(rows: Sequence[Mapping[str, Any]], *, metric: str = "macro_f1", label: str = "macro F1") -> str:
    """Candidates by speed (across) and accuracy (up), the area of a dot by the number of parameters.

    Args:
        rows: as for `comparison_csv`; those that failed are left out.
        metric: what goes up.
        label: what it is called.
    """
    shown = [row for row in rows if not row.get("failure") and row.get("images_per_s") and row.get(metric) is not None]
    words = "; ".join(f"{row['name']}: {label} {row[metric]:.3f}, {row['images_per_s']:.0f} images/s" for row in shown)

    def plot(axes: Axes) -> None:
        axes.set_xlabel("images per second on this computer")
        axes.set_ylabel(f"{label} on the judging part")
        if not shown:
            return
        speed = [float(row["images_per_s"]) for row in shown]
        good = [float(row[metric]) for row in shown]
        area = [30 + 40 * max(0.0, float(row["parameters"]) / 1e6) for row in shown]
        axes.set_xscale("log")
        axes.scatter(speed, good, s=area, color=BAR, alpha=0.75, linewidths=0)
        axes.set_xlim(min(speed) / 1.6, max(speed) * 2.6)
        space = max(max(good) - min(good), 0.02)
        axes.set_ylim(min(good) - space * 0.15, max(good) + space * 0.2)
        _ticks(axes, min(speed) / 1.6, max(speed) * 2.6)
        texts = [f"{printable(str(row['name']))} ({float(row['parameters']) / 1e6:.1f} M)" for row in shown]
        dots = [
            tuple(place)
            for place in axes.transData.transform(np.column_stack([speed, good])) * POINTS / axes.figure.dpi
        ]
        for text, x, y, offset in zip(texts, speed, good, label_offsets(dots, texts), strict=True):
            axes.annotate(
                text, (x, y), xytext=offset, textcoords="offset points", fontsize=FONT, color=INK, va="center"
            )

    return draw_svg("comparison", plot, (7.6, 4.2), f"Models by speed and accuracy. {words}")
