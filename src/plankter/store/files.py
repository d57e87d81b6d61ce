"""Files written so that a kill or a full disk leaves the old or the new one whole."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plankter._errors import DiskFull, StoreError

_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Makes sure that a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Calls ``write`` with a temporary name beside ``path``, then renames.

    Raises:
        DiskFull: nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with disk_full_said(path):
            write(partial)
            sync(partial)
            partial.replace(path)
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text."""

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_whole(path, write)


def is_full(error: OSError) -> bool:
    """Whether the disk, or what one may use of it, is full."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def disk_full_said(path: Path) -> Iterator[None]:
    """Turns a full disk into an error that says so."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise DiskFull(
            "the disk is full; what was half written has been removed", path=path,
            hint="free some space, then repeat the command",
        ) from error  # fmt: skip


def safe_name(text: str) -> str:
    """A file name for any text, different for different texts."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:60]
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def plain_name(text: str) -> str:
    """A text that is used as a file name as it is.

    Raises:
        StoreError: it could leave its folder or is no portable name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise StoreError(f"expected a name of letters, digits, '.', '_' and '-', got {text!r}")
    return text
