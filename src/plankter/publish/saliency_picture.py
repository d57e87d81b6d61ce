"""Where a model looks: the vignette beside the same with a heat map over it, and what its colours mean."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from plankter.publish.figures import DRAWING
from plankter.types import ImageArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = 4.2  # longest side of one picture
_FLATTEST = 0.28
_SMALLEST_FALL = 0.005  # colours of a map that is flat up to this stay pale
FALL = "fall of the score when covered\n(below 0: it rises)"


def saliency_png(
    vignette: ImageArray,
    fall: npt.NDArray[np.floating],
    *,
    title: str,
    best: Sequence[tuple[str, float]],
    um_per_px: float | None = None,
    unit: str = FALL,
) -> bytes:
    """A PNG: the vignette, the map over it with its scale, and the best classes with their scores.

    Args:
        vignette: uint8 (h, w) grey.
        fall: (h, w) fall of the score where a place is covered; below 0 where it rises.
        title: class and score that the map is about.
        best: name and score of the best classes, best first.
        um_per_px: for the scale bar; px where it is None.
        unit: what the numbers of the map are, beside its scale.

    Raises:
        ValueError: a map of another size than the vignette.
    """
    from matplotlib.figure import Figure

    if vignette.shape[:2] != fall.shape:
        raise ValueError(f"the map {fall.shape} does not fit the vignette {vignette.shape[:2]}")
    height, width = fall.shape
    across = _INCHES * min(1.0, max(_FLATTEST, width / height))
    up = _INCHES * min(1.0, max(_FLATTEST, height / width))
    out, fonts = io.BytesIO(), logging.getLogger("matplotlib.font_manager")
    with DRAWING, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        level = fonts.level
        fonts.setLevel(logging.ERROR)
        try:
            figure = Figure(figsize=(2 * across + 3.4, up + 1.0), layout="constrained", dpi=130)
            left, middle, right = figure.subplots(1, 3, width_ratios=(across, across * 1.25, 2.2))
            _vignette(left, vignette, um_per_px)
            _map(figure, middle, vignette, fall, unit)
            _scores(right, best)
            figure.suptitle(title, fontsize=11, parse_math=False)
            figure.savefig(out, format="png", metadata={"Software": None})
        finally:
            fonts.setLevel(level)
    return out.getvalue()


def _vignette(axes: Axes, vignette: ImageArray, um_per_px: float | None) -> None:
    from plankter.publish.contact_sheets import nice_length

    axes.imshow(vignette, cmap="gray", vmin=0, vmax=255)
    width = vignette.shape[1]
    unit_px, unit = (1.0, "px") if um_per_px is None else (1 / um_per_px, "µm")
    length = nice_length(max(width / unit_px / 2, 1e-6))
    axes.plot([0, length * unit_px], [1.03, 1.03], transform=axes.get_xaxis_transform(), color="black", linewidth=3,
              clip_on=False, solid_capstyle="butt")  # fmt: skip
    axes.text(0, 1.05, f"{length:g} {unit}", transform=axes.get_xaxis_transform(), fontsize=9)
    axes.set_axis_off()


def _map(figure: Figure, axes: Axes, vignette: ImageArray, fall: npt.NDArray[np.floating], unit: str) -> None:
    limit = max(float(np.abs(fall).max()), _SMALLEST_FALL)
    axes.imshow(vignette, cmap="gray", vmin=0, vmax=255)
    strength = np.clip(np.abs(fall) / limit, 0, 1)
    # purple and orange keep apart for every kind of colour vision; pale places let the vignette through
    shown = axes.imshow(fall, cmap="PuOr_r", vmin=-limit, vmax=limit, alpha=0.15 + 0.6 * strength)
    axes.set_axis_off()
    bar = figure.colorbar(shown, ax=axes, shrink=0.9)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _scores(axes: Axes, best: Sequence[tuple[str, float]]) -> None:
    places = np.arange(len(best))
    axes.barh(places, [score for _, score in best], height=0.4, color="#1f7a99")
    for place, (name, score) in zip(places, best, strict=True):
        short = name if len(name) <= 30 else f"{name[:29]}…"
        axes.text(0, place - 0.27, f"{short}  {score:.2f}", fontsize=9, parse_math=False, va="bottom")
    axes.set_xlim(0, 1)
    axes.set_ylim(max(len(best), 1) - 0.4, -0.8)
    axes.set_axis_off()
