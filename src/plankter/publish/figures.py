"""Pictures of numbers, as SVG text: the same input gives the same bytes, and ink follows the colour of the page."""

from __future__ import annotations

import html
import io
import logging
import re
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# written by matplotlib, replaced by what an embedding page sets; alone in a viewer they fall back
INK, BAR, BAR_2 = "#010203", "#040506", "#070809"
_COLOURS = {INK: "currentColor", BAR: "var(--bar, #1f7a99)", BAR_2: "var(--bar-2, #c26a1a)"}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "path.simplify": False,
}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")
_MAX_NAME = 48
DRAWING = threading.Lock()  # matplotlib's settings are one for the whole process


def size_spectrum_svg(edges_um: npt.ArrayLike, values: npt.ArrayLike, *, y_label: str, description: str) -> str:
    """Bars over classes of size, both axes logarithmic.

    Args:
        edges_um: (n + 1,) rising borders of the size classes, um, above 0.
        values: (n,) particles, or particles per mL, in each class; those of 0 have no bar.
        y_label: what ``values`` are, with the unit.
        description: the picture in words, for those who do not see it.
    """
    edges, heights = np.asarray(edges_um, np.float64), np.asarray(values, np.float64)

    def plot(axes: Axes) -> None:
        shown = np.isfinite(heights) & (heights > 0)
        axes.set_xscale("log")
        if shown.any():
            axes.set_yscale("log")
            floor = heights[shown].min() / 3
            axes.bar(
                edges[:-1][shown], heights[shown] - floor, width=np.diff(edges)[shown], bottom=floor, align="edge",
                color=BAR, edgecolor="none", linewidth=0,
            )  # fmt: skip
            axes.set_ylim(floor, heights[shown].max() * 2)
            axes.set_xlim(edges[:-1][shown][0] / 1.15, edges[1:][shown][-1] * 1.15)
            _plain_ticks(axes.xaxis, axes.get_xlim())
            _plain_ticks(axes.yaxis, axes.get_ylim())
        axes.set_xlabel("equivalent spherical diameter (µm)")
        axes.set_ylabel(y_label)

    return draw_svg("spectrum", plot, (7.2, 3.4), description)


def class_counts_svg(
    counts: Mapping[str, int], *, description: str, top: int = 20, x_label: str = "particles predicted"
) -> str:
    """Horizontal bars of the most frequent classes, the rest summed in a last bar.

    Args:
        counts: name of the class -> particles; classes without particles are left out.
        description: the picture in words.
        top: classes shown by name.
        x_label: what is counted.
    """
    ranked = sorted(((n, name) for name, n in counts.items() if n > 0), key=lambda pair: (-pair[0], pair[1]))
    bars = [(printable(name), n) for n, name in ranked[:top]]
    rest = ranked[top:]
    if rest:
        bars.append((f"{len(rest)} other classes", sum(n for n, _ in rest)))

    def plot(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        places = np.arange(len(bars))
        colours = [BAR_2 if rest and k == len(bars) - 1 else BAR for k in places]
        axes.barh(places, [n for _, n in bars], height=0.72, color=colours, linewidth=0)
        axes.set_yticks(places, [name for name, _ in bars])
        axes.set_ylim(len(bars) - 0.4 if bars else 0.6, -0.6)
        most = max((n for _, n in bars), default=1)
        axes.set_xlim(0, most * 1.12)
        for place, (_, n) in zip(places, bars, strict=True):
            axes.text(n + most * 0.01, float(place), f"{n:,}", va="center", fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=8))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(x_label)

    return draw_svg("classes", plot, (7.2, 0.9 + 0.27 * max(len(bars), 1)), description)


def score_histogram_svg(scores: npt.ArrayLike, *, description: str) -> str:
    """How sure a model is of its best class: particles by score, in twenty steps from 0 to 1."""
    values = np.asarray(scores, np.float64)
    counts, edges = np.histogram(values[np.isfinite(values)], bins=20, range=(0, 1))

    def plot(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.bar(edges[:-1], counts, width=0.046, align="edge", color=BAR, linewidth=0)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, max(int(counts.max()), 1) * 1.08)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("score of the best class")
        axes.set_ylabel("particles")

    return draw_svg("scores", plot, (7.2, 2.6), description)


def printable(name: str) -> str:
    """A name fit for a picture: without control characters, shortened where it is too long."""
    text = _UNPRINTABLE.sub(" ", name).strip() or "?"
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 1]}…"


def _plain_ticks(axis: Any, limits: tuple[float, float]) -> None:
    """Numbers as people write them, at 1, 2 and 5 of each decade where that leaves few enough."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    low, high = limits
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    ticks = [step * 10.0**d for d in decades for step in steps if low <= step * 10.0**d <= high]
    while len(ticks) > 9:
        ticks = ticks[::2]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:.3g}")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def draw_svg(kind: str, plot: Callable[[Axes], None], size_inch: tuple[float, float], description: str) -> str:
    """The picture that ``plot`` draws, as SVG with ``description`` for screen readers; the same bytes for the same data."""
    # imported late and from its own modules: pyplot would keep state and look for a display
    import matplotlib as mpl
    from matplotlib.figure import Figure

    out = io.StringIO()
    fonts = logging.getLogger("matplotlib.font_manager")
    with DRAWING, mpl.rc_context({**_STYLE, "svg.hashsalt": f"plankter-{kind}"}), warnings.catch_warnings():
        # a name in another script is drawn by the browser's fonts, not by ours
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        level = fonts.level
        fonts.setLevel(logging.ERROR)
        try:
            figure = Figure(figsize=size_inch, layout="constrained")
            axes = figure.add_subplot()
            plot(axes)
            figure.savefig(
                out, format="svg", transparent=True,
                metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
            )  # fmt: skip
        finally:
            fonts.setLevel(level)
    return _embeddable(out.getvalue(), description)


def _embeddable(svg: str, description: str) -> str:
    """Without prolog and ids that nothing refers to (several pictures stand in one page), with a description."""
    svg = svg[svg.index("<svg") :]
    used: Sequence[str] = re.findall(r'(?:href="|url\()#([^")]+)', svg)
    svg = re.sub(r' id="([^"]*)"', lambda found: found.group(0) if found.group(1) in set(used) else "", svg)
    svg = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    for written, meant in _COLOURS.items():
        svg = svg.replace(written, meant)
    label = html.escape(_UNPRINTABLE.sub(" ", description), quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="max-width: 100%; height: auto"', 1)
