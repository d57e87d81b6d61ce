"""Particle lists of version 013 (VisualSpreadsheet 1.5 to 2.2, FlowCam II and III): ``:`` between unnamed columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from plankter._errors import ReadError
from plankter.formats.flowcam_columns import Layout, ListTable, RawRow, build_table, cut_flag
from plankter.formats.flowcam_fields import V013_COLUMNS, V013_COLUMNS_47, Fields
from plankter.types import Flag, Severity

_LAYOUT = Layout(box=("save_x", "save_y", "pixel_w", "pixel_h"), collage="filename")
_TIME_HALVES = ("high_u32", "low_u32", "timestamp1", "timestamp2")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def parse_v013(lines: list[str], *, path: Path | str | None = None) -> ListTable:
    """Reads a list of version 013 with 44 or 47 columns.

    Args:
        lines: of the whole file.
        path: named in errors.

    Raises:
        ReadError: no particle count in row 2, or another number of columns.
    """
    count = lines[1].strip() if len(lines) > 1 else ""
    if not re.fullmatch(r"[0-9]{1,9}", count):
        raise ReadError(f"expected the number of particles, got {count[:40]!r}", path=path, row=2)
    body = [(row, line) for row, line in enumerate(lines[2:], start=3) if line.strip("\0 \t")]
    columns = _columns(body, path)
    fields: Fields = tuple((name, "string" if name == "filename" else "double") for name in columns)
    flags = []
    if body and body[-1][1].count(":") + 1 < len(columns):
        flags.append(cut_flag(body.pop()[0]))
    elif len(body) < int(count):
        flags.append(cut_flag(len(lines)))
    if len(body) > int(count):
        message = f"the list says it holds {count} particles but has {len(body)}; all are read"
        flags.append(Flag("count-disagrees", message, Severity.WARNING, row=2))
    return build_table("013", fields, _rows(body, columns), flags, layout=_LAYOUT)


def _columns(body: list[tuple[int, str]], path: Path | str | None) -> list[str]:
    if not body:
        return V013_COLUMNS
    row, line = body[0]
    found = line.count(":") + 1 - len(_DRIVE.findall(line))
    for columns in (V013_COLUMNS, V013_COLUMNS_47):
        if found == len(columns) or (found < len(columns) and len(body) == 1):
            return columns
    raise ReadError(f"expected 44 or 47 columns between ':', got {found}", path=path, row=row)


def _rows(body: list[tuple[int, str]], columns: list[str]) -> Iterator[RawRow]:
    at = columns.index("filename")
    halves = [columns.index(name) for name in _TIME_HALVES if name in columns]
    for row, line in body:
        cells = line.split(":")
        if len(cells) == len(columns) + 1 and _DRIVE.match(f"{cells[at]}:{cells[at + 1]}"):
            cells[at : at + 2] = [f"{cells[at]}:{cells[at + 1]}"]  # a Windows path holds the separator
        if len(cells) != len(columns):
            reason = f"row {row} of the list has {len(cells)} columns, expected {len(columns)}"
            yield RawRow(row, cells[:1], reason)
            continue
        for half in halves:
            cells[half] = cells[half].strip().removesuffix("l")  # written as C's long
        yield RawRow(row, cells)
