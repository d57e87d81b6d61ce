"""Vignettes packed into collages as VisualSpreadsheet does it: in list order, row by row, on black."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from plankter._errors import PlankterError
from plankter.synthetic.canvas import UInt8Array

GAP_PX = 2
LZW = [cv2.IMWRITE_TIFF_COMPRESSION, 5]


@dataclass(frozen=True)
class Place:
    """Where a vignette lies: page (from 1) and its top left corner there, px."""

    page: int
    x: int
    y: int


def pack(sizes: Sequence[tuple[int, int]], page_width: int, page_height: int) -> list[Place]:
    """Places for vignettes of (width, height) px, in order, in rows with 2 px between.

    Raises:
        ValueError: a vignette larger than a page.
    """
    places = []
    page, x, y, row_height = 1, 0, 0, 0
    for number, (width, height) in enumerate(sizes):
        if width > page_width or height > page_height:
            raise ValueError(f"vignette {number} of {width} x {height} px is larger than {page_width} x {page_height}")
        if x + width > page_width:
            x, y, row_height = 0, y + row_height + GAP_PX, 0
        if y + height > page_height:
            page, x, y, row_height = page + 1, 0, 0, 0
        places.append(Place(page, x, y))
        x, row_height = x + width + GAP_PX, max(row_height, height)
    return places


def write_pages(
    to: Path,
    stem: str,
    images: Sequence[UInt8Array],
    masks: Sequence[npt.NDArray[np.bool_]],
    places: Sequence[Place],
    page_size: tuple[int, int],
) -> list[str]:
    """Writes every collage ``STEM_000001.tif`` (RGB) and its mask ``STEM_000001_bin.tif`` (0 and 255).

    Args:
        to: an existing folder.
        stem: beginning of the file names.
        images, masks, places: one each a particle, as `pack` orders them; uint8 (h, w) and bool (h, w).
        page_size: width and height of a collage, px.

    Returns:
        Each particle's collage file name.

    Raises:
        PlankterError: a file cannot be written.
    """
    width, height = page_size
    names = [f"{stem}_{place.page:06d}.tif" for place in places]
    for page, members in groupby(range(len(places)), key=lambda i: places[i].page):
        collage, bits = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
        for i in members:
            (h, w), place = images[i].shape, places[i]
            area = np.s_[place.y : place.y + h, place.x : place.x + w]
            collage[area], bits[area] = images[i], masks[i] * np.uint8(255)
        write_tiff(to / f"{stem}_{page:06d}.tif", cv2.merge([collage, collage, collage]))
        write_tiff(to / f"{stem}_{page:06d}_bin.tif", bits)
    return names


def write_tiff(path: Path, pixels: npt.NDArray[np.generic]) -> None:
    """One LZW-compressed TIFF.

    Raises:
        PlankterError: it cannot be written.
    """
    done, data = cv2.imencode(".tif", np.asarray(pixels), LZW)
    if not done:
        raise PlankterError(f"pixels of shape {pixels.shape} cannot be written as TIFF", path=path)
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise PlankterError(f"cannot be written: {error.strerror}", path=path) from error
