"""Many vignettes on one picture: of one class at one scale, with a scale bar; or before and after a change."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from plankter.types import ImageArray

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

WIDTH_PX = 960
_NARROWEST_PX = 320  # holds the longest scale bar with its label
_GAP_PX = 6
_TALLEST_PX = 220  # of a vignette on the sheet
_MAX_ZOOM = 2.0
_PAPER = 238
_FOOT_PX = 34
_FONT_PX = 16
_CELL_PX = 150  # of a pair before and after
_PAIR_ZOOM = 4.0
_COLUMNS = 6
_CAPTION_PX = 26


@dataclass(frozen=True)
class ContactSheet:
    """A picture as data URI, what it shows, and the length that its scale bar stands for."""

    data_uri: str
    width: int
    height: int
    indices: tuple[int, ...]
    scale_bar: str  # "50 µm" or "50 px"


def spread(scores: npt.ArrayLike, n: int) -> list[int]:
    """At most ``n`` positions, highest score first, evenly over the ranks: the surest, the least sure, and between.

    Args:
        scores: (m,) scores; NaN last; equal ones in their own order.
        n: how many at most.
    """
    values = np.asarray(scores, np.float64)
    ranked = np.argsort(-values, kind="stable")
    if len(ranked) <= n:
        return [int(k) for k in ranked]
    if n <= 0:
        return []
    return [int(ranked[round(k)]) for k in np.linspace(0, len(ranked) - 1, n)] if n > 1 else [int(ranked[0])]


def contact_sheet(
    vignettes: Sequence[tuple[int, ImageArray, float]], um_per_px: float | None, *, n: int = 24
) -> ContactSheet | None:
    """Lays vignettes out in rows, the surest first, chosen by `spread`.

    Args:
        vignettes: index, pixels (uint8 (h, w) grey or (h, w, 3) BGR) and score of each.
        um_per_px: scale of the pixels; the bar is in px of the instrument's image where it is None.
        n: vignettes shown at most.

    Returns:
        The sheet (a JPEG, at most `WIDTH_PX` wide; in colour where a vignette is), None where there is nothing to show.
    """
    usable = [entry for entry in vignettes if entry[1].size]
    chosen = [usable[k] for k in spread([score for _, _, score in usable], n)]
    if not chosen:
        return None
    tallest = max(image.shape[0] for _, image, _ in chosen)
    widest = max(image.shape[1] for _, image, _ in chosen)
    zoom = min(_MAX_ZOOM, _TALLEST_PX / tallest, (WIDTH_PX - 2 * _GAP_PX) / widest)
    resized = [_resize(image, zoom) for _, image, _ in chosen]
    places, width, height = _rows([(image.shape[1], image.shape[0]) for image in resized])
    colour = any(image.ndim == 3 for image in resized)
    sheet = np.full((height + _FOOT_PX, width, 3) if colour else (height + _FOOT_PX, width), _PAPER, np.uint8)
    for image, (x, y) in zip(resized, places, strict=True):
        if colour and image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, axis=2)
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    unit_px, unit = (zoom, "px") if um_per_px is None else (zoom / um_per_px, "µm")
    length = nice_length(160 / unit_px)
    label = f"{length:g} {unit}"
    sheet = _with_bar(sheet, height, round(length * unit_px), label)
    encoded = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    uri = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
    return ContactSheet(uri, width, sheet.shape[0], tuple(index for index, _, _ in chosen), label)


def before_after_sheet(
    pairs: Sequence[tuple[ImageArray, ImageArray]], reference: Sequence[ImageArray] = ()
) -> ImageArray:
    """Images before a change above the same images after it, both of a pair at one scale; then what they should match.

    Args:
        pairs: before and after, uint8 (h, w) grey or (h, w, 3) BGR each.
        reference: images of the set that was to be matched, shown below.

    Returns:
        uint8 (h, w, 3) BGR.

    Raises:
        ValueError: no pair to show.
    """
    if not pairs:
        raise ValueError("expected pairs of images, got none")
    bands: list[tuple[str, list[ImageArray]]] = []
    for start in range(0, len(pairs), _COLUMNS):
        shown = [_pair(before, after) for before, after in pairs[start : start + _COLUMNS]]
        bands += [("before", [before for before, _ in shown]), ("after", [after for _, after in shown])]
    for start in range(0, len(reference), _COLUMNS):
        bands.append(("reference", [_pair(image, image)[0] for image in reference[start : start + _COLUMNS]]))
    step = _CAPTION_PX + _CELL_PX
    sheet = np.full((len(bands) * step + _GAP_PX, _COLUMNS * (_CELL_PX + _GAP_PX) + _GAP_PX, 3), _PAPER, np.uint8)
    captions = []
    for row, (caption, images) in enumerate(bands):
        captions.append((caption, row * step + _CAPTION_PX // 2))
        for column, image in enumerate(images):
            x, y = _GAP_PX + column * (_CELL_PX + _GAP_PX), row * step + _CAPTION_PX
            sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return _with_captions(sheet, captions)


def _pair(before: ImageArray, after: ImageArray) -> tuple[ImageArray, ImageArray]:
    """Both in colour and at the one scale that lets the larger fill its cell."""
    zoom = min(_PAIR_ZOOM, _CELL_PX / max(*before.shape[:2], *after.shape[:2]))
    return _in_colour(_resize(before, zoom)), _in_colour(_resize(after, zoom))


def _in_colour(image: ImageArray) -> ImageArray:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def _with_captions(sheet: ImageArray, captions: Sequence[tuple[str, int]]) -> ImageArray:
    from PIL import Image, ImageDraw

    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    for caption, y in captions:
        draw.text((_GAP_PX, y), caption, fill=(20, 20, 20), font=_font(), anchor="lm")
    return np.asarray(picture)


def nice_length(longest: float) -> float:
    """The longest of ..., 1, 2, 5, 10, 20, 50, ... that is not above ``longest``."""
    decade = 10.0 ** math.floor(math.log10(longest))
    return next(step * decade for step in (5, 2, 1) if step * decade <= longest * (1 + 1e-12))


def _resize(image: ImageArray, zoom: float) -> ImageArray:
    size = (max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom)))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, size, interpolation=method)
    return np.asarray(resized, np.uint8)


def _rows(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], int, int]:
    """Left to right in the given order, a new row where the next one does not fit; and width and height of it all."""
    places, x, y, tallest, right = [], _GAP_PX, _GAP_PX, 0, _NARROWEST_PX
    for width, height in sizes:
        if x > _GAP_PX and x + width + _GAP_PX > WIDTH_PX:
            x, y, tallest = _GAP_PX, y + tallest + _GAP_PX, 0
        places.append((x, y))
        x, tallest = x + width + _GAP_PX, max(tallest, height)
        right = max(right, x)
    return places, right, y + tallest + _GAP_PX


def _with_bar(sheet: ImageArray, top: int, length_px: int, label: str) -> ImageArray:
    from PIL import Image, ImageDraw

    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    ink: int | tuple[int, int, int] = 20 if sheet.ndim == 2 else (20, 20, 20)
    y = top + _FOOT_PX // 2 - 2
    draw.rectangle((_GAP_PX, y - 2, _GAP_PX + length_px - 1, y + 2), fill=ink)
    draw.text((_GAP_PX + length_px + 8, y), label, fill=ink, font=_font(), anchor="lm")
    return np.asarray(picture)


def _font() -> FreeTypeFont:
    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", _FONT_PX)  # has the letter µ
