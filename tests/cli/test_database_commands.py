"""The commands on databases as users and scripts meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gridfs import GridFS
from pymongo import MongoClient
from typer.testing import CliRunner

from plankter.cli import app
from plankter.vignettes.codec import encode_vignette


def run(*arguments: object, status: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def source(mongo_url: str) -> Iterator[str]:
    """An institute's collection; the catalogue of the test lies in the same database."""
    with MongoClient[dict[str, Any]](mongo_url) as client:
        database = client.get_default_database()
        files = GridFS(database)
        for number in range(6):
            image = np.full((20, 24), 220, np.uint8)
            image[4:12, 5:15] = 40 + number
            image_id = files.put(encode_vignette(image))
            database.rois.insert_one({"n": number, "image_id": image_id, "taxon": "Detritus", "station": "st1"})
    yield mongo_url


def test_from_an_address_to_results_in_the_database(source: str, tmp_path: Path) -> None:
    workspace, mapping = tmp_path / "w", tmp_path / "m.toml"
    run("init", workspace, "--catalogue", source)
    proposed = run("connect", mapping, "--propose", source, "--collection", "rois", "-w", workspace)
    assert proposed["documents"] == 6 and proposed["proposed"]["image"]["field"] == "image_id"
    assert run("connect", mapping, "--propose", source, "--collection", "rois", status=1)["error"]["code"] == "conflict"
    dry = run("connect", mapping, "--dry-run", "-w", workspace)
    assert (dry["documents"], dry["images"], dry["classes"]["Detritus"]["class_id"]) == (6, 6, "Detritus")
    found = run("connect", mapping, "-w", workspace)
    assert (found["new"], found["images_read"], found["labels"]) == (6, 6, 6)
    classified = run("classify", "-w", workspace)
    assert classified["runs"][0]["predicted"] == 6
    assert run("status", "-w", workspace)["predicted"] == 6
    mapping.write_text(mapping.read_text() + '\n[results]\ninto = "beside"\n')
    assert run("write-back", mapping, "--dry-run", "-w", workspace)["documents"] == 6
    written = run("write-back", mapping, "-w", workspace)
    with MongoClient[dict[str, Any]](source) as client:
        rois = client.get_default_database().rois
        for document in rois.find():
            top = document["plankter"]["prediction"]["top"]
            assert len(top) == 5 and top[0]["score"] >= top[4]["score"] and "aphia_id" in top[0]
        assert run("write-back", mapping, "--undo", written["undo"], "-w", workspace)["undone"] >= 6
        assert rois.count_documents({"plankter": {"$exists": True}}) == 0
    assert run("check", "-w", workspace)["problems"] == []


def test_what_is_wrong_is_said_with_its_line(source: str, tmp_path: Path) -> None:
    run("init", tmp_path / "w")
    mapping = tmp_path / "m.toml"
    mapping.write_text(f'[source]\naddress = "{source}"\ncolection = "rois"\n')
    error = run("connect", mapping, "-w", tmp_path / "w", status=1)["error"]
    assert (error["code"], error["row"]) == ("settings", 3) and "did you mean 'collection'" in error["message"]
    assert run("connect", tmp_path / "none.toml", "-w", tmp_path / "w", status=1)["error"]["path"].endswith("none.toml")
    result = CliRunner().invoke(app, ["connect", str(mapping), "--propose", source, "-w", str(tmp_path / "w")])
    assert result.exit_code == 2
    error = run("migrate", "mongodb://127.0.0.1:9/x?serverSelectionTimeoutMS=50", "-w", tmp_path / "w", status=1)[
        "error"
    ]
    assert error["code"] == "store" and "no MongoDB server" in error["message"]


def test_watching_once(tmp_path: Path) -> None:
    run("init", tmp_path / "w")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.zip").write_bytes(b"PK\x03\x04 no zip")
    found = run("watch", tmp_path / "in", "--once", "--settle", "0.1", "-w", tmp_path / "w", status=1)
    assert [entry["status"] for entry in found["runs"]] == ["refused"]
    assert run("watch", tmp_path / "in", "--once", "--settle", "0.1", "-w", tmp_path / "w")["runs"] == []
    assert run("watch", tmp_path / "gone", "--once", "-w", tmp_path / "w", status=1)["error"]["code"] == "unreadable"
