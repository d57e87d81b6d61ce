"""What does not belong to the particle in a vignette: frames, burnt-in scale bars, wide empty margins.

All of it is found conservatively: what is not clearly an overlay stays. An image that is no overlay but looks like
one is rare, and `match` removes only what a good share of the whole set carries.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from plankter.types import ImageArray
from plankter.vignettes.letterbox import border_grey, to_grey
from plankter.vignettes.masks import border_pixels

FRAME_DARK, FRAME_LIGHT = 16, 239  # a frame is black or white
_FRAME_TOLERANCE = 8  # grey levels within the frame: JPEG rings beside a sharp edge
_FRAME_STEP = 16  # grey levels between the frame and what it holds
_FRAME_EDGE_PX = 4  # lines over which JPEG smears that edge
_FRAME_STRAIGHT = 0.9  # share of the inner line that must differ from the frame
_SMALLEST_PX = 8  # what must be left of an image
_INK = 60  # grey levels between an overlay and the background
_BAR_WIDTH_PX, _BAR_HEIGHT_PX, _BAR_EDGE_PX = 20, 8, 16
_BAR_FILL = 0.95
_TEXT_PX = 24  # height of the band beside a bar that holds its label
_CALM = 12  # grey levels that still are background
_MAX_OVERLAYS = 4


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: ImageArray) -> ImageArray:
        """The part of an image."""
        return image[self.top : self.bottom, self.left : self.right]

    def grown(self, by: int, shape: tuple[int, ...]) -> Box:
        """Larger by ``by`` px on every side, kept within ``shape``."""
        left, top = max(0, self.left - by), max(0, self.top - by)
        return Box(left, top, min(shape[1], self.right + by), min(shape[0], self.bottom + by))


def find_frame(image: ImageArray) -> Box | None:
    """What a black or white frame holds, None where there is no frame.

    A side has a frame where its outermost lines are one grey and the first line within differs from that grey almost
    along its whole length; an empty margin round a particle therefore is none.

    Args:
        image: uint8 (h, w) or (h, w, channels).
    """
    grey = to_grey(image).astype(np.int16)
    height, width = grey.shape
    if min(height, width) < _SMALLEST_PX:
        return None
    top, bottom = _uniform_lines(grey), _uniform_lines(grey[::-1])
    inner = grey[top : height - bottom]
    if len(inner) < _SMALLEST_PX:
        return None
    left, right = _uniform_lines(inner.T), _uniform_lines(inner.T[::-1])
    inner = inner[:, left : width - right]
    if min(inner.shape) < _SMALLEST_PX:
        return None
    cuts = [
        _frame_px(grey[:, left : width - right], top),
        _frame_px(grey[::-1, left : width - right], bottom),
        _frame_px(grey[top : height - bottom].T, left),
        _frame_px(grey[top : height - bottom].T[::-1], right),
    ]
    box = Box(cuts[2], cuts[0], width - cuts[3], height - cuts[1])
    if not any(cuts) or box.right - box.left < _SMALLEST_PX or box.bottom - box.top < _SMALLEST_PX:
        return None
    return box


def _uniform_lines(grey: npt.NDArray[np.int16]) -> int:
    """Lines from the first on that are one black or white grey."""
    frame = int(np.median(grey[0]))
    if FRAME_DARK < frame < FRAME_LIGHT:
        return 0
    other = np.flatnonzero((np.abs(grey - frame) > _FRAME_TOLERANCE).any(axis=1))
    return int(other[0]) if len(other) else len(grey)


def _frame_px(grey: npt.NDArray[np.int16], lines: int) -> int:
    """Lines to cut off a side whose first ``lines`` are one grey; 0 where they are no frame."""
    if lines == 0:
        return 0
    frame = int(np.median(grey[0]))
    for more in range(min(_FRAME_EDGE_PX, len(grey) - lines - 1) + 1):
        if (np.abs(grey[lines + more] - frame) > _FRAME_STEP).mean() >= _FRAME_STRAIGHT:
            return lines + more
    return 0


def find_scale_bar(image: ImageArray) -> tuple[Box, ...]:
    """The burnt-in scale bar near the lower or upper edge and the label beside it; empty where there is none.

    A bar is a filled straight line of 20 px or more, black or white, with the plain background all around it: a fibre
    is never that sharp.

    Args:
        image: uint8 (h, w) or (h, w, channels).
    """
    grey = to_grey(image)
    if min(grey.shape) < _SMALLEST_PX or grey.shape[1] < _BAR_WIDTH_PX:
        return ()
    difference = np.abs(grey.astype(np.int16) - border_grey(grey))
    ink = (difference >= _INK) & ((grey <= 2 * FRAME_DARK) | (grey >= 255 - 2 * FRAME_DARK))
    if not ink.any():
        return ()
    for box, area in _components(ink):
        if _is_bar(box, area, difference):
            marks = _components(difference > 2 * _CALM)  # letters have half tones round their ink
            return box, *(mark for mark, _ in marks if _is_label(mark, box, ink))
    return ()


def _components(found: npt.NDArray[np.bool_]) -> list[tuple[Box, int]]:
    """The rectangle and the number of pixels of every connected part."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    return [(Box(x, y, x + w, y + h), area) for x, y, w, h, area in stats[1:count].tolist()]


def _is_bar(box: Box, area: int, difference: npt.NDArray[np.int16]) -> bool:
    width, height = box.right - box.left, box.bottom - box.top
    if width < _BAR_WIDTH_PX or not width / 6 >= height <= _BAR_HEIGHT_PX or area < _BAR_FILL * width * height:
        return False
    if min(box.top, difference.shape[0] - box.bottom) > _BAR_EDGE_PX:
        return False
    return _stands_alone(box, difference)


def _stands_alone(box: Box, difference: npt.NDArray[np.int16]) -> bool:
    """Whether 2 px around a box are background, but for a few pixels where JPEG rings."""
    around = box.grown(2, difference.shape)
    ring = np.ones((around.bottom - around.top, around.right - around.left), dtype=np.bool_)
    ring[box.top - around.top : box.bottom - around.top, box.left - around.left : box.right - around.left] = False
    values = difference[around.top : around.bottom, around.left : around.right][ring]
    return bool(values.size) and float((values <= 2 * _CALM).mean()) >= _BAR_FILL


def _is_label(box: Box, bar: Box, ink: npt.NDArray[np.bool_]) -> bool:
    """Whether a part lies wholly in the band beside the bar and holds ink; a particle reaches out of that band."""
    band = Box(bar.left - _TEXT_PX, bar.top - _TEXT_PX, bar.right + _TEXT_PX, bar.bottom + _TEXT_PX)
    if box.left < band.left or box.right > band.right or box.top < band.top or box.bottom > band.bottom:
        return False
    if box.left < bar.right and bar.left < box.right and box.top < bar.bottom and bar.top < box.bottom:
        return False  # the bar itself
    return bool(ink[box.top : box.bottom, box.left : box.right].any())


def without_frame(image: ImageArray) -> ImageArray:
    """The image without its frames, one in another too; the same image where there is none."""
    for _ in range(_MAX_OVERLAYS):
        box = find_frame(image)
        if box is None:
            break
        image = box.of(image)
    return image


def without_scale_bar(image: ImageArray) -> ImageArray:
    """The image without its scale bar: the strip is cut off where it holds nothing else, else the bar is painted over.

    What is left empty above the strip stays, see `trimmed`.
    """
    for _ in range(_MAX_OVERLAYS):
        boxes = find_scale_bar(image)
        if not boxes:
            break
        image = _without_boxes(image, boxes)
    return image


def without_overlays(
    image: ImageArray, *, frames: bool = True, scale_bars: bool = True
) -> tuple[ImageArray, tuple[str, ...]]:
    """The image without frames and scale bars, as far as wanted, and which of them it had."""
    had: list[str] = []
    # bars first, for one at a white edge looks like the end of a frame; and again, for one may lie within a frame
    steps = [("scale bar", without_scale_bar, scale_bars), ("frame", without_frame, frames)]
    for name, remove, wanted in (*steps, steps[0]):
        without = remove(image) if wanted and (name not in had) else image
        if without is not image:
            had.append(name)
            image = without
    return image, tuple(had)


def _without_boxes(image: ImageArray, boxes: tuple[Box, ...]) -> ImageArray:
    height = image.shape[0]
    painted = image.copy()
    background = np.array(border_levels(image))
    for box in boxes:
        part = box.grown(2, image.shape)
        painted[part.top : part.bottom, part.left : part.right] = background if image.ndim == 3 else background[0]
    top, bottom = min(b.top for b in boxes) - 2, max(b.bottom for b in boxes) + 2
    below = height - boxes[0].bottom <= boxes[0].top
    strip = slice(max(0, top), height) if below else slice(0, min(height, bottom))
    rest = painted[:top] if below else painted[bottom:]
    calm = np.abs(painted[strip].astype(np.float64) - background) <= _CALM
    if calm.all() and len(rest) >= _SMALLEST_PX and (top if below else bottom) > 0:
        return np.ascontiguousarray(rest)
    return painted


def border_levels(image: ImageArray) -> tuple[float, ...]:
    """Median of the outermost pixels: one grey, or one level a channel."""
    planes = [image] if image.ndim == 2 else [image[:, :, k] for k in range(image.shape[2])]
    return tuple(float(np.median(border_pixels(plane).astype(np.float64))) for plane in planes)


def particle_box(image: ImageArray) -> Box | None:
    """The rectangle round everything that differs from the background, specks included; None where nothing does.

    A pixel counts where the mean of its 3 x 3 neighbours differs by 4 times the noise of such means at the border, 5
    grey levels at least: lower than for a mask, so that nothing of a pale particle counts as margin.

    Args:
        image: uint8 (h, w) or (h, w, channels).
    """
    means = np.asarray(cv2.blur(to_grey(image), (3, 3), borderType=cv2.BORDER_REPLICATE), np.uint8)
    border = border_pixels(means).astype(np.int16)
    background = int(np.median(border))
    noise = 1.4826 * float(np.median(np.abs(border - background)))
    found = np.abs(means.astype(np.int16) - background) > max(5.0, 4.0 * noise)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    if not len(rows):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def margin_share(image: ImageArray) -> float:
    """Mean width of the empty margin of the four sides over the longest side of the particle; NaN without a particle."""
    box = particle_box(image)
    if box is None:
        return float("nan")
    height, width = image.shape[:2]
    margins = (box.left, box.top, width - box.right, height - box.bottom)
    return sum(margins) / 4 / max(box.right - box.left, box.bottom - box.top)


def trimmed(image: ImageArray, share: float) -> ImageArray:
    """The image with margins of at most ``share`` of the particle's longest side; nothing is ever added."""
    box = particle_box(image)
    if box is None:
        return image
    margin = max(1, round(share * max(box.right - box.left, box.bottom - box.top)))
    kept = box.grown(margin, image.shape)
    if min(kept.right - kept.left, kept.bottom - kept.top) < _SMALLEST_PX:
        return image
    return np.ascontiguousarray(kept.of(image))
