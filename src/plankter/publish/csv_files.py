"""CSV that a spreadsheet opens as it is, and does not run: RFC 4180, UTF-8 with mark, dot decimals."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from plankter._errors import PlankterError

BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n")


def escape_cell(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula.

    A leading apostrophe goes before text that starts with ``= + - @``, tab or a line end and is no number (OWASP, CSV
    injection; CWE-1236). Characters that UTF-8 cannot hold (file names in another encoding) become ``\\udcXX``.
    """
    text = encodable(text)
    return f"'{text}" if text.startswith(_DANGEROUS) and not _NUMBER.fullmatch(text) else text


def encodable(text: str) -> str:
    """Text with what UTF-8 cannot hold written out as ``\\udcXX``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | None]]) -> int:
    """Writes cells that are text already (`escape_cell` is the caller's); None is an empty cell.

    Returns:
        Rows written, without the header.
    """
    count = 0
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([escape_cell(name) for name in header])
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


@contextmanager
def written_whole(*paths: Path) -> Iterator[list[Path]]:
    """Temporary names beside ``paths``; they take the real names together at the end, or vanish on an error.

    Raises:
        PlankterError: the disk refuses (full, read-only, no such folder).
    """
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        yield parts
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    except OSError as error:
        where = error.filename or paths[0].parent
        raise PlankterError(f"cannot be written: {error.strerror or error}", path=where) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
