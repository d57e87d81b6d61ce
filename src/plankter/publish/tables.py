"""Results as tables for others: a folder with particles, samples and runs, as CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plankter._errors import PlankterError
from plankter.publish.base import Exported, Results
from plankter.publish.csv_files import BOM, escape_cell, write_csv, written_whole

TABLES = ("particles", "samples", "runs")
OWNER_KEY = b"plankter.table"
_CHUNK_ROWS = 10_000


class CsvExporter:
    """``particles.csv``, ``samples.csv`` and ``runs.csv``; unknown values are empty cells."""

    def export(self, results: Results, to: Path) -> Exported:
        """Writes the three files into the folder ``to``; those of an earlier export are replaced, nothing else.

        Raises:
            PlankterError: ``to`` is a file, cannot be written, or holds somebody else's file of one of the names.
        """
        return _export(results, to, ".csv", _write_csv_table, _is_our_csv)


class ParquetExporter:
    """``particles.parquet``, ``samples.parquet`` and ``runs.parquet``, compressed with zstd."""

    def export(self, results: Results, to: Path) -> Exported:
        """Writes the three files into the folder ``to``; those of an earlier export are replaced, nothing else.

        Raises:
            PlankterError: ``to`` is a file, cannot be written, or holds somebody else's file of one of the names.
        """
        return _export(results, to, ".parquet", _write_parquet_table, _is_our_parquet)


def _export(
    results: Results, to: Path, suffix: str, write: Callable[[pa.Table, str, Path], None],
    is_ours: Callable[[Path, pa.Table], bool],
) -> Exported:  # fmt: skip
    tables = {name: getattr(results, name) for name in TABLES}
    paths = [to / f"{name}{suffix}" for name in TABLES]
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlankterError(
            f"expected a folder that can be made: {error.strerror}", path=to, hint="choose another --out"
        ) from error
    for path, table in zip(paths, tables.values(), strict=True):
        if (path.exists() or path.is_symlink()) and not (path.is_file() and is_ours(path, table)):
            raise PlankterError(
                "there already is a file of this name that no export wrote; it is left as it is",
                path=path,
                hint="choose an empty folder",
            )
    with written_whole(*paths) as parts:
        for (name, table), part in zip(tables.items(), parts, strict=True):
            write(table, name, part)
    rows = {path.name: table.num_rows for path, table in zip(paths, tables.values(), strict=True)}
    return Exported(to, rows, [] if tables["particles"].num_rows else ["no particles: nothing has been ingested"])


def _is_our_csv(path: Path, table: pa.Table) -> bool:
    start = BOM + (table.column_names[0] if table.num_columns else "").encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _write_csv_table(table: pa.Table, _name: str, path: Path) -> None:
    write_csv(path, table.column_names, _rows(table))


def _rows(table: pa.Table) -> Iterator[tuple[str | None, ...]]:
    for start in range(0, table.num_rows, _CHUNK_ROWS):
        chunk = table.slice(start, _CHUNK_ROWS)
        yield from zip(*(_cells(column) for column in chunk.columns), strict=True)


def _cells(column: pa.ChunkedArray) -> list[str | None]:
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    if pa.types.is_nested(kind):
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
    else:
        texts = pc.cast(column, pa.string()).to_pylist()
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return texts
    return [None if text is None else escape_cell(text) for text in texts]


def _is_our_parquet(path: Path, _table: pa.Table) -> bool:
    try:
        return OWNER_KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def _write_parquet_table(table: pa.Table, name: str, path: Path) -> None:
    marked = table.replace_schema_metadata({**(table.schema.metadata or {}), OWNER_KEY: name.encode()})
    pq.write_table(marked, path, compression="zstd")
