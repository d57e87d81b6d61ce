"""Another instrument's vignettes made comparable with a reference set: the same polarity, colour, borders, greys, scale.

A set is described by a few numbers, `measure_statistics`; the step from one description to another is the same for
every image of the set, so that what differs between its particles still differs afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError
from plankter.types import ImageArray
from plankter.vignettes.letterbox import to_grey
from plankter.vignettes.masks import border_pixels, own_mask
from plankter.vignettes.overlays import (
    border_levels,
    margin_share,
    trimmed,
    without_overlays,
)

STATISTICS_VERSION = 1
CARD_KEY = "image_statistics"  # where a model's card keeps those of its training images
OVERLAY_SHARE = 0.1  # of a set's images must have a frame or a scale bar for it to be removed
GAIN_LIMIT = 4.0  # contrast is not raised further, noise grows with it
MAX_PIXELS = 64_000_000
SIZE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SD_PER_MAD = 1.4826
_LIGHT = 64  # a background from this grey on is light that comes through
_COLOUR_STEP = 4.0  # mean difference of the channels, grey levels
_SPREAD_SDS, _SPREAD_FLOOR = 3.0, 10.0  # how far the background of one image may lie from that of its set


@dataclass(frozen=True)
class ImageStatistics:
    """How the images of a set look. Greys are levels of 0 to 255, medians over the images.

    Attributes:
        images: how many were measured.
        background: grey of the outermost pixels.
        background_bgr: the same by channel.
        background_spread: standard deviation of the background between images (1.4826 times the median deviation).
        contrast: mean difference of the particle's pixels from the background, by `own_mask`.
        noise: standard deviation of the outermost pixels within an image.
        dark_share: share of images whose particle is darker than the background.
        colour_share, frame_share, scale_bar_share: share of images in colour, with a black or white frame, with a bar.
        margin, widest_margin: width of the empty margin over the particle's longest side, median and 95 % quantile.
        size_px: quantiles (5, 25, 50, 75, 95 %) of the longest side in px, without frames and bars.
        um_per_px: pixel size in µm where it is known and the same for all.
    """

    images: int
    background: float
    background_bgr: tuple[float, float, float]
    background_spread: float
    contrast: float
    noise: float
    dark_share: float
    colour_share: float
    frame_share: float
    scale_bar_share: float
    margin: float
    widest_margin: float
    size_px: tuple[float, ...]
    um_per_px: float | None = None

    def __post_init__(self) -> None:
        shares = (self.dark_share, self.colour_share, self.frame_share, self.scale_bar_share)
        greys = (self.background, self.background_spread, self.contrast, self.noise, *self.background_bgr)
        if self.images < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError("expected 1 image or more and shares from 0 to 1")
        if not all(0 <= grey <= 255 for grey in greys) or len(self.background_bgr) != 3:
            raise ValueError("expected grey levels from 0 to 255")
        if len(self.size_px) != len(SIZE_QUANTILES) or not all(0 < px < math.inf for px in self.size_px):
            raise ValueError(f"expected {len(SIZE_QUANTILES)} sizes above 0 px")
        if not 0 <= self.margin <= self.widest_margin < math.inf:
            raise ValueError("expected margins from 0, the widest above the median")
        if self.um_per_px is not None and not 0 < self.um_per_px < math.inf:
            raise ValueError("expected a pixel size above 0 µm")

    @property
    def dark_on_light(self) -> bool:
        """Whether particles are darker than the background, as in transmitted light."""
        return self.dark_share >= 0.5

    @property
    def in_colour(self) -> bool:
        """Whether most images are in colour."""
        return self.colour_share >= 0.5

    def to_dict(self) -> dict[str, Any]:
        """A JSON object, as a model's card keeps it under `CARD_KEY`."""
        return {"version": STATISTICS_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> ImageStatistics:
        """The statistics that `to_dict` wrote.

        Raises:
            ValueError: another version, a field missing, no number, or out of range.
        """
        if found.get("version") != STATISTICS_VERSION:
            raise ValueError(f"expected image statistics of version {STATISTICS_VERSION}, got {found.get('version')!r}")
        values: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            value = found.get(name)
            if name in ("background_bgr", "size_px"):
                if not isinstance(value, list | tuple):
                    raise ValueError(f"{name!r} must be a list of numbers, got {value!r}")
                values[name] = tuple(_number(v, name) for v in value)
            elif name != "um_per_px" or value is not None:
                values[name] = _number(value, name)
        values["images"] = int(values["images"])
        return cls(**values)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name!r} must be a number, got {value!r}")
    return float(value)


def measure_statistics(images: Iterable[ImageArray], *, um_per_px: float | None = None) -> ImageStatistics:
    """Describes a set of images; greys, margins and sizes are those within frames and without scale bars.

    Args:
        images: uint8 (h, w) grey or (h, w, 3) BGR each; empty ones are passed over.
        um_per_px: pixel size of all of them, where known.

    Raises:
        ValueError: no image with pixels.
    """
    rows = [_measure(image) for image in images if image.size]
    if not rows:
        raise ValueError("expected images to measure, got none")
    table = np.array(rows, np.float64)
    background = table[:, 0]
    middle = np.median(table, axis=0)
    share = table.mean(axis=0)
    margins = table[:, 10][np.isfinite(table[:, 10])]
    margin, widest_margin = np.quantile(margins, (0.5, 0.95)) if len(margins) else (0.0, 0.0)
    return ImageStatistics(
        images=len(table),
        background=float(middle[0]),
        background_bgr=(float(middle[1]), float(middle[2]), float(middle[3])),
        background_spread=min(255.0, _SD_PER_MAD * float(np.median(np.abs(background - middle[0])))),
        contrast=round(float(middle[4]), 3),
        noise=round(min(255.0, float(middle[5])), 3),
        dark_share=round(float(share[6]), 4),
        colour_share=round(float(share[7]), 4),
        frame_share=round(float(share[8]), 4),
        scale_bar_share=round(float(share[9]), 4),
        margin=round(float(margin), 4),
        widest_margin=round(float(widest_margin), 4),
        size_px=tuple(round(float(q), 1) for q in np.quantile(table[:, 11], SIZE_QUANTILES)),
        um_per_px=um_per_px,
    )


def _measure(image: ImageArray) -> tuple[float, ...]:
    """One row of `measure_statistics`: what its columns are is said there."""
    inner, had = without_overlays(image)
    grey = to_grey(inner)
    border = border_pixels(grey).astype(np.float64)
    background = float(np.median(border))
    by_channel = border_levels(inner)
    mask = own_mask(grey)
    difference = grey[mask].astype(np.float64) - background
    contrast = float(np.abs(difference).mean()) if len(difference) else 0.0
    return (
        background, *(by_channel if len(by_channel) == 3 else by_channel * 3), contrast,
        _SD_PER_MAD * float(np.median(np.abs(border - background))),
        float(len(difference) == 0 or difference.mean() <= 0), float(is_colour(inner)), float("frame" in had), float("scale bar" in had),
        margin_share(inner), float(max(grey.shape)),
    )  # fmt: skip


def is_colour(image: ImageArray) -> bool:
    """Whether the channels differ in more than noise."""
    if image.ndim == 2 or image.shape[2] < 3:
        return False
    blue, green, red = (image[:, :, k].astype(np.int16) for k in range(3))
    return float((np.abs(blue - green) + np.abs(red - green)).mean()) / 2 > _COLOUR_STEP


@dataclass(frozen=True)
class Matching:
    """The step from one set's look to another's; make it with `plan_matching`, once for a set.

    Attributes:
        frames, scale_bars: whether they are removed.
        margin: widest margin left, over the particle's longest side; None leaves margins alone.
        grey: whether colour is dropped.
        invert: whether the polarity is turned.
        density: whether greys are stretched as optical density, which never blackens, instead of as differences.
        gain: factor of the contrast: of the density or of the difference from the background.
        keep: share of the background's difference between images that is kept.
        zoom: factor of width and height.
        of, like: the two descriptions.
    """

    frames: bool
    scale_bars: bool
    margin: float | None
    grey: bool
    invert: bool
    density: bool
    gain: float
    keep: float
    zoom: float
    of: ImageStatistics
    like: ImageStatistics

    def apply(self, image: ImageArray) -> tuple[ImageArray, tuple[str, ...]]:
        """One image of the set, matched, and what was done in words with its parameters.

        Args:
            image: uint8 (h, w) grey or (h, w, 3) BGR.

        Raises:
            ImageError: no pixels, or more than `MAX_PIXELS` once resampled.
        """
        if not image.size or image.dtype != np.uint8:
            raise ImageError(f"expected uint8 pixels, got {image.dtype} {image.shape}")
        steps: list[str] = []
        out = self._borders(image, steps)
        if self.grey and out.ndim == 3:
            out = to_grey(out)
            steps.append("grey")
        if self.invert:
            out = np.asarray(255 - out, np.uint8)
            steps.append("inverted")
        out = self._tones(out, steps)
        return np.ascontiguousarray(self._zoomed(out, steps)), tuple(steps)

    def _borders(self, image: ImageArray, steps: list[str]) -> ImageArray:
        image, had = without_overlays(image, frames=self.frames, scale_bars=self.scale_bars)
        steps += [f"{name} removed" for name in had]
        if self.margin is not None:
            done = trimmed(image, self.margin)
            if done.shape != image.shape:
                steps.append(f"trimmed from {image.shape[1]}x{image.shape[0]}")
            image = done
        return image

    def _tones(self, image: ImageArray, steps: list[str]) -> ImageArray:
        sources, targets = _levels(self.of, image, self.invert), _levels(self.like, image, False)
        if self.gain == 1 and self.keep == 1 and np.array_equal(sources, targets):
            return image
        reach = max(_SPREAD_FLOOR, _SPREAD_SDS * self.of.background_spread)
        own = np.clip(border_levels(image), np.maximum(sources - reach, 1), sources + reach)
        levels = np.clip(targets + (own - sources) * self.keep, 0, 255)
        steps.append(f"background {np.mean(own):.0f} to {np.mean(levels):.0f}, contrast x {self.gain:.3f}")
        if self.density:
            table = np.clip(levels * (np.arange(256)[:, None] / own) ** self.gain, 0, 255)
        else:
            table = np.clip((np.arange(256)[:, None] - own) * self.gain + levels, 0, 255)
        looked_up = np.asarray(np.rint(table), np.uint8)
        return looked_up[image, np.arange(3)] if image.ndim == 3 else looked_up[image, 0]

    def _zoomed(self, image: ImageArray, steps: list[str]) -> ImageArray:
        width, height = max(1, round(image.shape[1] * self.zoom)), max(1, round(image.shape[0] * self.zoom))
        if (height, width) == image.shape[:2]:
            return image
        if width * height > MAX_PIXELS:
            raise ImageError(f"resampled to {width} x {height} px it is over the limit of {MAX_PIXELS:,} pixels")
        method = cv2.INTER_AREA if self.zoom < 1 else cv2.INTER_CUBIC
        steps.append(f"resampled x {self.zoom:.4g}")
        return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _levels(found: ImageStatistics, image: ImageArray, inverted: bool) -> npt.NDArray[np.float64]:
    """Background of a set as the image holds it: one grey, or one level a channel."""
    levels = np.array([found.background] if image.ndim == 2 else found.background_bgr)
    return 255 - levels if inverted else levels


def plan_matching(
    of: ImageStatistics, like: ImageStatistics, *, um_per_px: float | None = None, like_um_per_px: float | None = None
) -> Matching:
    """What turns images that look as ``of`` into images that look as ``like``.

    Args:
        of, like: the two sets, as `measure_statistics` describes them.
        um_per_px, like_um_per_px: pixel sizes in µm; without them those of the descriptions are taken, and where one
            is unknown nothing is resampled.

    Raises:
        ValueError: a pixel size that is not above 0.
    """
    here, there = um_per_px or of.um_per_px, like_um_per_px or like.um_per_px
    for size in (um_per_px, like_um_per_px):
        if size is not None and not 0 < size < math.inf:
            raise ValueError(f"expected a pixel size above 0 µm, got {size}")
    invert = of.dark_on_light != like.dark_on_light
    density, gain = _contrast(of, like, invert)
    spread = like.background_spread / of.background_spread if of.background_spread > 0 else 1.0
    return Matching(
        frames=of.frame_share >= OVERLAY_SHARE > like.frame_share,
        scale_bars=of.scale_bar_share >= OVERLAY_SHARE > like.scale_bar_share,
        margin=like.widest_margin if of.margin > like.widest_margin else None,
        grey=not like.in_colour and of.colour_share - like.colour_share > OVERLAY_SHARE,
        invert=invert,
        density=density,
        gain=min(max(gain, 1 / GAIN_LIMIT), GAIN_LIMIT),
        keep=min(1.0, spread),
        zoom=here / there if here and there else 1.0,
        of=of,
        like=like,
    )


def _contrast(of: ImageStatistics, like: ImageStatistics, invert: bool) -> tuple[bool, float]:
    """Whether greys are stretched as density, and by which factor.

    What absorbs light twice as much lets through the square of the share (Beer-Lambert): in transmitted light both
    contrasts are densities, and stretching those keeps the structure of dark particles, which differences clip.
    """
    if not (of.contrast > 0 and like.contrast > 0):
        return False, 1.0
    background = 255 - of.background if invert else of.background
    if like.dark_on_light and min(background, like.background) >= _LIGHT:
        here, there = of.contrast / background, like.contrast / like.background
        if max(here, there) < 1:
            return True, math.log1p(-there) / math.log1p(-here)
    return False, like.contrast / of.contrast


def match(
    image: ImageArray,
    of: ImageStatistics,
    like: ImageStatistics,
    *,
    um_per_px: float | None = None,
    like_um_per_px: float | None = None,
) -> ImageArray:
    """One image of a set that looks as ``of``, made to look as ``like``; for many images plan once, `plan_matching`.

    Deterministic; where the two descriptions are the same, the image comes back as it is.

    Returns:
        uint8 (h, w) or (h, w, 3).

    Raises:
        ImageError: no pixels, or too many once resampled. ValueError: a pixel size that is not above 0.
    """
    return plan_matching(of, like, um_per_px=um_per_px, like_um_per_px=like_um_per_px).apply(image)[0]
