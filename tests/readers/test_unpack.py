"""Zips that want to be unpacked elsewhere, or to something larger than they say."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from plankter._errors import ReadError
from plankter.readers.unpack import ZipLimits, extract_zip


def make(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    archive = make(
        tmp_path / "a.zip", ("x/RUN.lst", b"017\n"), ("x\\win.ctx", b"[A]"), ("__MACOSX/._x", b"?"), ("top.txt", b"")
    )
    written = extract_zip(archive, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == ["x/RUN.lst", "x/win.ctx", "top.txt"]
    assert [path.read_bytes() for path in written] == [b"017\n", b"[A]", b""]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..\\x", "C:\\x", "c:x", "..", "a/.."])
def test_nothing_is_written_when_one_member_would_leave(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / "a.zip", ("good", b"1"), (name, b"2"))
    with pytest.raises(ReadError, match="outside the folder") as caught:
        extract_zip(archive, tmp_path / "in" / "out")
    assert caught.value.row == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(ReadError, match="is a link"):
        extract_zip(make(tmp_path / "a.zip", (link, b"/etc")), tmp_path / "out")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="there twice"):
        extract_zip(make(tmp_path / "a.zip", ("A.lst", b"1"), ("a.LST", b"2")), tmp_path / "out")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ZipLimits(max_members=1), "holds 2 members, over the limit of 1"),
        (ZipLimits(max_bytes=100_000), "over the limit of 100,000"),
        (ZipLimits(max_ratio=20, ratio_from_bytes=1000), "more than 20 times its size"),
    ],
)
def test_limits_are_checked_before_anything_is_written(tmp_path: Path, limits: ZipLimits, message: str) -> None:
    archive = make(tmp_path / "a.zip", ("zeros", bytes(200_000)), ("b", b"1"))
    with pytest.raises(ReadError, match=message):
        extract_zip(archive, tmp_path / "out", limits)
    assert not (tmp_path / "out").exists()
    assert len(extract_zip(archive, tmp_path / "out")) == 2


def test_a_member_larger_than_it_says(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", ("zeros", bytes(200_000)))
    data = archive.read_bytes()
    size = (200_000).to_bytes(4, "little")
    assert data.count(size) == 2
    archive.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(ReadError):
        extract_zip(archive, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 10


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_damaged_zips(tmp_path: Path, damage: str) -> None:
    archive = make(tmp_path / "a.zip", ("x", bytes(range(256)) * 40))
    data = bytearray(archive.read_bytes())
    if damage == "flip":
        data[60] ^= 0xFF
    archive.write_bytes({"cut": bytes(data[:50]), "flip": bytes(data), "text": b"hello"}[damage])
    with pytest.raises(ReadError, match="damaged") as caught:
        extract_zip(archive, tmp_path / "out")
    assert caught.value.path == str(archive)


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", ("x", b"secret"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(ReadError, match="encrypted"):
        extract_zip(archive, tmp_path / "out")
