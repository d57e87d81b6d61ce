"""Particle lists: what is written is read, and what is broken stays at its place."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plankter._errors import ReadError
from plankter.formats.flowcam_fields import V013_COLUMNS, V013_COLUMNS_47
from plankter.formats.flowcam_lst import V017_FIELDS, looks_like_list, parse_lst, write_lst
from plankter.formats.flowcam_text import base_name, decode_text
from plankter.formats.flowcam_time import from_filetime
from plankter.types import NO_BOX, Severity

GUID = "C60339F4-9D66-4CC9-9EE1-5966639FC33C"


def small(n: int = 3, **more: list[object]) -> str:
    columns: dict[str, list[object]] = {
        "id": list(range(1, n + 1)),
        "image_x": [10 * i for i in range(n)],
        "image_y": [0] * n,
        "image_w": [8] * n,
        "image_h": [9] * n,
        "raw_area": [40.5] * n,
        "timestamp": ["2025-04-11T15:53:46.806"] * n,
        "collage_file": ["RUN_000001.tif"] * n,
        "image_id": [GUID] * n,
    }
    return write_lst({**columns, **more}, n)


def test_the_canonical_list_has_65_fields_in_visualspreadsheets_order() -> None:
    assert len(V017_FIELDS) == 65
    assert V017_FIELDS[0] == ("id", "int32")
    assert V017_FIELDS[26] == ("abd_diameter", "double")
    assert V017_FIELDS[-3:] == (("timestamp", "timestamp"), ("collage_file", "string"), ("image_id", "guid"))


def test_written_lines_are_as_the_instrument_writes_them() -> None:
    lines = small(1).split("\n")
    assert lines[:4] == ["017", "num-fields|65", "id|int32", "image_x|int32"]
    assert lines[67].startswith("1|0|0|8|9|0|0|")
    assert lines[67].endswith(f"|2025-04-11T15:53:46.806|RUN_000001.tif|{GUID}")
    assert "|40.5000|" in lines[67]
    assert lines[68:] == [""]


text_values = st.text(
    st.characters(codec="utf-8", exclude_characters="|\r\n\0", exclude_categories=["Cs", "Zl", "Zp", "Cc", "Zs"]),
    max_size=12,
)
row_values = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**31), 2**31 - 1),
        "image_x": st.integers(0, 5000),
        "image_y": st.integers(0, 5000),
        "image_w": st.integers(1, 5000),
        "image_h": st.integers(1, 5000),
        "raw_area": st.floats(-1e9, 1e9),
        "collage_file": text_values,
        "image_id": st.uuids().map(lambda u: str(u).upper()),
    }
)


@settings(deadline=None, max_examples=60)
@given(st.lists(row_values, max_size=30), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.booleans())
def test_what_is_written_is_read(rows: list[dict[str, object]], encoding: str, crlf: bool) -> None:
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    text = write_lst(columns, len(rows))
    table = parse_lst(decode_text((text.replace("\n", "\r\n") if crlf else text).encode(encoding)))
    assert len(table) == len(rows)
    assert table.failure == (None,) * len(rows)
    assert table.label == tuple(str(row["id"]) for row in rows)
    assert table.box.tolist() == [[row[f"image_{key}"] for key in "xywh"] for row in rows]
    assert np.allclose(table.columns["raw_area"], [row["raw_area"] for row in rows], atol=5e-5, rtol=0)
    assert list(table.columns["image_id"]) == [row["image_id"] for row in rows]
    assert list(table.columns["collage_file"]) == [row["collage_file"] for row in rows]
    assert table.columns["abd_area"].tolist() == [0.0] * len(rows)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 2600))
def test_damage_never_raises_anything_but_a_read_error(noise: bytes, at: int) -> None:
    data = small(4).encode()
    damaged = data[:at] + noise + data[at + len(noise) :]
    try:
        table = parse_lst(decode_text(damaged))
    except ReadError:
        return
    assert len(table.box) == len(table) == len(table.failure)


def test_a_column_of_another_length_or_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'raw_area' has 2 values, expected 3"):
        small(3, raw_area=[1.0, 2.0])
    with pytest.raises(ValueError, match="'size' is no field"):
        small(1, size=[1])
    with pytest.raises(ValueError, match="separator"):
        small(1, collage_file=["a|b.tif"])


@pytest.mark.parametrize("dropped", [("fd_diameter",), tuple(n for n, _ in V017_FIELDS if n.startswith(("ch", "avg")))])
def test_fewer_fields_are_read_by_what_is_declared(dropped: tuple[str, ...]) -> None:
    fields = tuple(field for field in V017_FIELDS if field[0] not in dropped)
    table = parse_lst(
        write_lst(
            {"id": [7], "image_w": [3], "image_h": [4], "width": [2.5], "collage_file": ["a.tif"]}, 1, fields=fields
        )
    )
    assert set(table.columns) == {name for name, _ in fields}
    assert table.columns["width"].tolist() == [2.5]
    assert table.box.tolist() == [[0, 0, 3, 4]]
    assert table.collage == ("a.tif",)


def test_a_list_rewritten_by_a_script_is_read_the_same() -> None:
    rewritten = small(2).replace("\n1|0|0|8|9|", "\n1.0|0.0|0|8.0|9|").replace("40.5000", "40.5")
    table = parse_lst(rewritten)
    assert table.label == ("1", "2")
    assert table.box.tolist() == [[0, 0, 8, 9], [10, 0, 8, 9]]
    assert table.columns["raw_area"].tolist() == [40.5, 40.5]
    assert not table.flags


def test_only_the_base_name_of_a_collage_is_kept() -> None:
    names = ["C:\\data\\my run\\x_000001.tif", "../../etc/passwd", "/abs/y.tif", "..", "D:z.tif"]
    table = parse_lst(small(5, collage_file=list(names)))
    assert table.collage == ("x_000001.tif", "passwd", "y.tif", None, "z.tif")
    assert base_name("a/b/..") == ""


@pytest.mark.parametrize("cut", [5, 60, 300])
def test_a_cut_last_row_is_left_out_and_named(cut: int) -> None:
    table = parse_lst(small(3)[:-cut])
    assert table.label == ("1", "2")
    flag = next(flag for flag in table.flags if flag.code == "list-truncated")
    assert flag.row == 70
    assert flag.severity is Severity.ERROR
    assert table.failure == (None, None)


def test_a_missing_last_line_end_is_no_cut() -> None:
    table = parse_lst(small(3).rstrip("\n"))
    assert len(table) == 3
    assert not table.flags


def test_a_row_with_other_fields_fails_at_its_place() -> None:
    lines = small(3).split("\n")
    lines[68] = "2|10|0|8"
    table = parse_lst("\n".join(lines))
    assert table.label == ("1", "2", "3")
    assert table.failure[0] is None and table.failure[2] is None
    assert table.failure[1] == "row 69 of the list has 4 fields, expected 65"
    assert table.box[1].tolist() == [NO_BOX] * 4
    assert table.box[2].tolist() == [20, 0, 8, 9]
    assert [flag.code for flag in table.flags] == ["rows-broken"]


def test_a_broken_box_or_id_fails_the_particle_only() -> None:
    text = small(4).replace("\n2|10|0|8|9|", "\n2|10|0|-8|9|").replace("\n3|20|0|8|9|", "\nx?|20|0|8|9|")
    table = parse_lst(text)
    assert table.label == ("1", "2", "x?", "4")
    assert "width=-8" in str(table.failure[1])
    assert "'x?'" in str(table.failure[2])
    assert table.failure[0] is None and table.failure[3] is None


def test_a_bad_number_elsewhere_is_empty_and_flagged() -> None:
    text = small(3).replace("40.5000", "4O.5", 1).replace("40.5000", "nan", 1)
    table = parse_lst(text)
    assert np.isnan(table.columns["raw_area"][:2]).all()
    assert table.columns["raw_area"][2] == 40.5
    assert table.failure == (None,) * 3
    flag = next(flag for flag in table.flags if flag.code == "bad-number")
    assert "2 values of raw_area" in flag.message
    assert flag.row == 68


def test_an_empty_run_is_valid() -> None:
    table = parse_lst(write_lst({}, 0))
    assert len(table) == 0
    assert table.box.shape == (0, 4)
    assert table.columns["raw_area"].dtype == np.float64


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ("", 1, "empty"),
        ("021\nnum-fields|1\nid|int32\n", 1, "version '021'; expected '017'"),
        ("017\nfields 3\n", 2, "expected 'num-fields|N', got 'fields 3'"),
        ("017\nnum-fields|3\nid|int32\n", 3, "declares 3 fields but ends after 1"),
        ("017\nnum-fields|2\nid|int32\nimage_x\n", 4, "expected 'name|type'"),
        ("017\nnum-fields|1\nimage_x|int32\n", 2, "no field 'id'"),
        ("017\nnum-fields|2\nid|int32\nid|int32\n", 2, "more than once"),
        ("017\nnum-fields|99999999999\n", 2, "expected 'num-fields|N'"),
        ("013\nmany\n", 2, "expected the number of particles"),
        ("013\n1\n1:2:3:4\n1:2:3:4\n", 3, "expected 44 or 47 columns"),
    ],
)
def test_what_is_no_list_is_refused_with_its_row(text: str, row: int, message: str) -> None:
    with pytest.raises(ReadError) as caught:
        parse_lst(text, path="x.lst")
    assert message in str(caught.value)
    assert caught.value.row == row
    assert caught.value.path == "x.lst"


def old_row(number: int, columns: list[str], filename: str = "S_000001.tif") -> str:
    values = {name: "1.5" for name in columns} | {
        "id": str(number), "filename": filename, "save_x": "4", "save_y": "5", "pixel_w": "6", "pixel_h": "7",
        "high_u32": "29918088l", "low_u32": "2690079952l", "timestamp1": "29918088l", "timestamp2": "2690079952l",
    }  # fmt: skip
    return ":".join(values[name] for name in columns)


@pytest.mark.parametrize("columns", [V013_COLUMNS, V013_COLUMNS_47])
@pytest.mark.parametrize("filename", ["S_000001.tif", "C:\\FlowCam\\S_000001.tif"])
def test_version_013_with_44_and_47_columns(columns: list[str], filename: str) -> None:
    text = "013\r\n2           \r\n" + "".join(f"{old_row(i, columns, filename)}\r\n" for i in (1, 2))
    table = parse_lst(text)
    assert (len(V013_COLUMNS), len(V013_COLUMNS_47)) == (44, 47)
    assert table.version == "013"
    assert table.label == ("1", "2")
    assert table.collage == ("S_000001.tif",) * 2
    assert table.box.tolist() == [[4, 5, 6, 7]] * 2
    assert not table.flags
    high, low = ("high_u32", "low_u32") if len(columns) == 44 else ("timestamp1", "timestamp2")
    at = from_filetime(table.columns[high][0], table.columns[low][0])
    assert at is not None
    assert at.replace(microsecond=0) == datetime(2008, 3, 11, 15, 0, 20, tzinfo=UTC)
    assert at.microsecond // 1000 == 893


def test_version_013_knows_how_many_particles_it_should_hold() -> None:
    rows = [old_row(i, V013_COLUMNS) for i in (1, 2)]
    at_a_row = parse_lst(f"013\n9  \n{rows[0]}\n{rows[1]}\n")
    in_a_row = parse_lst(f"013\n2  \n{rows[0]}\n{rows[1][:50]}")
    more = parse_lst(f"013\n1  \n{rows[0]}\n{rows[1]}\n")
    assert [(flag.code, flag.row) for flag in at_a_row.flags] == [("list-truncated", 4)]
    assert [(flag.code, flag.row) for flag in in_a_row.flags] == [("list-truncated", 4)]
    assert [flag.code for flag in more.flags] == ["count-disagrees"]
    assert (len(at_a_row), len(in_a_row), len(more)) == (2, 1, 2)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_encoding_of_the_field(encoding: str) -> None:
    text = small(2, collage_file=["Blüte_µ.tif", "Blüte_µ.tif"])
    table = parse_lst(decode_text(text.encode(encoding)))
    assert table.collage == ("Blüte_µ.tif",) * 2
    assert table.label == ("1", "2")


def test_only_a_version_looks_like_a_list() -> None:
    assert looks_like_list("017\nnum-fields|65\n")
    assert looks_like_list("\ufeff013\r\n12 \r\n")
    assert not looks_like_list("\\documentclass{article}")
    assert not looks_like_list("")
