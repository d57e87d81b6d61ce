"""Images from outside: decoded within limits, lossless on the way back."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from plankter._errors import ImageError
from plankter.vignettes.codec import (
    Limits,
    decode_image,
    decode_mask,
    encode_mask,
    encode_vignette,
    image_header,
    read_image,
    read_picture,
)

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))
)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, SHAPES))
def test_vignettes_come_back_pixel_for_pixel(image: np.ndarray) -> None:
    back = decode_image(encode_vignette(image))
    if back.ndim == 2 and image.ndim == 3:
        back = np.dstack([back] * 3)
    assert np.array_equal(back, image)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_masks_come_back_bit_for_bit(mask: np.ndarray) -> None:
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)


def test_a_grey_picture_in_colour_is_kept_as_grey() -> None:
    grey = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert decode_image(encode_vignette(np.dstack([grey] * 3))).ndim == 2


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(ImageError, match="over the limit"):
        decode_image(png_claiming(side, side))


def test_a_tiff_bomb_is_refused_by_its_header() -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "TIFF", compression="group4")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ImageError, match=r"bomb\.tif: the image is over the limit"):
        decode_image(buffer.getvalue(), path="bomb.tif")


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_half_an_image_is_not_classified_as_a_whole(ending: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
    data = bytes(cv2.imencode(ending, noise)[1])
    assert decode_image(data).shape == (80, 80)
    (tmp_path / ("half" + ending)).write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=f"half{ending}"):
        read_image(tmp_path / ("half" + ending))


@pytest.mark.parametrize("data", [b"", b"GIF89a......", b"%PDF-1.7", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="expected a TIFF, PNG, JPEG, BMP image"):
        decode_image(data)


def test_sixteen_bits_are_scaled_and_transparency_dropped() -> None:
    deep = np.array([[0, 65535, 256 * 7]], np.uint16)
    assert decode_image(bytes(cv2.imencode(".png", deep)[1])).tolist() == [[0, 255, 7]]
    clear = np.dstack([np.full((2, 2), v, np.uint8) for v in (1, 2, 3, 0)])
    assert decode_image(bytes(cv2.imencode(".png", clear)[1])).tolist() == [[[1, 2, 3]] * 2] * 2


def test_limits_on_bytes_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="over the limit of 10"):
        decode_image(b"x" * 11, limits=Limits(max_bytes=10))


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P", "1"])
@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_parts_of_a_picture_are_those_of_the_whole_image(tmp_path: Path, mode: str, grey: bool, ending: str) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (30, 40, 3), np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    path = tmp_path / f"a{ending}"
    image.save(path)
    whole, picture = read_image(path, grey=grey), read_picture(path, grey=grey)
    assert (picture.height, picture.width) == whole.shape[:2] == (30, 40)
    for x, y, w, h in ((0, 0, 40, 30), (3, 5, 7, 11), (39, 29, 1, 1)):
        part = picture.cut(x, y, w, h)
        assert part.dtype == np.uint8 and np.array_equal(part, whole[y : y + h, x : x + w])


def test_a_picture_is_refused_as_an_image_is(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (30, 40, 3), np.uint8)).save(path, compression="tiff_lzw")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(ImageError):
        read_picture(path)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="over the limit"):
        read_picture(path, limits=Limits(max_pixels=1199))
    with pytest.raises(ImageError, match="over the limit"):
        read_picture(path, limits=Limits(max_bytes=10))
    with pytest.raises(ImageError, match="cannot be read"):
        read_picture(tmp_path / "absent.tif")


def test_no_image_is_said_in_the_same_words_each_time() -> None:
    found = set()
    for _ in range(2):
        with pytest.raises(ImageError, match="expected a TIFF") as caught:
            decode_image(b"II*\0 and then something else")
        found.add(str(caught.value))
    assert len(found) == 1 and "0x" not in found.pop()


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def frame(width: int, height: int, marker: int = 0xC0, bits: int = 8) -> bytes:
    return segment(marker, struct.pack(">BHHB", bits, height, width, 1) + b"\x01\x11\x00")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"comment": b"of\xff\xc0 words"}, {"restart_marker_rows": 1}]
)
def test_a_jpeg_has_the_size_that_pillow_says(mode: str, options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x010E] = "described"
    for size in ((1, 1), (255, 256), (300, 17)):
        buffer = io.BytesIO()
        Image.new(mode, size, 77).save(buffer, "JPEG", exif=exif, **options)
        assert image_header(buffer.getvalue()) == ("JPEG", *size)
        with Image.open(io.BytesIO(buffer.getvalue())) as image:
            assert image.size == size


def test_the_frame_counts_and_not_what_looks_like_one() -> None:
    """A thumbnail within a segment, a frame after the frame: the decoder takes the first one that stands by itself."""
    decoy = segment(0xE1, b"Exif\0\0" + b"\xff\xd8" + frame(8, 8))
    assert image_header(b"\xff\xd8" + decoy + frame(300, 200) + frame(1, 1)) == ("JPEG", 300, 200)
    with pytest.raises(ImageError, match="over the limit"):
        decode_image(b"\xff\xd8" + decoy + frame(60_000, 60_000) + frame(8, 8) + b"\xff\xd9")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff",
        b"\xff\xd8" + frame(300, 200)[:6],
        b"\xff\xd8" + frame(0, 200),
        b"\xff\xd8" + frame(200, 0),
        b"\xff\xd8" + b"\xff\xe1\x00\x00" + frame(30, 20),
        b"\xff\xd8" + b"\xff\xe1\xff\xff" + frame(30, 20),
        b"\xff\xd8" + b"\xff\xd9" + frame(30, 20),
        b"\xff\xd8" + b"\x00" * 40,
    ],
)
def test_a_jpeg_without_a_sound_header_is_left_to_pillow_or_refused(data: bytes) -> None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            expected: tuple[int, int] | None = image.size
    except (OSError, ValueError, SyntaxError):
        expected = None
    if expected is None:
        with pytest.raises(ImageError):
            image_header(data)
    else:
        assert image_header(data)[1:] == expected
    with pytest.raises(ImageError):
        decode_image(data)
