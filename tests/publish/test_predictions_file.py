"""The file of `plankter predict`, read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from plankter._errors import PlankterError
from plankter.publish.predictions import PREDICTION_COLUMNS, check_predictions_path, write_predictions

CLASSES = ("Acartia", "Bubbles", "=evil", "Egg+Cyst", "Long_chain")
APHIA = {"Acartia": 104108, "Bubbles": None}


def write(out: Path, **changes: Any) -> int:
    best = np.array([[3, 0, 1, 2, 4], [-1] * 5, [2, 1, 0, 3, 4]], np.int16)
    scores = np.array([[0.5, 0.25, 0.125, 0.0625, 0.03125], [np.nan] * 5, [1, 0, 0, 0, 0]], np.float32)
    arguments: dict[str, Any] = {
        "files": ["a/1.png", "a,b.png", "-x.png"], "class_ids": CLASSES,
        "names": {"Long_chain": "Long chain"}, "aphia": APHIA, "best": best, "scores": scores,
        "decisions": ["Egg+Cyst", "", "=evil"], "reasons": ["highest score", "", "highest score"],
        "failures": [None, "the PNG is truncated", None], **changes,
    }  # fmt: skip
    return write_predictions(out, **arguments)


def test_columns_are_the_contract() -> None:
    wanted = ["file"]
    for place in "12345":
        wanted += [f"class_{place}", f"score_{place}", f"aphia_id_{place}"]
    assert list(PREDICTION_COLUMNS) == [*wanted, "decision", "reason", "failure"]


def test_csv(tmp_path: Path) -> None:
    out = tmp_path / "new" / "p.csv"
    assert write(out) == 3
    assert out.read_bytes().startswith(b"\xef\xbb\xbffile,class_1,")
    with out.open(encoding="utf-8-sig", newline="") as file:
        first, failed, hostile = csv.DictReader(file)
    assert (first["file"], first["class_1"], first["score_1"], first["aphia_id_1"]) == (
        "a/1.png",
        "Egg+Cyst",
        "0.500000",
        "",
    )
    assert (first["class_2"], first["score_2"], first["aphia_id_2"]) == ("Acartia", "0.250000", "104108")
    assert (first["decision"], first["failure"]) == ("Egg+Cyst", "")
    assert [failed[f"{c}_{k}"] for c in ("class", "score", "aphia_id") for k in "12345"] == [""] * 15
    assert (failed["file"], failed["failure"]) == ("a,b.png", "the PNG is truncated")
    assert (hostile["file"], hostile["class_1"], hostile["decision"]) == ("'-x.png", "'=evil", "'=evil")
    assert sorted(p.name for p in out.parent.iterdir()) == ["p.csv"]


def test_parquet(tmp_path: Path) -> None:
    out = tmp_path / "p.PARQUET"
    assert write(out, files=["a/1.png", "caf\udce9.png", "-x.png"]) == 3
    table = pq.read_table(out)
    assert table.column_names == list(PREDICTION_COLUMNS)
    assert table["file"].to_pylist() == ["a/1.png", "caf\\udce9.png", "-x.png"]
    assert table["class_1"].to_pylist() == ["Egg+Cyst", None, "=evil"]
    assert table["score_5"].to_pylist() == [0.03125, None, 0.0]
    assert table["aphia_id_2"].to_pylist() == [104108, None, None]
    assert table["failure"].to_pylist() == [None, "the PNG is truncated", None]
    facts = json.loads(table.schema.metadata[b"plankter.classes"])
    assert facts["Long_chain"] == {"name": "Long chain", "aphia_id": None} and facts["Acartia"]["aphia_id"] == 104108


def test_no_images_is_a_header_alone(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"files": [], "decisions": [], "reasons": [], "failures": []}
    for name in ("p.csv", "p.parquet"):
        assert (
            write(tmp_path / name, best=np.empty((0, 5), np.int16), scores=np.empty((0, 5), np.float32), **nothing) == 0
        )
    assert len((tmp_path / "p.csv").read_text(encoding="utf-8-sig").splitlines()) == 1
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 0


def test_what_cannot_be_written_is_refused_before(tmp_path: Path) -> None:
    for bad in ("p.xlsx", "p"):
        with pytest.raises(PlankterError, match=r"\.csv or \.parquet"):
            check_predictions_path(tmp_path / bad)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(PlankterError, match="folder"):
        write(tmp_path / "d.csv")
    (tmp_path / "f").write_text("x")
    with pytest.raises(PlankterError, match="folder"):
        write(tmp_path / "f" / "p.csv")


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows"):
        write(tmp_path / "p.csv", reasons=["x"])
    with pytest.raises(ValueError, match="outside"):
        write(tmp_path / "p.csv", best=np.full((3, 5), 5, np.int16))
    assert list(tmp_path.iterdir()) == []
