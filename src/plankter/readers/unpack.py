"""Zip archives from elsewhere -> files in a scratch folder, within limits; nothing in them is believed."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from plankter._errors import ReadError

BLOCK = 1 << 20
ENCRYPTED = 0x1
LEFT_OUT = ("__MACOSX",)


@dataclass(frozen=True)
class ZipLimits:
    """What is unpacked at most. A large run has some thousand files; text of lists shrinks to a fifth, collages hardly."""

    max_members: int = 100_000
    max_bytes: int = 50_000_000_000
    max_ratio: float = 200.0
    ratio_from_bytes: int = 100_000_000  # small archives may shrink as they like


DEFAULT_LIMITS = ZipLimits()


def extract_zip(archive: Path, to: Path, limits: ZipLimits = DEFAULT_LIMITS) -> list[Path]:
    """Unpacks an archive into an own folder.

    All members are checked before the first byte is written; the bytes that really come out are counted as well.

    Args:
        archive: the zip.
        to: an empty or new folder; nothing is written outside it.
        limits: what is refused.

    Returns:
        The files written, in the archive's order.

    Raises:
        ReadError: no zip, damaged, encrypted, over a limit, or a member that would leave the folder.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _checked(opened, archive, limits)
            total = sum(info.file_size for info, _ in members)
            to.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(to).free
            if total > free:
                raise ReadError(f"unpacking needs {total:,} bytes, the disk has {free:,} free", path=archive)
            written, left = [], limits.max_bytes
            for info, name in members:
                target = to / name
                target.parent.mkdir(parents=True, exist_ok=True)
                left -= _copy(opened, info, target, min(left, info.file_size), archive)
                written.append(target)
            return written
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ReadError(f"the zip is damaged or of an unknown kind: {error}", path=archive) from error
    except OSError as error:
        raise ReadError(f"the zip cannot be unpacked: {error.strerror or error}", path=archive) from error


def _checked(opened: zipfile.ZipFile, archive: Path, limits: ZipLimits) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    infos = opened.infolist()
    if len(infos) > limits.max_members:
        raise ReadError(f"the zip holds {len(infos):,} members, over the limit of {limits.max_members:,}", path=archive)
    total = sum(info.file_size for info in infos)
    if total > limits.max_bytes:
        raise ReadError(
            f"the zip would unpack to {total:,} bytes, over the limit of {limits.max_bytes:,}", path=archive
        )
    size = max(archive.stat().st_size, 1)
    if total > limits.ratio_from_bytes and total / size > limits.max_ratio:
        raise ReadError(
            f"the zip of {size:,} bytes would unpack to {total:,}: more than {limits.max_ratio:g} times its size",
            path=archive,
        )  # fmt: skip
    members, seen = [], set()
    for row, info in enumerate(infos, start=1):
        name = _safe_name(info, archive, row)
        if info.is_dir() or name.parts[0] in LEFT_OUT:
            continue
        if info.flag_bits & ENCRYPTED:
            hint = "unpack it yourself and name the folder"
            raise ReadError(f"member {info.filename!r} is encrypted", path=archive, row=row, hint=hint)
        key = str(name).lower()
        if key in seen:
            raise ReadError(f"member {info.filename!r} is there twice", path=archive, row=row)
        seen.add(key)
        members.append((info, name))
    return members


def _safe_name(info: zipfile.ZipInfo, archive: Path, row: int) -> PurePosixPath:
    name = info.filename.replace("\\", "/")
    path = PurePosixPath(name)
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ReadError(f"member {info.filename!r} is a link", path=archive, row=row)
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise ReadError(f"member {info.filename!r} would be written outside the folder", path=archive, row=row)
    return path


def _copy(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, allowed: int, archive: Path) -> int:
    done = 0
    with opened.open(info) as source, target.open("xb") as out:
        while block := source.read(BLOCK):
            done += len(block)
            if done > allowed:
                raise ReadError(f"member {info.filename!r} is larger than it says or than is allowed", path=archive)
            out.write(block)
    return done
