"""Sample metadata as people keep it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import openpyxl
import pytest

from plankter._errors import ReadError
from plankter.formats.sample_table import read_sample_table


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_with_synonyms_and_environment(tmp_path: Path) -> None:
    table = (
        "Run,Sample,Lat,Lon,Date,Depth,temperature_degC,sea state\nr1,s1,51.2,2.7,2021-04-26T09:30+02:00,3,9.5,calm\n"
    )
    (row,) = read_sample_table(write(tmp_path / "s.csv", table))
    assert row.run == "r1" and row.sample.sample_id == "s1"
    assert (row.sample.latitude_deg, row.sample.longitude_deg, row.sample.depth_min_m) == (51.2, 2.7, 3)
    assert row.sample.sampled_at == datetime(2021, 4, 26, 7, 30, tzinfo=UTC)
    assert row.sample.environment == {"temperature_degc": 9.5, "sea_state": "calm"}


def test_semicolons_decimal_commas_latin1_and_a_mark(tmp_path: Path) -> None:
    table = "run;station;latitude\nr1;Zeebr\xfcgge;51,33\n"
    assert read_sample_table(write(tmp_path / "a.csv", table, "latin-1"))[0].sample.latitude_deg == 51.33
    row = read_sample_table(write(tmp_path / "b.csv", table, "utf-8-sig"))[0]
    assert row.sample.station == "Zeebr\xfcgge" and row.sample.sample_id == "r1"


def test_excel(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["run", "sample_id", "sampled_at", "dilution"])
    book.active.append(["r1", "s1", datetime(2021, 4, 26), 2])
    book.active.append([None, None, None, None])
    book.save(tmp_path / "s.xlsx")
    (row,) = read_sample_table(tmp_path / "s.xlsx")
    assert row.sample.sampled_at == datetime(2021, 4, 26, tzinfo=UTC) and row.sample.dilution_factor == 2


@pytest.mark.parametrize(
    ("table", "message", "line"),
    [
        ("station,lat\na,1\n", "expected a column 'run'", 1),
        ("run,lat,latitude\na,1,1\n", "two columns mean latitude_deg", 1),
        ("run,lat\na,1\nb,north\n", "expected a number, got 'north'", 3),
        ("run,lat\na,99\n", "outside -90..90", 2),
        ("run,date\na,last week\n", "expected ISO 8601", 2),
        ("run,lat\n,4\n", "cell of column 'run' is empty", 2),
    ],
)
def test_a_wrong_table_names_file_and_row(tmp_path: Path, table: str, message: str, line: int) -> None:
    path = write(tmp_path / "s.csv", table)
    with pytest.raises(ReadError, match=message) as caught:
        read_sample_table(path)
    assert caught.value.path == str(path) and caught.value.row == line


def test_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be read"):
        read_sample_table(tmp_path / "absent.csv")
    with pytest.raises(ReadError, match="Excel"):
        read_sample_table(write(tmp_path / "s.xlsx", "no zip"))
    with pytest.raises(ReadError, match="empty"):
        read_sample_table(write(tmp_path / "e.csv", ""))
