"""The archive's zips are byte by byte what Python's own zipfile writes."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import StoreError
from plankter.store import zip_members
from plankter.store.zip_members import ZipWriter, pack_pixels, png_size
from plankter.vignettes.codec import encode_vignette

PNGS = [encode_vignette(np.full((3 + i % 4, 3 + i, 3), np.arange(3, dtype=np.uint8) + i, np.uint8)) for i in range(9)]
INDICES = [0, 1, 4, 5, 6, 999_999, 1_000_000, 1_000_001, 12_345_678]


def by_zipfile(images: list[tuple[int, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for index, data in images:
            entry = zipfile.ZipInfo(f"{index:06d}.png")
            entry.create_system = 3
            packed.writestr(entry, data)
    return file.getvalue()


def written(path: Path, images: list[tuple[int, bytes]], portions: int) -> tuple[bytes, list[int]]:
    writer, offsets = ZipWriter(path), []
    for first in range(0, len(images), portions):
        members = pack_pixels([(i, data, None) for i, data in images[first : first + portions]]).vignettes
        at = writer.add(members)
        offsets += [at + offset for offset in members.offset]
    digest, size = writer.close()
    data = path.read_bytes()
    assert (digest, size) == (hashlib.sha256(data).hexdigest(), len(data))
    return data, offsets


@pytest.mark.parametrize("portions", [1, 4, 100])
@pytest.mark.parametrize(("limit", "count"), [(zip_members._ZIP64_LIMIT, zip_members._FILE_LIMIT), (300, 2)])
def test_the_bytes_are_those_of_zipfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portions: int, limit: int, count: int
) -> None:
    # with low limits the records of files over 2 GB and of more than 65,535 members appear
    for name, value in (("ZIP64_LIMIT", limit), ("ZIP_FILECOUNT_LIMIT", count)):
        monkeypatch.setattr(zipfile, name, value)
    monkeypatch.setattr(zip_members, "_FILE_LIMIT", count)
    images = list(zip(INDICES, PNGS, strict=True))
    with monkeypatch.context() as patched:
        patched.setattr(zip_members, "_ZIP64_LIMIT", limit)
        data, offsets = written(tmp_path / "p.zip", images, portions)
    assert data == by_zipfile(images)
    assert [data[at : at + len(png)] for at, png in zip(offsets, PNGS, strict=True)] == PNGS
    with zipfile.ZipFile(tmp_path / "p.zip") as packed:
        assert packed.testzip() is None and packed.namelist() == [f"{i:06d}.png" for i in INDICES]


def test_no_member_at_all(tmp_path: Path) -> None:
    assert written(tmp_path / "p.zip", [], 1)[0] == by_zipfile([])


def test_packed_pixels_leave_out_what_is_not_there() -> None:
    packed = pack_pixels([(3, PNGS[0], None), (4, None, None), (5, None, PNGS[1]), (7, PNGS[2], PNGS[3])])
    assert (packed.vignettes.index, packed.masks.index) == ((3, 7), (5, 7))
    assert packed.size_px == (png_size(PNGS[0]), png_size(PNGS[2]))
    assert packed.sha256 == tuple(hashlib.sha256(png).hexdigest() for png in (PNGS[0], PNGS[2]))
    for members, pngs in ((packed.vignettes, (PNGS[0], PNGS[2])), (packed.masks, (PNGS[1], PNGS[3]))):
        found = zip(members.offset, members.length, members.crc, pngs, strict=True)
        assert all((members.data[at : at + n], crc) == (png, zlib.crc32(png)) for at, n, crc, png in found)


def test_an_image_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_members, "_ZIP64_LIMIT", 10)
    with pytest.raises(StoreError, match=r"particle 3: .* over the limit"):
        pack_pixels([(3, PNGS[0], None)])
