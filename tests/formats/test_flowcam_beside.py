"""Context, labels, run summary and exports beside a list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plankter._errors import ReadError
from plankter.formats.flowcam_cla import parse_cla, write_cla
from plankter.formats.flowcam_csv import header_of, is_identity_header, parse_export, parse_summary_csv
from plankter.formats.flowcam_ctx import ctx_number, parse_ctx, write_ctx
from plankter.formats.flowcam_summary import parse_run_summary, summary_number, summary_value, write_run_summary

names = st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(names, st.dictionaries(names, names | st.just(""), max_size=4), max_size=4))
def test_a_context_is_read_as_written(sections: dict[str, dict[str, str]]) -> None:
    assert parse_ctx(write_ctx(sections)) == sections


def test_a_context_keeps_values_with_equal_signs_and_blanks() -> None:
    text = "junk\r\n[Fluid]\r\nA= \r\nB=x=y\r\nFlowCellDepth=300.0\r\n[X]\r\nN=nan\r\n"
    sections = parse_ctx(text)
    assert sections == {"Fluid": {"A": "", "B": "x=y", "FlowCellDepth": "300.0"}, "X": {"N": "nan"}}
    assert ctx_number(sections, "Fluid", "FlowCellDepth") == 300
    assert ctx_number(sections, "Fluid", "A") is None
    assert ctx_number(sections, "X", "N") is None
    assert ctx_number(sections, "Nowhere", "N") is None
    assert write_ctx({"Fluid": {"A": ""}}) == "[Fluid]\r\nA= \r\n"


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(names, st.dictionaries(names, st.lists(st.integers(0, 10**6), max_size=5), max_size=4), max_size=3)
)
def test_labels_are_read_as_written(classifications: dict[str, dict[str, list[int]]]) -> None:
    found = parse_cla(write_cla(classifications))
    assert {one.name: {c.name: list(c.ids) for c in one.classes} for one in found} == classifications


def test_labels_with_filters() -> None:
    text = "v3\r\n1\r\nmine\r\n2\r\nJunk\r\nAND\r\n2\r\nC:\\a b.flt\r\nC:\\c.flt\r\n1\r\n4\r\nRest\r\nOR\r\n0\r\n0\r\n"
    (found,) = parse_cla(text)
    assert found.name == "mine"
    assert found.classes[0].filters == ("C:\\a b.flt", "C:\\c.flt")
    assert found.classes[0].logic == "AND"
    assert [c.ids for c in found.classes] == [(4,), ()]


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ("v2\n1\n", 1, "version 'v2'; expected 'v3'"),
        ("v3\n1\nx\n1\nA\nOR\n0\n2\n5\n", 10, "the file ends where the id of a particle was expected"),
        ("v3\n1\nx\n1\nA\nXOR\n0\n0\n", 6, "expected 'OR' or 'AND'"),
        ("v3\n1\nx\n1\nA\nOR\n0\n1\nfive\n", 9, "got 'five'"),
        ("v3\n4000000000\n", 2, "more than the file has lines"),
    ],
)
def test_broken_labels_are_refused_with_their_row(text: str, row: int, message: str) -> None:
    with pytest.raises(ReadError, match=message) as caught:
        parse_cla(text, path="x.cla")
    assert caught.value.row == row


def test_a_run_summary_is_read_as_written_and_keys_may_repeat() -> None:
    sections = {
        "Run": [("Mode", "AutoImage"), ("Fluid Volume Imaged", "0.2510 ml")],
        "Images": [("Particles Per Image", "0.23"), ("Particles Per Image", "0.24")],
        "Date/Time": [("Start", "2017-01-31 19:00:18")],
    }
    text = write_run_summary(sections)
    assert text.startswith("Run:\r\n\tMode:  AutoImage\r\n")
    found = parse_run_summary(text)
    assert found == sections
    assert summary_number(found, "Run", "Fluid Volume Imaged") == 0.2510
    assert summary_value(found, "Date/Time", "Start") == "2017-01-31 19:00:18"
    assert summary_value(found, "Images", "Particles Per Image") == "0.23"
    assert summary_number(found, "Run", "Mode") is None
    assert summary_number(found, "Nowhere", "Mode") is None


NEW = (
    "Name,Area (ABD) (µm²),Length (µm),Capture X (px),Image File,Image X (px),Image Y (px),Image Width (px),"
    "Image Height (px),Elapsed Time (s),Capture ID,Timestamp,UUID\r\n"
    "diatom,12.5,4.25,100,collage_1.png,0,0,20,30,1.5,17,2024-05-01T10:00:00,C60339F4-9D66-4CC9-9EE1-5966639FC33C\r\n"
    "other,oops,4.5,101,collage_1.png,20,0,-1,30,1.6,18,2024-05-01T10:00:01,C60339F4-9D66-4CC9-9EE1-5966639FC33D\r\n"
    "other,3.5,4.5,101,collage_1.png,40,0,5,30,1.6,19,2024-05-01T10:00:01,C60339F4-9D66-4CC9-9EE1-5966639FC33E\r\n"
)


def test_an_export_of_version_5_or_6_identifies_particles() -> None:
    header = header_of(NEW)
    assert header is not None and is_identity_header(header[0])
    table = parse_export(NEW)
    assert table.label == ("17", "18", "19")
    assert table.collage == ("collage_1.png",) * 3
    assert table.box[0].tolist() == [0, 0, 20, 30]
    assert "width=-1" in str(table.failure[1])
    assert table.columns["length"].tolist() == [4.25, 4.5, 4.5]
    assert table.columns["abd_area"][0] == 12.5
    assert table.columns["src_x"].tolist() == [100, 101, 101]
    assert list(table.columns["name"]) == ["diatom", "other", "other"]
    assert any(flag.code == "bad-number" and flag.row == 3 for flag in table.flags)


def test_an_export_with_semicolons_and_decimal_commas() -> None:
    table = parse_export("Capture ID;Length (um);Width (um);UUID\n5;4,25;1,5;a\n")
    assert table.columns["length"].tolist() == [4.25]
    assert table.columns["width"].tolist() == [1.5]
    assert not table.has_boxes


def test_older_exports_do_not_identify_a_run() -> None:
    old = header_of("Id,Area (ABD),Diameter (ABD),Length,Width,Filename\n")
    middle = header_of("Particle ID,Area (ABD),Length,Original Reference ID,Width\n")
    assert old is not None and not is_identity_header(old[0])
    assert middle is not None and not is_identity_header(middle[0])
    assert header_of("time,temperature\n1,2\n") is None
    with pytest.raises(ReadError, match="expected a header"):
        parse_export("time,temperature\n1,2\n")


def test_a_summary_csv_up_to_its_statistics() -> None:
    text = "List File,a.lst\r\nCount,1000\r\n\r\nSample Volume Imaged ml,0.1418\r\nSummary Stats,Mean\r\nLength,8.3\r\n"
    assert parse_summary_csv(text) == {"List File": "a.lst", "Count": "1000", "Sample Volume Imaged ml": "0.1418"}
