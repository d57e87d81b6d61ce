"""The class list: the shipped one against its source, matching, merging, files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter._errors import NotFound, SettingsError
from plankter.taxa.classes import (
    ClassList,
    match_class,
    match_name,
    normal_name,
    read_class_list,
    shipped_class_list,
    write_class_list,
)
from plankter.types import Taxon

LONG = "Rhizosolenia_setigera_(f._pungens)+R._hebetata_f._semispina"


def test_shipped_list_is_that_of_the_published_set(shared_data: Path) -> None:
    with (shared_data / "taxa" / "vliz_class_counts.csv").open(encoding="utf-8", newline="") as file:
        source = {row["class"]: row["aphia_id"] for row in csv.DictReader(file)}
    found = {taxon.class_id: taxon for taxon in shipped_class_list()}
    assert set(found) == set(source)
    for class_id, aphia in source.items():
        assert found[class_id].aphia_id == (int(aphia) if aphia.isdigit() else None), class_id
        assert found[class_id].name == class_id.replace("_", " ")


def test_shipped_list_in_numbers() -> None:
    taxa = shipped_class_list()
    assert len(taxa) == 95
    assert [t.class_id for t in taxa] == sorted(t.class_id for t in taxa)
    numbered = [t.aphia_id for t in taxa if t.aphia_id is not None]
    assert (len(numbered), len(set(numbered))) == (85, 72)
    kinds = {kind: {t.class_id for t in taxa if t.kind == kind} for kind in ("non-living", "artefact")}
    assert kinds["non-living"] == {"Detritus", "Fibers", "Faecal_pellet", "Pollen", "Remnant"}
    assert kinds["artefact"] == {"Artefact", "Bubbles"}
    for class_id in ("Egg+Cyst", "Phytoplankton_Colony", "Zooplankton"):
        taxon = ClassList(taxa).get(class_id)
        assert (taxon.kind, taxon.aphia_id) == ("living", None)


def test_shipped_list_rolls_up() -> None:
    classes = ClassList(shipped_class_list())
    assert [t.class_id for t in classes.lineage("Favella")] == ["Favella", "Tintinnina", "Ciliophora"]
    assert [t.class_id for t in classes.lineage("Chaetoceros_danicus")] == [
        "Chaetoceros_danicus", "Chaetoceros", "Bacillariophyceae",
    ]  # fmt: skip
    for taxon in classes:  # what is dead has no living parent
        assert all(above.kind == taxon.kind for above in classes.lineage(taxon.class_id))


@pytest.mark.parametrize(
    ("name", "class_id"),
    [
        ("Tripos", "Tripos"),
        ("tripos", "Tripos"),
        ("Egg/Cyst", "Egg+Cyst"),
        ("Faecal pellet", "Faecal_pellet"),
        ("Lauderia/Melosira/Detonula", "Lauderia+Melosira+Detonula"),
        ("Rhizosolenia setigera (f. pungens)/R. hebetata f. semispina", LONG),
        (" Pseudo-nitzschia ", "Pseudo-nitzschia"),
        ("Rhizosolenia setigera", None),
        ("", None),
    ],
)
def test_names_from_outside_are_matched(name: str, class_id: str | None) -> None:
    found = match_class(name, shipped_class_list())
    assert (found.class_id if found else None) == class_id


def test_an_exact_match_wins_and_a_doubtful_one_does_not() -> None:
    assert match_name("a b", ["a_b", "a b"]) == "a b"
    assert match_name("A B", ["a_b", "a b"]) is None


@given(st.text(max_size=20))
def test_normal_name_is_stable(name: str) -> None:
    once = normal_name(name)
    assert "/" not in once and not any(c.isspace() for c in once)
    assert normal_name(once).casefold() == once.casefold()


def test_merged_classes_resolve_to_what_stands_today() -> None:
    classes = ClassList(
        (
            Taxon("a", "A", merged_into="b"),
            Taxon("b", "B", merged_into="c"),
            Taxon("c", "C", parent="d"),
            Taxon("d", "D", merged_into="e"),
            Taxon("e", "E"),
        )
    )
    assert [classes.resolve(c).class_id for c in "abcde"] == ["c", "c", "c", "e", "e"]
    assert [t.class_id for t in classes.lineage("a")] == ["c", "e"]
    assert classes.get("a").merged_into == "b" and "a" in classes and "z" not in classes and len(classes) == 5
    with pytest.raises(NotFound, match="no class 'z'"):
        classes.resolve("z")


def test_a_parent_merged_into_its_child_does_not_go_round() -> None:
    classes = ClassList((Taxon("genus", "G", merged_into="species"), Taxon("species", "S", parent="genus")))
    assert [t.class_id for t in classes.lineage("species")] == ["species"]


@pytest.mark.parametrize(
    ("taxa", "message"),
    [
        ((Taxon("a", "A"), Taxon("a", "B")), "'a' stands twice"),
        ((Taxon("a", "A", parent="z"),), "'a': parent 'z' is not in the list"),
        ((Taxon("a", "A", merged_into="z"),), "'a': merged_into 'z' is not in the list"),
        (
            (Taxon("a", "A", merged_into="b"), Taxon("b", "B", merged_into="a")),
            "merged_into goes in a circle: a > b > a",
        ),
        ((Taxon("a", "A", parent="a"),), "parent goes in a circle: a > a"),
    ],
)
def test_contradictions_are_refused(taxa: tuple[Taxon, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassList(taxa)


def test_lists_survive_a_file(tmp_path: Path) -> None:
    taxa = (
        Taxon("x", 'Name, with "quotes" and é', 12, "egg", "living", "y", None),
        Taxon("y", "Y", kind="unknown"),
        Taxon("z", "Z", kind="artefact", merged_into="x"),
    )
    path = tmp_path / "classes.csv"
    write_class_list(path, taxa)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfclass_id,name,")
    assert read_class_list(path).taxa == taxa
    assert [p.name for p in tmp_path.iterdir()] == ["classes.csv"]


def test_optional_columns_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("name,class_id\nA a,a\n", encoding="utf-8")
    assert read_class_list(path).taxa == (Taxon("a", "A a"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class_id,aphia_id\na,1\n", "row 1: column 'name' is missing"),
        ("", "row 1: column 'class_id' is missing"),
        ("class_id,name,aphia_id\na,A,1\nb,B,1.5\n", "row 3: aphia_id must be a whole number"),
        ("class_id,name,aphia_id\na,A,0\n", "row 2: aphia_id must be positive"),
        ("class_id,name\n,A\n", "row 2: class_id and name must not be empty"),
        ("class_id,name,kind\na,A,dead\n", "row 2: unknown kind 'dead'"),
        ("class_id,name\na,A,B\n", "row 2: more cells than columns"),
        ("class_id,name\na,A\na,B\n", "stands twice"),
    ],
)
def test_bad_lists_name_the_row(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        read_class_list(path)
    assert caught.value.path == str(path)


def test_a_list_that_is_no_text_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    with pytest.raises(SettingsError, match="expected CSV"):
        read_class_list(path)
    path.write_bytes(b"class_id,name\n\xff\xfe,A\n")
    with pytest.raises(SettingsError, match="expected CSV"):
        read_class_list(path)
