"""The particle list (`.lst`; a library, `.flb`, has the same syntax): version 017 by the fields it declares, 013."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plankter._errors import ReadError
from plankter.formats.flowcam_columns import TEXT_TYPES, ListTable, RawRow, build_table, cut_flag
from plankter.formats.flowcam_fields import V017_FIELDS, Fields
from plankter.formats.flowcam_text import split_lines
from plankter.formats.flowcam_v013 import parse_v013
from plankter.types import Flag, Severity

__all__ = ["V017_FIELDS", "looks_like_list", "parse_lst", "write_lst"]

TYPES = ("int32", "double", *TEXT_TYPES)
MAX_FIELDS = 1000
GUID_LENGTH = 36


def write_lst(columns: Mapping[str, Sequence[Any]], n: int, *, fields: Fields = V017_FIELDS) -> str:
    """The text of a list of version 017.

    Args:
        columns: field name -> n values. A field that is left out is written as 0, a text field as ''.
        n: number of particles.
        fields: which fields to declare, in order.

    Returns:
        The text with LF line ends; doubles with four decimals as VisualSpreadsheet writes them.

    Raises:
        ValueError: a column that is no field or has not n values, or a text that holds a separator.
    """
    types = dict(fields)
    for name, values in columns.items():
        if name not in types:
            raise ValueError(f"{name!r} is no field of the list")
        if len(values) != n:
            raise ValueError(f"column {name!r} has {len(values)} values, expected {n}")
    written = [_written(name, kind, columns.get(name), n) for name, kind in fields]
    lines = ["017", f"num-fields|{len(fields)}", *(f"{name}|{kind}" for name, kind in fields)]
    lines += ["|".join(row) for row in zip(*written, strict=True)]
    return "".join(f"{line}\n" for line in lines)


def _written(name: str, kind: str, values: Sequence[Any] | None, n: int) -> list[str]:
    if kind in TEXT_TYPES:
        texts = [str(value) for value in values] if values is not None else [""] * n
        if any(separator in text for text in texts for separator in "|\r\n"):
            raise ValueError(f"a value of {name!r} holds a separator")
        return texts
    if values is None:
        return ["0" if kind == "int32" else "0.0000"] * n
    if kind == "int32":
        return [str(int(value)) for value in values]
    return [f"{float(value):.4f}" for value in values]


def looks_like_list(text: str) -> bool:
    """Whether the text begins like a particle list of any version: a number of three digits on the first line."""
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip()
    return len(first) == 3 and first.isascii() and first.isdigit()


def parse_lst(text: str, *, path: Path | str | None = None) -> ListTable:
    """Reads a particle list, whichever fields it has.

    A last row that is cut off is left out and flagged; any other broken row stays as a particle with ``failure``.

    Raises:
        ReadError: empty, of an unknown version, or its header is not what it should be; names the row.
    """
    lines = split_lines(text.lstrip("\ufeff"))
    if not any(line.strip("\0 \t") for line in lines):
        raise ReadError(
            "the list is empty: not even its version is there", path=path, row=1,
            hint="copy the file from the instrument again",
        )  # fmt: skip
    version = lines[0].strip()
    if version == "013":
        return parse_v013(lines, path=path)
    if version != "017":
        raise ReadError(
            f"the list's first line says version {version[:20]!r}; expected '017' (VisualSpreadsheet 3 and 4) or '013' "
            "(1.5 to 2.2)", path=path, row=1, hint="save the run from VisualSpreadsheet 3 or 4 and try again",
        )  # fmt: skip
    return _parse_v017(lines, text.endswith(("\n", "\r")), path)


def _parse_v017(lines: list[str], ended: bool, path: Path | str | None) -> ListTable:
    fields = _declared_fields(lines, path)
    first = 2 + len(fields)
    flags = []
    last = len(lines)
    while last > first and not lines[last - 1].strip("\0 \t"):
        last -= 1
    if last > first and _is_cut(lines[last - 1], fields, ended):
        flags.append(cut_flag(last))
        last -= 1
    blank = [n for n, line in enumerate(lines[first:last], start=first + 1) if not line.strip("\0 \t")]
    flags += [Flag("blank-line", f"row {n} of the list is blank", Severity.NOTE, row=n) for n in blank]
    return build_table("017", fields, _rows(lines, first, last, len(fields)), tuple(flags))


def _rows(lines: list[str], first: int, last: int, fields: int) -> Iterator[RawRow]:
    # one at a time: the cells of a run of 100,000 particles all at once take 400 MB
    for number, line in enumerate(lines[first:last], start=first + 1):
        cells = line.split("|")
        if len(cells) == fields:
            yield RawRow(number, cells, None)
        elif line.strip("\0 \t"):
            reason = f"row {number} of the list has {len(cells)} fields, expected {fields}"
            yield RawRow(number, cells[:1], reason)


def _is_cut(line: str, fields: Fields, ended: bool) -> bool:
    cells = line.split("|")
    if len(cells) < len(fields):
        return True
    name, kind = fields[-1]
    if ended or len(cells) > len(fields):
        return False
    # all fields are there but the line end is not: whether the last value is whole shows only by its kind
    return (kind == "guid" and len(cells[-1].strip()) < GUID_LENGTH) or (
        name == "collage_file" and "." not in cells[-1]
    )


def _declared_fields(lines: list[str], path: Path | str | None) -> Fields:
    key, _, number = lines[1].partition("|") if len(lines) > 1 else ("", "", "")
    if (
        key.strip() != "num-fields"
        or not re.fullmatch(r"[0-9]{1,9}", number.strip())
        or not 0 < int(number) <= MAX_FIELDS
    ):
        found = lines[1][:40] if len(lines) > 1 else ""
        raise ReadError(f"expected 'num-fields|N', got {found!r}", path=path, row=2)
    count = int(number)
    if len(lines) < 2 + count:
        raise ReadError(
            f"the list declares {count} fields but ends after {len(lines) - 2} of them", path=path, row=len(lines),
            hint="the file is cut off; copy it from the instrument again",
        )  # fmt: skip
    fields = []
    for row, line in enumerate(lines[2 : 2 + count], start=3):
        name, bar, kind = line.strip().partition("|")
        if not bar or not name or kind not in TYPES:
            expected = f"'name|type' with a type of {', '.join(TYPES)}"
            raise ReadError(f"expected {expected}, got {line[:60]!r}", path=path, row=row)
        fields.append((name, kind))
    names = [name for name, _ in fields]
    if "id" not in names:
        raise ReadError("the list declares no field 'id': its particles have no identity", path=path, row=2)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ReadError(f"the list declares {repeated[0]!r} more than once", path=path, row=2)
    return tuple(fields)
