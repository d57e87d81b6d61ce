"""Rows of text -> typed columns with identity, box and collage of each particle; the same for every kind of list."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from plankter.formats.flowcam_fields import Fields
from plankter.formats.flowcam_text import base_name
from plankter.types import NO_BOX, Array, Flag, Severity

TEXT_TYPES = ("string", "guid", "timestamp")
CHUNK_ROWS = 20_000  # text takes ten times the room of numbers: it is turned into them piece by piece
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Layout:
    """Which fields hold a particle's identity, its box (x, y, width, height) and the file name of its collage."""

    id: str = "id"
    box: tuple[str, str, str, str] = ("image_x", "image_y", "image_w", "image_h")
    collage: str = "collage_file"


@dataclass(frozen=True)
class RawRow:
    """One row as text. ``row`` is its line in the file from 1; ``problem`` says why its fields cannot be trusted."""

    row: int
    cells: list[str]
    problem: str | None = None


@dataclass(frozen=True)
class ListTable:
    """A particle list by column, in the file's order.

    Attributes:
        version: "017", "013" or "csv".
        fields: (name, type) as declared.
        label: the list's own id of each particle, as text.
        collage: base name of each particle's collage, None where the list names none.
        box: int32 (n, 4): x, y, width, height in the collage, px; `NO_BOX` where unknown.
        columns: field -> float64 (NaN where unreadable) or text array (n,).
        failure: what is broken in a row's identity or box, None where nothing is.
        row: line in the file of each particle, from 1.
        flags: what is odd about the list.
        has_boxes: whether the list declares boxes and collages at all.
    """

    version: str
    fields: Fields
    label: tuple[str, ...]
    collage: tuple[str | None, ...]
    box: npt.NDArray[np.int32]
    columns: dict[str, Array]
    failure: tuple[str | None, ...]
    row: npt.NDArray[np.int64]
    flags: tuple[Flag, ...]
    has_boxes: bool

    def __len__(self) -> int:
        return len(self.label)


def cut_flag(row: int) -> Flag:
    """What is said of a list whose last row is not whole."""
    message = (
        f"the list is cut off in row {row}: that particle and all that followed are missing, so counts are too low; "
        "copy the file from the instrument again"
    )
    return Flag("list-truncated", message, Severity.ERROR, row=row)


def build_table(
    version: str, fields: Fields, rows: Iterable[RawRow], flags: Sequence[Flag] = (), *, layout: Layout | None = None
) -> ListTable:
    """Turns rows into columns; a row that cannot be trusted stays, with ``failure``, at its place.

    Args:
        version: kept as it is.
        fields: (name, type) of each cell, ``layout.id`` among them.
        rows: each with as many cells as fields, or with ``problem``.
        flags: found so far; those about unreadable numbers are added.
        layout: which fields hold identity, box and collage.
    """
    layout = layout or Layout()
    types = dict(fields)
    parts: dict[str, list[Array]] = {name: [] for name in types}
    broken: dict[str, list[int]] = {}
    numbers: list[int] = []
    problems: list[str | None] = []
    ids: list[str] = []
    id_at = list(types).index(layout.id)
    waiting = iter(rows)
    while chunk := list(islice(waiting, CHUNK_ROWS)):
        numbers += [row.row for row in chunk]
        problems += [row.problem for row in chunk]
        cells = [(row.cells + [""] * (len(fields) - len(row.cells)))[: len(fields)] for row in chunk]
        ids += [row[id_at].strip() for row in cells]
        for (name, kind), column in zip(fields, zip(*cells, strict=True), strict=True):
            parts[name].append(_text(column) if kind in TEXT_TYPES else _numbers(name, column, chunk, broken))
    columns = {name: _joined(parts[name], types[name] in TEXT_TYPES) for name in types}
    has_boxes = layout.collage in types and all(name in types for name in layout.box)
    box, box_problems = _boxes([columns[name] for name in layout.box] if has_boxes else None, len(ids))
    label, id_problems = _labels(columns[layout.id], ids)
    failure = tuple(
        problem or _row_problem(row, of_id, of_box)
        for problem, row, of_id, of_box in zip(problems, numbers, id_problems, box_problems, strict=True)
    )
    failed = np.array([reason is not None for reason in failure], bool)
    box[failed] = NO_BOX
    # the one array of collages is kept by name, so that a million rows share a few hundred texts
    known: dict[str, str | None] = {}
    named = [str(text) for text in columns[layout.collage]] if has_boxes else [""] * len(ids)
    collage = tuple(known.setdefault(text, base_name(text) or None) for text in named)
    return ListTable(
        version, fields, label, collage, box, columns, failure, np.array(numbers, np.int64),
        (*flags, *_number_flags(broken, layout), *_failure_flags(failure, numbers)), has_boxes,
    )  # fmt: skip


def _text(column: Sequence[str]) -> Array:
    values = np.empty(len(column), object)
    values[:] = [text.strip() for text in column]
    return values


def _numbers(name: str, column: Sequence[str], chunk: Sequence[RawRow], broken: dict[str, list[int]]) -> Array:
    try:
        values = np.array(list(map(float, column)), np.float64)
    except ValueError:
        values = np.array([_number(text) for text in column], np.float64)
    values[~np.isfinite(values)] = np.nan
    for position in np.flatnonzero(np.isnan(values)).tolist():
        if chunk[position].problem is None:
            broken.setdefault(name, []).append(chunk[position].row)
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _joined(parts: list[Array], text: bool) -> Array:
    return np.concatenate(parts) if parts else np.empty(0, object if text else np.float64)


def _boxes(columns: list[Array] | None, n: int) -> tuple[npt.NDArray[np.int32], list[str | None]]:
    if columns is None:
        return np.full((n, 4), NO_BOX, np.int32), [None] * n
    values = np.stack(columns, axis=1) if n else np.empty((0, 4))
    with np.errstate(invalid="ignore"):
        good = np.all((values == np.floor(values)) & (values >= [0, 0, 1, 1]) & (values <= LARGEST), axis=1)
    box = np.where(good[:, None], np.nan_to_num(values, nan=NO_BOX, posinf=NO_BOX, neginf=NO_BOX), NO_BOX)
    problems: list[str | None] = [None] * n
    for i in np.flatnonzero(~good):
        x, y, width, height = values[i]
        problems[i] = f"the box x={x:g} y={y:g} width={width:g} height={height:g} is no box in px"
    return box.astype(np.int32), problems


def _labels(column: Array, texts: Sequence[str]) -> tuple[tuple[str, ...], list[str | None]]:
    labels: list[str] = []
    problems: list[str | None] = []
    text_ids = column.dtype == object
    for value, text in zip(column, texts, strict=True):
        whole = not text_ids and math.isfinite(value) and value == int(value)
        labels.append(str(int(value)) if whole else text)
        problems.append(None if whole or (text_ids and text) else f"the id {text[:20]!r} is no whole number")
    return tuple(labels), problems


def _row_problem(row: int, *problems: str | None) -> str | None:
    found = [problem for problem in problems if problem]
    return f"row {row} of the list is broken: {'; '.join(found)}" if found else None


def _number_flags(broken: dict[str, list[int]], layout: Layout) -> list[Flag]:
    flags = []
    for name, rows in broken.items():
        if name in (layout.id, *layout.box):
            continue  # said of the particle itself
        message = f"{len(rows)} values of {name} are no numbers and are left empty, the first in row {rows[0]}"
        flags.append(Flag("bad-number", message, row=rows[0]))
    return flags


def _failure_flags(failure: Sequence[str | None], rows: Sequence[int]) -> list[Flag]:
    failed = [i for i, reason in enumerate(failure) if reason is not None]
    if not failed:
        return []
    message = f"{len(failed)} rows of the list are broken and kept as failed particles; the first: {failure[failed[0]]}"
    return [Flag("rows-broken", message, row=rows[failed[0]])]
