"""Encoded images <-> pixels, within limits: every image is hostile until its header has been read."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from plankter._errors import ImageError
from plankter.types import ImageArray

# measured on real vignettes: as small as deflate at level 1, in less than half its time
_VIGNETTE_OPTIONS = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.12 and later
    _VIGNETTE_OPTIONS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
_PNG = b"\x89PNG\r\n\x1a\n"
_SOF = (0xC0, 0xC1, 0xC2)  # frames of the three common processes: baseline, extended, progressive
_SEGMENTS = range(0xC0, 0xFF)  # markers that a length follows, where one may stand before the frame
_BARE = frozenset((*range(0xD0, 0xDA), 0xC8))  # restarts, start, end, scan, reserved: no header looks like this
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
FORMATS = ("TIFF", "PNG", "JPEG", "BMP")
WARNING_FILTERS = RLock()  # they belong to the whole process: two threads at once would leave them changed for good


@dataclass(frozen=True)
class Limits:
    """What is decoded at most. Real collages have 2.3 million pixels; a bomb of 20 kB can claim hundreds of millions."""

    max_pixels: int = 64_000_000
    max_bytes: int = 400_000_000


DEFAULT_LIMITS = Limits()


def image_header(data: bytes, *, path: Path | str | None = None) -> tuple[str, int, int]:
    """Format, width and height in px from the header alone.

    Raises:
        ImageError: no image of a known format.
    """
    if data[:8] == _PNG and data[12:16] == b"IHDR" and len(data) >= 33:  # most images here: no need to ask Pillow
        return "PNG", int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if (size := _jpeg_size(data)) is not None:
        return "JPEG", *size
    image = _opened(data, path)
    return str(image.format), image.width, image.height


def _opened(data: bytes, path: Path | str | None) -> Image.Image:
    """An image of which Pillow has read the header and no more."""
    try:
        with WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is judged by our own limit, not by Pillow's warning
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image is over the limit of pixels: {error}", path=path) from error
    except UnidentifiedImageError as error:  # whose words hold an address in memory: other words each time
        raise ImageError(f"expected a {', '.join(FORMATS)} image, it is none", path=path) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"expected a {', '.join(FORMATS)} image: {error}", path=path) from error


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a plain JPEG, as its decoder finds them: in the first frame header; None where in doubt."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    at, end = 2, len(data)
    while at + 9 <= end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _SOF:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return (width, height) if width and height and data[at + 4] == 8 else None
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker not in _SEGMENTS or marker in _BARE or length < 2:
            return None
        at += 2 + length
    return None


def _complete(kind: str, data: bytes) -> bool:
    # OpenCV returns the readable half of a truncated JPEG or PNG as if it were whole
    if kind == "JPEG":
        return b"\xff\xd9" in data[-1024:]
    return kind != "PNG" or b"IEND" in data[-64:]


@dataclass(frozen=True)
class Picture:
    """A decoded image that parts are cut from; a collage of which a quarter is wanted is never copied as a whole.

    Attributes:
        height: px.
        width: px.
    """

    height: int
    width: int
    _pixels: ImageArray | Image.Image

    def cut(self, x: int, y: int, width: int, height: int) -> ImageArray:
        """A copy of a box within the image: uint8 (h, w) or (h, w, 3) in BGR order."""
        if isinstance(self._pixels, np.ndarray):
            return self._pixels[y : y + height, x : x + width].copy()
        part = self._pixels.crop((x, y, x + width, y + height))
        if part.mode == "L":
            return np.frombuffer(part.tobytes(), np.uint8).reshape(height, width)
        return np.frombuffer(part.tobytes("raw", "BGR"), np.uint8).reshape(height, width, 3)


def decode_image(
    data: bytes, *, path: Path | str | None = None, limits: Limits = DEFAULT_LIMITS, grey: bool = False
) -> ImageArray:
    """Decodes one image of known format and acceptable size.

    Args:
        data: the encoded file.
        path: named in errors.
        limits: what is refused before decoding.
        grey: convert to one channel while decoding.

    Returns:
        uint8 (h, w) or (h, w, 3) in BGR order; 16-bit pixels are scaled to 8, transparency dropped.

    Raises:
        ImageError: not an image, too large, truncated or damaged.
    """
    found = _decoded(data, path, limits, grey=grey)
    if isinstance(found, np.ndarray):
        return found
    pixels = np.asarray(found)
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if grey else cv2.COLOR_RGB2BGR)  # type: ignore[return-value]


def _decoded(data: bytes, path: Path | str | None, limits: Limits, *, grey: bool) -> ImageArray | Image.Image:
    """Pixels as they will be used or, of a plain TIFF, as Pillow has them."""
    if len(data) > limits.max_bytes:
        raise ImageError(f"file of {len(data):,} bytes is over the limit of {limits.max_bytes:,}", path=path)
    opened = _opened(data, path) if data[:4] in _TIFF else None
    if opened is None:
        kind, width, height = image_header(data, path=path)
    else:
        kind, width, height = str(opened.format), opened.width, opened.height
    if width * height > limits.max_pixels:
        raise ImageError(f"image of {width} x {height} px is over the limit of {limits.max_pixels:,} pixels", path=path)
    if not _complete(kind, data):
        raise ImageError(f"the {kind} is truncated: its end mark is missing", path=path)
    # OpenCV passes over errors of the LZW decoder and returns whatever the strip held before; Pillow stops at them
    if opened is not None and kind == "TIFF" and opened.mode in ("L", "RGB"):
        return _loaded(opened, path)
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_UNCHANGED
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise ImageError(f"the {kind} of {width} x {height} px cannot be decoded: {error.err}", path=path) from error
    if image is None:
        raise ImageError(f"the {kind} of {width} x {height} px is damaged", path=path)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"expected 8 or 16 bits a channel, got {image.dtype}", path=path)
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[:, :, :3]
    elif image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    return np.ascontiguousarray(image)


def _loaded(image: Image.Image, path: Path | str | None) -> Image.Image:
    try:
        with WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"the TIFF is damaged: {error}", path=path) from error
    return image


def read_image(path: Path, *, limits: Limits = DEFAULT_LIMITS, grey: bool = False) -> ImageArray:
    """`decode_image` of a file.

    Raises:
        ImageError: missing, unreadable, too large, truncated or damaged.
    """
    return decode_image(_bytes_of(path, limits), path=path, limits=limits, grey=grey)


def read_picture(path: Path, *, limits: Limits = DEFAULT_LIMITS, grey: bool = False) -> Picture:
    """What `read_image` reads, to be cut into parts.

    Raises:
        ImageError: missing, unreadable, too large, truncated or damaged.
    """
    data = _bytes_of(path, limits)
    found = _decoded(data, path, limits, grey=grey)
    if not isinstance(found, np.ndarray):
        if found.mode == "L" or not grey:
            return Picture(found.height, found.width, found)
        found = cv2.cvtColor(np.asarray(found), cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    assert isinstance(found, np.ndarray)
    return Picture(found.shape[0], found.shape[1], found)


def _bytes_of(path: Path, limits: Limits) -> bytes:
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise ImageError(f"file of {size:,} bytes is over the limit of {limits.max_bytes:,}", path=path)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}", path=path) from error


def encode_vignette(image: ImageArray) -> bytes:
    """Lossless PNG; three equal channels (a monochrome camera behind a colour file) are kept as one.

    Raises:
        ImageError: pixels that PNG cannot hold.
    """
    if (
        image.ndim == 3
        and np.array_equal(image[:, :, 0], image[:, :, 1])
        and np.array_equal(image[:, :, 0], image[:, :, 2])
    ):
        image = np.ascontiguousarray(image[:, :, 0])
    return _png(image, _VIGNETTE_OPTIONS)


def encode_mask(mask: np.ndarray) -> bytes:
    """A boolean mask as a PNG of one bit a pixel.

    Raises:
        ImageError: pixels that PNG cannot hold.
    """
    return _png(mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])


def decode_mask(data: bytes) -> np.ndarray:
    """The boolean mask that `encode_mask` wrote.

    Raises:
        ImageError: damaged.
    """
    return decode_image(data, grey=True) > 127


def _png(image: ImageArray, options: list[int]) -> bytes:
    done, buffer = cv2.imencode(".png", image, options)
    if not done:
        raise ImageError(f"cannot be written as PNG: shape {image.shape}")
    return bytes(buffer)
