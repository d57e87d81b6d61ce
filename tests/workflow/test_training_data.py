"""What a folder of classes holds: labels, groups, and everything that is odd about it, named and counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter._errors import ReadError
from plankter.types import Taxon
from plankter.workflow.training_data import read_folder
from plankter.workflow.training_table import read_training_table


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (12, 15), np.uint8))
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for number, name in enumerate(("Copepoda", "Actinoptychus senarius", "my own class")):
        for k in range(4):
            picture(root / name / f"{name[:2]}{k}.png", 100 * number + k)
    return root


def problems_of(found: object) -> dict[str, int]:
    return {str(p["problem"]): int(p["count"]) for p in found.problems.listed()}  # type: ignore[attr-defined]


def test_folders_are_classes_with_aphia_ids_where_the_name_is_known(classes: Path) -> None:
    found = read_folder(classes)
    assert found.data.class_ids == ("Actinoptychus_senarius", "Copepoda", "my_own_class")
    assert found.data.counts.tolist() == [4, 4, 4]
    assert found.aphia_ids["Actinoptychus_senarius"] == 148948 and found.aphia_ids["my_own_class"] is None
    assert found.data.names[0] == "Actinoptychus senarius/Ac0.png" and problems_of(found) == {}
    assert found.grouped_by is None and found.data.groups is None
    read = dict(found.read([0, 5], {}))
    assert read[5] == (classes / found.data.names[5]).read_bytes()


def test_the_workspaces_class_list_counts(classes: Path) -> None:
    found = read_folder(classes, taxa=[Taxon("My_Own_Class", "mine", 77)])
    assert "My_Own_Class" in found.data.class_ids and found.aphia_ids["My_Own_Class"] == 77


def test_what_is_odd_is_left_out_counted_and_named(classes: Path) -> None:
    copepod = classes / "Copepoda" / "Co0.png"
    shutil.copy(copepod, classes / "Copepoda" / "again.png")
    shutil.copy(classes / "Copepoda" / "Co1.png", classes / "my own class" / "the same.png")
    (classes / "Copepoda" / "notes.txt").write_text("x")
    (classes / "Copepoda" / ".hidden").write_text("x")
    (classes / "nothing").mkdir()
    picture(classes / "loose.png", 7)
    picture(classes / "my_own_class" / "other.png", 8)
    found = read_folder(classes)
    assert problems_of(found) == {
        "no_class": 1, "same_class": 1, "not_an_image": 1, "empty_class": 1, "twice": 1, "two_classes": 2,
    }  # fmt: skip
    named = {p["problem"]: p["names"] for p in found.problems.listed()}
    assert named["two_classes"] == ["Copepoda/Co1.png", "my own class/the same.png"]
    assert found.data.counts.tolist() == [4, 3, 5]  # my_own_class joined my own class
    assert not any("Co1" in name or "the same" in name for name in found.data.names)


def test_a_file_that_cannot_be_opened_stops_nothing(classes: Path) -> None:
    (classes / "Copepoda" / "broken link.png").symlink_to(classes / "gone.png")
    found = read_folder(classes)
    assert problems_of(found) == {"unreadable": 1} and len(found.data) == 12
    first = classes / found.data.names[0]
    first.unlink()  # between listing and reading
    failures: dict[int, str] = {}
    assert [row for row, _ in found.read([0, 1], failures)] == [1]
    assert list(failures) == [0]


def test_nothing_to_learn_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="one folder a class"):
        read_folder(tmp_path / "missing")
    with pytest.raises(ReadError, match="there is none"):
        read_folder(tmp_path)
    picture(tmp_path / "only" / "a.png", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="found only only"):
        read_folder(tmp_path)


def test_folders_inside_a_class_are_groups(tmp_path: Path) -> None:
    for seed, name in enumerate(("a/s1/1.png", "a/s2/2.png", "b/s1/3.png")):
        picture(tmp_path / name, seed)
    found = read_folder(tmp_path)
    assert found.data.groups == ("s1", "s2", "s1") and found.grouped_by == "folder inside the class folder"


def test_a_table_gives_groups_split_and_context(classes: Path, tmp_path: Path) -> None:
    names = read_folder(classes).data.names
    lines = [f"{name};st{row % 3};{'judge' if row % 4 == 3 else 'train'};{row}.5" for row, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("file;sample;split;temperature\n" + "\n".join(lines), encoding="utf-8-sig")
    found = read_folder(classes, table=tmp_path / "t.csv", context=tmp_path / "t.csv")
    assert found.data.groups is not None and found.data.groups[:4] == ("st0", "st1", "st2", "st0")
    assert found.grouped_by == "sample" and found.parts is not None and found.parts[3] == "judge"
    assert found.context is not None and found.context[2]["temperature"] == "2.5" and "split" not in found.context[2]


def test_tables_may_name_files_alone_and_lack_some(classes: Path, tmp_path: Path) -> None:
    names = read_folder(classes).data.names
    path = tmp_path / "t.tsv"
    path.write_text("file\tdate\n" + "\n".join(f"{n.rsplit('/')[-1]}\t2024-05-01" for n in names[1:]), encoding="utf-8")
    found = read_training_table(path, names)
    assert found.grouped_by == "date" and found.groups is not None
    assert found.groups[1] == "2024-05-01" and found.groups[0] == f"alone: {names[0]}"
    assert "1 of 12 images are not in t.tsv" in found.warnings[0]
    assert found.columns[1] == {"date": "2024-05-01"} and found.columns[0] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,sample\na,b\n", "column 'file'"),
        ("file,sample\nother.png,b\n", "none of the images"),
        ("file,sample\na.png,x\na.png,y\n", "twice"),
        ("", "column 'file'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ReadError, match=message):
        read_training_table(tmp_path / "t.csv", ("c/a.png", "c/b.png"))
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadError, match="UTF-8"):
        read_training_table(tmp_path / "t.csv", ("c/a.png",))
    with pytest.raises(ReadError, match="table"):
        read_training_table(tmp_path / "none.csv", ("c/a.png",))
