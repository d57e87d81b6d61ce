"""The answers of an evaluation on each image: kept, read again, counted, compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plankter._errors import ReadError
from plankter.workflow.evaluation_images import (
    EvaluatedImages,
    class_rows,
    compare_images,
    most_confused,
    read_images,
    write_images,
)


def made(
    true: list[int], given: list[int], classes: tuple[str, ...] = ("a", "b", "c", "d"), model: str = "m"
) -> EvaluatedImages:
    """Answers with a score of 0.9 for the best class."""
    n = len(true)
    best = np.full((n, 5), -1, np.int64)
    scores = np.full((n, 5), np.nan, np.float32)
    best[:, 0], scores[:, 0] = given, 0.9
    names = [f"{classes[t]}/{k}.png" for k, t in enumerate(true)]
    return EvaluatedImages(
        model, model + "-id", classes, (0.5, *[None] * (len(classes) - 1)), names, [f"{k:016x}" for k in range(n)],
        np.array(true, np.int64), best, scores,
    )  # fmt: skip


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    first = made([0, 0, 1, 2], [0, 1, 1, 0])
    write_images(tmp_path / "x" / "images.parquet", first)
    again = read_images(tmp_path / "x" / "images.parquet")
    for name in ("model", "model_id", "class_ids", "thresholds", "names", "digests"):
        assert getattr(again, name) == getattr(first, name)
    for name in ("true", "best", "scores"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["images.parquet"]


@pytest.mark.parametrize("what", ["missing", "text", "other table", "class beyond the list"])
def test_what_is_no_such_table_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "images.parquet"
    if what == "text":
        path.write_text("no table", encoding="utf-8")
    elif what == "other table":
        pq.write_table(pa.table({"file": ["a"]}), path)
    elif what == "class beyond the list":
        write_images(path, made([0, 3], [1, 1]))
        table = pq.read_table(path)
        pq.write_table(table.set_column(2, "true", pa.array([0, 4], pa.int32())), path)
    with pytest.raises(ReadError, match="table of an evaluation"):
        read_images(path)


def test_classes_stand_by_difficulty() -> None:
    #            a: 2 of 3 right        b: none of 2   c: 1 of 1      d has no image, and is given once
    found = made([0, 0, 0, 1, 1, 2], [0, 0, 1, 0, 3, 2])
    rows = class_rows(found)
    assert [row["class_id"] for row in rows] == ["b", "a", "c", "d"]
    a = rows[1]
    assert (a["images"], a["given"], a["right"]) == (3, 3, 2)
    assert a["precision"] == a["recall"] == a["f1"] == pytest.approx(2 / 3)
    assert (found.class_ids[a["taken_for"]], a["taken_for_images"]) == ("b", 1)
    assert rows[3]["recall"] is None and rows[3]["precision"] == 0 and rows[3]["taken_for"] is None


def test_classes_taken_for_each_other_stand_together() -> None:
    confusion = np.diag([9, 9, 9, 9, 9])
    confusion[0, 3], confusion[3, 0], confusion[1, 4], confusion[2, 0] = 5, 4, 3, 1
    assert most_confused(confusion, None)[:2] == [0, 3] and set(most_confused(confusion, None)) == set(range(5))
    assert most_confused(confusion, 2) == [0, 3]
    assert most_confused(np.diag([3, 0, 4]), 5) == []  # no errors
    assert most_confused(np.diag([3, 0, 4]), None) == [0, 2]  # a class without images is none of it


def test_two_evaluations_are_compared_on_the_images_that_both_hold() -> None:
    true = [0] * 10 + [1] * 10
    first = made(true, true, model="good")
    second = made(true, [1] * 10 + [1] * 10, model="bad")
    found = compare_images(first, second)
    assert found["images"] == 20 and (found["both"], found["only_first"], found["only_second"]) == (10, 10, 0)
    assert found["p"] == pytest.approx(2 * 0.5**10)
    assert found["top1"]["value"] == 0.5 and found["model"]["name"] == "good" and found["against"]["name"] == "bad"
    duels = {duel["class_id"]: duel for duel in found["per_class"]}
    assert (duels["a"]["only_first"], duels["b"]["only_first"]) == (10, 0)
    turned = compare_images(second, first)
    assert turned["top1"]["value"] == -0.5 and turned["p"] == found["p"]


def test_only_the_same_images_of_the_same_class_are_compared() -> None:
    first = made([0, 1, 1, 0], [0, 1, 1, 1])
    classes = ("d", "b", "a")  # another list in another order
    second = made([2, 1, 1, 2, 0], [2, 1, 2, 2, 0], classes)
    digests = [second.digests[0], "f" * 16, *second.digests[2:]]
    second = replace(second, digests=digests, names=["a/0.png", "b/1.png", "b/2.png", "a/3.png", "d/4.png"])
    found = compare_images(first, second)
    assert found["images"] == 3 and found["other_content"] == 1 and found["left_out"] == 1
    assert (found["both"], found["only_first"], found["only_second"], found["neither"]) == (1, 1, 1, 0)
    with pytest.raises(ReadError, match="no image in common"):
        compare_images(first, replace(second, names=[f"x{k}" for k in range(5)]))
