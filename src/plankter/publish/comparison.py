"""Models beside each other: a table, and a picture of accuracy against speed and size."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plankter.publish.figures import BAR, INK, draw_svg, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
        for row, x, y in zip(shown, speed, good, strict=True):
            text = f"{printable(str(row['name']))} ({float(row['parameters']) / 1e6:.1f} M)"
            axes.annotate(text, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9, color=INK)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    return draw_svg("comparison", plot, (7.6, 4.2), f"Models by speed and accuracy. {words}")
