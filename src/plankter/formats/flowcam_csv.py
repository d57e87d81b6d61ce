"""VisualSpreadsheet's CSV exports: version 1.5 (`data_export.csv`), 4 (`RUN.csv`), 5 and 6 (with `UUID`), summaries."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

from plankter._errors import ReadError
from plankter.formats.flowcam_columns import Layout, ListTable, RawRow, build_table
from plankter.formats.flowcam_fields import Fields
from plankter.formats.flowcam_text import split_lines

# header without unit, spaces and case -> the list's field; ids are tried in this order
_IDS = ("captureid", "particleid", "id")
_RENAMED = {
    "imagefile": "collage_file", "filename": "collage_file", "collagefile": "collage_file",
    "imagex": "image_x", "savex": "image_x", "imagey": "image_y", "savey": "image_y",
    "imagewidth": "image_w", "pixelw": "image_w", "imageheight": "image_h", "pixelh": "image_h",
    "capturex": "src_x", "capturey": "src_y", "sourceimage": "src_image", "calibrationimage": "cal_image",
    "calibrationfactor": "cal_const", "calconst": "cal_const", "particlesperchain": "ppc", "ppc": "ppc",
    "area(abd)": "abd_area", "diameter(abd)": "abd_diameter", "diameter(esd)": "esd_diameter",
    "diameter(fd)": "fd_diameter", "area(filled)": "filled_area", "circularity(hu)": "circularity_hu",
    "averagered": "avg_red", "avgred": "avg_red", "averagegreen": "avg_green", "avggreen": "avg_green",
    "averageblue": "avg_blue", "avgblue": "avg_blue", "feretanglemax": "feret_max_angle",
    "feretmaxangle": "feret_max_angle", "feretanglemin": "feret_min_angle", "convexperimeter": "convex_perimeter",
    "sigmaintensity": "sigma_intensity", "sumintensity": "sum_intensity", "edgegradient": "edge_gradient",
    "elapsedtime": "elapsed_time", "circlefit": "circle_fit", "uuid": "image_id", "originalreferenceid": "image_id",
}  # fmt: skip
_UNIT = re.compile(r"\s*\((?:um|µm|μm|px|s|ms|mm|ml|µl|deg|degrees|°|%|pixels?)[^)]*\)\s*$", re.IGNORECASE)
_SEPARATORS = (",", ";", "\t")


def header_of(text: str) -> tuple[list[str], str] | None:
    """Column names and separator where the text begins like an export of particles, else None."""
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip()
    for separator in _SEPARATORS:
        names = next(csv.reader([first], delimiter=separator), [])
        plain = {_plain(name) for name in names}
        if len(names) > 3 and plain & {*_IDS, "uuid"} and plain & {"length", "width", "diameter(esd)", "timestamp"}:
            return [name.strip() for name in names], separator
    return None


def is_identity_header(names: list[str]) -> bool:
    """Whether the header is that of VisualSpreadsheet 5 or 6, which write no list beside it."""
    return bool({_plain(name) for name in names} & {"uuid", "captureid"})


def parse_export(text: str, *, path: Path | str | None = None) -> ListTable:
    """Reads an export of particles; columns get the list's field names where they mean the same.

    Raises:
        ReadError: the first line is no header of particles.
    """
    found = header_of(text)
    if found is None:
        raise ReadError(
            "expected a header with an id ('Capture ID', 'Particle ID' or 'Id') and measures such as 'Length'",
            path=path, row=1,
        )  # fmt: skip
    names, separator = found
    fields_by_name = _field_names(names)
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff").replace("\0", ""), newline=""), delimiter=separator)
    next(reader, None)
    try:
        rows = [RawRow(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ReadError(f"no CSV: {error}", path=path, row=reader.line_num) from error
    if separator == ";":
        rows = [RawRow(row.row, [_dotted(cell) for cell in row.cells]) for row in rows]
    fields: Fields = tuple(
        (name, "double" if name in _NUMERIC or _is_numeric(rows, at) else "string")
        for at, name in enumerate(fields_by_name)
    )
    return build_table("csv", fields, _checked(rows, len(fields)), layout=Layout(id="id"))


_NUMERIC = ("image_x", "image_y", "image_w", "image_h")


def _checked(rows: list[RawRow], width: int) -> Iterator[RawRow]:
    for row in rows:
        if len(row.cells) == width:
            yield row
        else:
            yield RawRow(row.row, row.cells[:1], f"row {row.row} has {len(row.cells)} columns, expected {width}")


def _field_names(names: list[str]) -> list[str]:
    plain = [_plain(name) for name in names]
    id_column = next((name for name in _IDS if name in plain), "uuid")
    fields: list[str] = []
    for name, short in zip(names, plain, strict=True):
        field = "id" if short == id_column else _RENAMED.get(short, "")
        field = field or re.sub(r"[^a-z0-9]+", "_", _UNIT.sub("", name).lower()).strip("_") or "column"
        base, number = field, 1
        while field in fields:
            number += 1
            field = f"{base}_{number}"
        fields.append(field)
    return fields


def _plain(name: str) -> str:
    return _UNIT.sub("", name).replace(" ", "").replace("_", "").lower()


def _dotted(cell: str) -> str:
    return cell.replace(",", ".") if re.fullmatch(r"\s*-?\d+,\d+(?:[eE][-+]?\d+)?\s*", cell) else cell


def _is_numeric(rows: list[RawRow], at: int) -> bool:
    # a column is numbers where most of its cells are: one damaged cell must not turn all others into text
    given = [row.cells[at].strip() for row in rows if at < len(row.cells) and row.cells[at].strip()]
    return bool(given) and sum(map(_is_number, given)) > 0.5 * len(given)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def parse_summary_csv(text: str) -> dict[str, str]:
    """``Key,Value`` lines of a `_summary.csv` up to its statistics; of a repeated key the first stands."""
    values: dict[str, str] = {}
    for line in split_lines(text.lstrip("\ufeff")):
        cells = next(csv.reader([line.replace("\0", "")]), [])
        if cells and cells[0].strip().lower().startswith("summary stats"):
            break
        if len(cells) >= 2 and cells[0].strip():
            values.setdefault(cells[0].strip(), cells[1].strip())
    return values
