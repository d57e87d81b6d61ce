"""A mapping with a mistake says which line and what was expected; values that do not fit say why."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plankter._errors import SettingsError
from plankter.formats.mapped_values import Unfit, number_of, text_of, time_of_value, value_at
from plankter.formats.mapping_file import Value, read_mapping
from plankter.formats.toml_lines import lines_of

GOOD = """# ours
[source]
address = "mongodb://h/db"
collection = "rois"
filter = { kind = "roi", after = 2020-01-01T00:00:00Z }

[run]
by = [
  "sample.cruise",  # ] not the end
  "sample.station",
]
um_per_px = 0.5
instrument = { value = "flowcam" }

[image]
kind = "path"
field = "image.path"
root = "images"

[label]
class = "label.taxon"
annotator = "label.by"

[label.names]
"cop odd.name" = "Copepoda"

[sample]
sample_id = "sample.cruise"
depth_min_m = { value = 3 }

[sample.environment]
temperature_degC = "ctd.t"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_mapping(tmp_path: Path) -> None:
    found = read_mapping(written(tmp_path, GOOD))
    assert (found.source.collection, found.source.name) == ("rois", "database.rois")
    assert found.source.filter["after"] == datetime(2020, 1, 1, tzinfo=UTC)
    assert found.run.by == ("sample.cruise", "sample.station") and found.run.um_per_px == Value(constant=0.5)
    assert found.run.instrument.of({}) == "flowcam"
    assert found.label is not None and found.label.names == {"cop odd.name": "Copepoda"}
    assert found.label.annotator.of({"label": {"by": "eva"}}) == "eva"
    assert found.sample.values["depth_min_m"].of({}) == 3 and found.results is None
    assert found.sample.environment["temperature_degC"].path == "ctd.t"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("collection =", "colection =", 4, "did you mean 'collection'"),
        ("[image]", "[imge]", 15, r"did you mean \[image\]"),
        ('kind = "path"', 'kind = "jpeg"', 16, "gridfs or binary or path or url, got 'jpeg'"),
        ('root = "images"\n', "", 15, "needs a root"),
        ('kind = "path"', 'kind = "url"', 18, "http"),
        ("um_per_px = 0.5", "um_per_px = true", 12, "um_per_px"),
        ('  "sample.station",', "  7,", 8, "a list of fields"),
        ('class = "label.taxon"', 'class = ""', 21, "dotted path"),
        ('class = "label.taxon"\n', "", 20, "needs a key 'class'"),
        ('sample_id = "sample.cruise"', 'sampleid = "sample.cruise"', 28, "did you mean 'sample_id'"),
        ('"cop odd.name" = "Copepoda"', '"cop odd.name" = 7', 24, "theirs = 'ours'"),
        ('temperature_degC = "ctd.t"', "temperature_degC = { valu = 1 }", 32, "value = ..."),
        ('field = "image.path"', 'field = "image.path', 17, "expected TOML"),
        ('collection = "rois"', 'collection = "system.users"', 4, "name of a collection"),
        ("[sample]\n", '[sample]\ncollection = "samples"\n', 27, "belong together"),
    ],
)
def test_a_mistake_says_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    with pytest.raises(SettingsError, match=words) as caught:
        read_mapping(written(tmp_path, GOOD.replace(old, new, 1)))
    assert caught.value.row == line, caught.value


def test_files_that_are_no_mapping(tmp_path: Path) -> None:
    for text in ("", "[run]\nby = []\n"):
        with pytest.raises(SettingsError, match=r"\[source\]"):
            read_mapping(written(tmp_path, text))
    with pytest.raises(SettingsError, match="UTF-8"):
        read_mapping(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="table"):
        read_mapping(written(tmp_path, "source = 7\n"))


def test_lines_of_texts_and_lists_over_several_lines() -> None:
    text = 'a = """\n[no]\nb = 1\n"""\nc = [\n "x", # ]\n [1,\n 2],\n]\n[t . "q.r"]\nd.e = 1\n[[l]]\nf = \'[\'\ng = 2\n'
    assert lines_of(text) == {
        ("a",): 1, ("c",): 5, ("t", "q.r"): 10, ("t", "q.r", "d", "e"): 11, ("l",): 12, ("l", "f"): 13, ("l", "g"): 14
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, 1.0), ("2,5", 2.5), (" 3 ", 3.0), ("", None), (None, None), (float("nan"), None), ("1e3", 1000.0)],
)
def test_numbers(value: Any, found: float | None) -> None:
    assert number_of(value) == found


@pytest.mark.parametrize("value", ["large", True, b"1", {"a": 1}, [1], float("inf"), "1.2.3", datetime(2020, 1, 1)])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(Unfit, match="a number"):
        number_of(value)


@pytest.mark.parametrize(
    ("value", "written_as", "found"),
    [
        (datetime(2020, 1, 2), None, datetime(2020, 1, 2, tzinfo=UTC)),
        (date(2020, 1, 2), None, datetime(2020, 1, 2, tzinfo=UTC)),
        ("2020-01-02T01:00:00+01:00", None, datetime(2020, 1, 2, tzinfo=UTC)),
        ("02/01/2020", "%d/%m/%Y", datetime(2020, 1, 2, tzinfo=UTC)),
        (1577923200, "epoch_s", datetime(2020, 1, 2, tzinfo=UTC)),
        (1577923200000, "epoch_ms", datetime(2020, 1, 2, tzinfo=UTC)),
        ("", None, None), (None, None, None),
    ],
)  # fmt: skip
def test_times(value: Any, written_as: str | None, found: datetime | None) -> None:
    assert time_of_value(value, written_as) == found


@pytest.mark.parametrize("value", ["last tuesday", 7, {"a": 1}, 10**30, b"x"])
def test_what_is_no_time(value: Any) -> None:
    for written_as in (None, "%d/%m/%Y") if not isinstance(value, int) else (None,):
        with pytest.raises(Unfit, match="a date"):
            time_of_value(value, written_as)
    with pytest.raises(Unfit):
        time_of_value(10**30, "epoch_s")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8,
)  # fmt: skip


@example(["a"], "²")
@example(["a"], "9" * 5000)
@given(ANYTHING, st.text())
def test_whatever_lies_in_a_document_is_a_value_or_unfit(value: Any, path: str) -> None:
    value_at(value, path)
    for convert in (number_of, text_of, time_of_value):
        try:
            convert(value)
        except Unfit as unfit:
            assert unfit.reason and len(unfit.shown or "") <= 80


def test_paths() -> None:
    document = {"a": {"b": [{"c": 1}, {"c": 2}]}, "d": "text"}
    assert value_at(document, "a.b.1.c") == 2
    for path in ("a.x", "a.b.7.c", "d.0", "a.b.c", ""):
        assert value_at(document, path) is None
