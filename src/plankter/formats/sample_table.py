"""Sample metadata as people keep it: a table in CSV, TSV or Excel with a ``run`` column."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from plankter._errors import ReadError
from plankter.types import Sample

SYNONYMS = {
    "run": ("run", "run_name", "run_id", "flowcam_run", "file", "folder"),
    "sample_id": ("sample_id", "sample", "event_id", "eventid", "station_visit"),
    "station": ("station", "station_name", "location"),
    "sampled_at": ("sampled_at", "time_utc", "datetime", "date_time", "eventdate", "event_date", "date", "time"),
    "latitude_deg": ("latitude_deg", "latitude", "lat", "decimallatitude"),
    "longitude_deg": ("longitude_deg", "longitude", "lon", "long", "decimallongitude"),
    "depth_min_m": ("depth_min_m", "depth_m", "depth", "minimumdepthinmeters"),
    "depth_max_m": ("depth_max_m", "maximumdepthinmeters"),
    "volume_filtered_l": ("volume_filtered_l", "volume_filtered", "filtered_l"),
    "concentrated_volume_ml": ("concentrated_volume_ml", "concentrate_ml", "concentrated_ml"),
    "net_mesh_um": ("net_mesh_um", "mesh_um", "mesh"),
    "dilution_factor": ("dilution_factor", "dilution"),
}
NUMBERS = tuple(SYNONYMS)[4:]


@dataclass(frozen=True)
class SampleRow:
    """One row of the table: which run, and its sample."""

    run: str
    sample: Sample


def read_sample_table(path: Path) -> list[SampleRow]:
    """Reads sample metadata; columns that are not a sample's own become environment values.

    A time without a zone is taken as UTC. Decimal commas are accepted where the separator is not a comma.

    Raises:
        ReadError: no such file, no table, no ``run`` column, or a value that cannot be what its column says.
    """
    rows = _excel_rows(path) if path.suffix.lower() in (".xlsx", ".xlsm") else _text_rows(path)
    if not rows:
        raise ReadError("the sample table is empty: expected a header row", path=path)
    columns = _columns([str(cell or "") for cell in rows[0]], path)
    found = []
    for number, row in enumerate(rows[1:], start=2):
        cells = ["" if cell is None else cell for cell in row] + [""] * (len(columns) - len(row))
        if any(str(cell).strip() for cell in cells):
            found.append(_sample_row(columns, cells, path, number))
    return found


def _columns(header: Sequence[str], path: Path) -> list[str]:
    columns, known = [], {alias: name for name, aliases in SYNONYMS.items() for alias in aliases}
    for title in header:
        key = title.strip().lower().replace(" ", "_").lstrip("\ufeff")
        name = known.get(key, key)
        if name and name in columns:
            raise ReadError(f"two columns mean {name}: {', '.join(header)}", path=path, row=1)
        columns.append(name)
    if "run" not in columns:
        hint = "its cells hold the run's name, folder or run_id"
        raise ReadError(f"expected a column 'run', found {', '.join(header)}", path=path, row=1, hint=hint)
    return columns


def _sample_row(columns: Sequence[str], cells: Sequence[object], path: Path, number: int) -> SampleRow:
    values: dict[str, object] = {}
    environment: dict[str, float | str] = {}
    for name, cell in zip(columns, cells, strict=False):
        text = str(cell).strip()
        if not text or not name:
            continue
        if name in NUMBERS:
            values[name] = _number(text, name, path, number)
        elif name == "sampled_at":
            values[name] = _time(cell, path, number)
        elif name in SYNONYMS:
            values[name] = text
        else:
            environment[name] = _number_or_text(text)
    run = str(values.pop("run", ""))
    if not run:
        raise ReadError("the cell of column 'run' is empty", path=path, row=number)
    values.setdefault("sample_id", run)
    try:
        return SampleRow(run, Sample(environment=environment, **values))  # type: ignore[arg-type]
    except ValueError as error:
        raise ReadError(str(error), path=path, row=number) from error


def _number(text: str, name: str, path: Path, row: int) -> float:
    value = _number_or_text(text)
    if isinstance(value, str):
        raise ReadError(f"column {name}: expected a number, got {text!r}", path=path, row=row)
    return value


def _number_or_text(text: str) -> float | str:
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _time(cell: object, path: Path, row: int) -> datetime:
    if isinstance(cell, datetime):
        found = cell
    elif isinstance(cell, date):
        found = datetime(cell.year, cell.month, cell.day)
    else:
        try:
            found = datetime.fromisoformat(str(cell).strip())
        except ValueError as error:
            message = f"column sampled_at: expected ISO 8601 such as 2021-04-26T09:30Z, got {cell!r}"
            raise ReadError(message, path=path, row=row) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _text_rows(path: Path) -> list[list[object]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror}", path=path) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    first = text.split("\n", 1)[0]
    separator = max(("\t", ";", ","), key=first.count)
    try:
        return [list(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)]
    except csv.Error as error:
        raise ReadError(f"expected a table separated by {separator!r}: {error}", path=path) from error


def _excel_rows(path: Path) -> list[list[object]]:
    import zipfile

    try:
        import openpyxl
    except ImportError as error:
        hint = "save the sheet as CSV, or install it: pip install 'plankter[excel]'"
        raise ReadError("Excel workbooks need the package openpyxl", path=path, hint=hint) from error

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles that openpyxl leaves out do not concern the values
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ReadError(f"expected an Excel workbook: {error}", path=path) from error
    try:
        return [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
    finally:
        book.close()
