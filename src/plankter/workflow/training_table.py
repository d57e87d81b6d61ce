"""The table beside a folder of classes: which sample, date or run each image is of, and what else is known of it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plankter._errors import ReadError
from plankter.classify.context import DATE_COLUMNS

MAX_BYTES = 500_000_000
FILE, SPLIT = ("file", "image", "filename", "file_name", "img_path"), "split"
GROUPS = ("group", "sample", "sample_id", "run", "run_id", "date", "sampled_at")
NAMED = 3


@dataclass(frozen=True)
class TrainingTable:
    """One row an image, in the order that was asked for.

    Attributes:
        groups: of each image, None where the table has no such column; an image that the table lacks is a group alone.
        grouped_by: the column's name.
        parts: the column ``split``, None where there is none.
        columns: what else the table says of each image.
        warnings: images that it lacks.
    """

    groups: tuple[str, ...] | None
    grouped_by: str | None
    parts: tuple[str, ...] | None
    columns: tuple[dict[str, str], ...]
    warnings: tuple[str, ...]


def read_training_table(path: Path, names: Sequence[str]) -> TrainingTable:
    """Reads a CSV or TSV table with a column ``file``: an image's path inside the folder, or its name alone.

    Args:
        path: the table.
        names: of the images, as paths inside the folder with ``/``.

    Raises:
        ReadError: not readable, no column ``file``, a file named twice in contradiction, or no image found in it.
    """
    header, rows = _rows(path)
    column = _file_column(header, path)
    by_name: dict[str, dict[str, str]] = {}
    for number, row in rows:
        name = row[column].strip().replace("\\", "/").removeprefix("./")
        if by_name.setdefault(name, row) != row:
            raise ReadError(f"{name!r} stands twice with different values", path=path, row=number)
    bare = [name.rsplit("/", 1)[-1] for name in names]
    single = {name for name, times in Counter(bare).items() if times == 1}
    found = [
        by_name.get(name) or (by_name.get(b) if b in single else None) for name, b in zip(names, bare, strict=True)
    ]
    if not any(found):
        hint = f"it names e.g. {next(iter(by_name), '(nothing)')!r}, the folder holds e.g. {names[0]!r}"
        raise ReadError("none of the images is in the table", path=path, hint=hint)
    absent = [name for name, row in zip(names, found, strict=True) if row is None]
    warnings = []
    if absent:
        shown = ", ".join(absent[:NAMED]) + (", ..." if len(absent) > NAMED else "")
        warnings.append(f"{len(absent)} of {len(names)} images are not in {path.name}: {shown}")
    by = next((name for wanted in GROUPS for name in header if name.strip().lower() == wanted), None)
    split = next((name for name in header if name.strip().lower() == SPLIT), None)
    groups = None
    if by is not None:
        groups = tuple(
            (row[by].strip() if row else "") or f"alone: {name}" for name, row in zip(names, found, strict=True)
        )
    parts = None if split is None else tuple(row[split] if row else "train" for row in found)
    special = {column, split} | ({by} if by and by.strip().lower() in ("group", "sample_id", "run_id") else set())
    columns = tuple({k: v for k, v in row.items() if k not in special} if row else {} for row in found)
    return TrainingTable(groups, by, parts, columns, tuple(warnings))


@dataclass(frozen=True)
class TableColumn:
    """One column of a user's table: ``kind`` number, date or text; how many rows know it; one of its values."""

    name: str
    kind: str
    known: int
    example: str


def describe_table(path: Path) -> tuple[int, str, list[TableColumn]]:
    """Rows of a table beside a folder, its column of file names, and what its other columns hold.

    Raises:
        ReadError: as `read_training_table`.
    """
    header, rows = _rows(path)
    file = _file_column(header, path)
    columns = []
    for name in header:
        if name == file or name.strip().lower() == SPLIT:
            continue
        cells = [cell for _, row in rows if (cell := row[name].strip())]
        kind = "number" if cells and all(_is_number(cell) for cell in cells) else "text"
        kind = "date" if name in DATE_COLUMNS else kind
        columns.append(TableColumn(name, kind, len(cells), cells[0] if cells else ""))
    return len(rows), file, columns


def cut_table(path: Path, out: Path, columns: Mapping[str, str]) -> None:
    """Writes a table with the column of files, that of the split where there is one, and those of ``columns``: name in
    the table -> name in the new one.

    Raises:
        ReadError: as `read_training_table`, or no such column.
    """
    header, rows = _rows(path)
    file = _file_column(header, path)
    if absent := sorted(set(columns) - set(header)):
        raise ReadError(f"the table has no column {absent[0]!r}", path=path)
    taken = {file: "file", **{name: SPLIT for name in header if name.strip().lower() == SPLIT}, **columns}
    with out.open("w", newline="", encoding="utf-8") as to:
        writer = csv.writer(to)
        writer.writerow(taken.values())
        writer.writerows([row[name] for name in taken] for _, row in rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _file_column(header: Sequence[str], path: Path) -> str:
    column = next((name for name in header if name.strip().lower() in FILE), None)
    if column is None:
        raise ReadError(f"expected a column 'file', got {', '.join(header[:10])}", path=path, row=1)
    return column


def _rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ReadError(f"a table of more than {MAX_BYTES:,} bytes is not read", path=path)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"expected a table in UTF-8: {error}", path=path) from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [name for name in reader.fieldnames or () if name]
        for cells in reader:
            rows.append((reader.line_num, _plain(cells, header)))
    except csv.Error as error:
        raise ReadError(f"expected a table: {error}", path=path, row=reader.line_num) from error
    return header, rows


def _plain(cells: Mapping[str, str | None], header: Sequence[str]) -> dict[str, str]:
    return {name: cells.get(name) or "" for name in header}
