"""Tables are read back by the standard library's CSV reader and by Parquet readers, and compared value by value."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter._errors import PlankterError
from plankter._plugins import load
from plankter.publish.base import Results
from plankter.publish.csv_files import escape_cell
from plankter.publish.tables import CsvExporter, ParquetExporter


def results(name: str = "Copepoda", n: int = 3) -> Results:
    particles = pa.table(
        {
            "run_id": pa.array(["0123456789abcdef"] * n),
            "index": pa.array(range(n), pa.int64()),
            "label": pa.array([name] * n),
            "score": pa.array([0.1, math.nan, None][:n] + [0.5] * max(0, n - 3), pa.float32()),
            "esd_um": pa.array([-1.5e-7, 12.0, math.nan][:n] + [1.0] * max(0, n - 3), pa.float64()),
            "has_mask": pa.array([True, False, None][:n] + [True] * max(0, n - 3)),
        }
    )
    samples = pa.table({"sample_id": ["S1"], "environment": ['{"note": "a, b"}']})
    return Results(particles, samples, pa.table({"run_id": ["0123456789abcdef"], "sample_id": ["S1"]}))


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_csv_is_what_a_spreadsheet_wants(tmp_path: Path) -> None:
    found = CsvExporter().export(results('Ångström "x", y\nz'), tmp_path / "a" / "b")
    assert found.rows == {"particles.csv": 3, "samples.csv": 1, "runs.csv": 1} and not found.warnings
    raw = (tmp_path / "a" / "b" / "particles.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfrun_id,index,") and raw.endswith(b"\r\n")
    rows = read(tmp_path / "a" / "b" / "particles.csv")
    assert rows[0] == ["run_id", "index", "label", "score", "esd_um", "has_mask"]
    assert [row[2] for row in rows[1:]] == ['Ångström "x", y\nz'] * 3
    assert [row[3] for row in rows[1:]] == ["0.1", "", ""]
    assert float(rows[1][4]) == -1.5e-7 and rows[3][4] == "" and [row[5] for row in rows[1:]] == ["true", "false", ""]
    assert read(tmp_path / "a" / "b" / "samples.csv")[1] == ["S1", '{"note": "a, b"}']
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["particles.csv", "runs.csv", "samples.csv"]


def test_csv_longer_than_a_chunk(tmp_path: Path) -> None:
    CsvExporter().export(results(n=20_003), tmp_path)
    assert [int(row[1]) for row in read(tmp_path / "particles.csv")[1:]] == list(range(20_003))


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "--5", "-", "+32 475"]
)
def test_formulas_are_disarmed(text: str, tmp_path: Path) -> None:
    CsvExporter().export(results(text), tmp_path)
    assert read(tmp_path / "particles.csv")[1][2] == f"'{text}"


@pytest.mark.parametrize("text", ["-5", "+1.5e-3", "-.5", "a=b", "", "'x", "Acartia"])
def test_harmless_text_is_left_as_it_is(text: str) -> None:
    assert escape_cell(text) == text


@given(st.text())
def test_no_cell_starts_a_formula(text: str) -> None:
    cell = escape_cell(text)
    assert cell in (text, f"'{text}")
    if cell[:1] and cell[0] in "=+-@\t\r\n":
        float(cell)  # only a number may


def test_file_name_in_another_encoding_can_be_written() -> None:
    assert escape_cell("caf\udce9.png") == "caf\\udce9.png"


def test_parquet_keeps_types_and_nulls(tmp_path: Path) -> None:
    given_tables = results()
    found = ParquetExporter().export(given_tables, tmp_path)
    assert found.rows == {"particles.parquet": 3, "samples.parquet": 1, "runs.parquet": 1}
    back = pq.read_table(tmp_path / "particles.parquet")
    assert back.schema.equals(given_tables.particles.schema)
    assert back.drop_columns(["score", "esd_um"]).equals(given_tables.particles.drop_columns(["score", "esd_um"]))
    assert np.array_equal(back["esd_um"].to_numpy(), given_tables.particles["esd_um"].to_numpy(), equal_nan=True)
    assert pq.ParquetFile(tmp_path / "particles.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(("exporter", "suffix"), [(CsvExporter, "csv"), (ParquetExporter, "parquet")])
def test_own_files_are_replaced_others_never(
    exporter: type[CsvExporter] | type[ParquetExporter], suffix: str, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    exporter().export(results(n=2), tmp_path)
    exporter().export(results(n=3), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    before = (tmp_path / f"particles.{suffix}").read_bytes()
    (tmp_path / f"runs.{suffix}").write_text("somebody's runs")
    with pytest.raises(PlankterError, match="no export wrote") as error:
        exporter().export(results(n=1), tmp_path)
    assert f"runs.{suffix}" in str(error.value)
    assert (tmp_path / f"runs.{suffix}").read_text() == "somebody's runs"
    assert (tmp_path / f"particles.{suffix}").read_bytes() == before


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    good = results()
    bad = Results(good.particles, good.samples, pa.table({"run_id": pa.array([b"\xff\xfe"], pa.binary())}))
    with pytest.raises(pa.ArrowInvalid):  # a contract broken by the caller, after the first files were written
        CsvExporter().export(bad, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(PlankterError, match="expected a folder"):
        CsvExporter().export(results(), tmp_path / "out")


def test_an_empty_workspace_is_said(tmp_path: Path) -> None:
    assert CsvExporter().export(results(n=0), tmp_path).warnings


def test_exporters_enter_by_the_door_of_plugins() -> None:
    assert load("plankter.exporters", "csv") is CsvExporter and load("plankter.exporters", "parquet") is ParquetExporter
