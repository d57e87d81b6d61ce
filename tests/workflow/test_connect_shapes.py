"""Other shapes of databases: labels in lists, samples in a collection of their own, images behind addresses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import institute
import pytest
from pymongo import MongoClient

from plankter._errors import Conflict, SettingsError, StoreError
from plankter.store.source_images import OUTSIDE
from plankter.types import Source, Verdict
from plankter.workflow.connect import connect
from plankter.workflow.connect_propose import propose
from plankter.workflow.workspace import Workspace, init_workspace, open_workspace

LISTS = """
[source]
address = "{address}"
collection = "particles"
name = "lists"
filter = {{ kind = "roi" }}

[run]
by = ["haul"]
volume_imaged_ml = "imaged"

[label]
list = "said"
class = "taxon"
annotator = "who"
at = "when"
at_format = "%d/%m/%Y"
{more}

[sample]
collection = "hauls"
local = "haul"
foreign = "code"
sample_id = "code"
station = "place.name"
latitude_deg = "place.position.1"
longitude_deg = "place.position.0"
dilution_factor = {{ value = 2 }}
"""


@pytest.fixture
def database(mongo_url: str) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](mongo_url, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(init_workspace(tmp_path / "w")) as opened:
        yield opened


def lists(folder: Path, address: str, more: str = "") -> Path:
    path = folder / "lists.toml"
    path.write_text(LISTS.format(address=address, more=more), encoding="utf-8")
    return path


def said(taxon: str, who: str, day: int) -> dict[str, str]:
    return {"taxon": taxon, "who": who, "when": f"{day:02d}/03/2024"}


def fill(database: Any) -> None:
    database.hauls.insert_many([
        {"code": "H1", "place": {"name": "Thornton", "position": [2.9, 51.6]}},
        {"code": "H2", "place": {"name": "Gootebank", "position": [2.7, 151.4]}},
    ])  # fmt: skip
    base: dict[str, Any] = {"kind": "roi", "haul": "H1", "imaged": 0.25}
    database.particles.insert_many([
        {**base, "_id": "a", "said": [said("Detritus", "tom", 9), said("Noctiluca", "eva", 3)]},
        {**base, "_id": "b", "said": []},
        {**base, "_id": "c", "haul": "H2", "imaged": -1, "said": [said("Detritus", "eva", 1)]},
        {**base, "_id": "d", "haul": "H3", "said": "Detritus"},
        {**base, "_id": "e", "kind": "background"},
    ])  # fmt: skip


def test_labels_in_a_list_and_samples_of_their_own(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    fill(database)
    found = connect(workspace, lists(tmp_path, mongo_url))
    assert found["documents"] == 4 and len(found["runs"]) == 3
    reasons = {reason: entry["count"] for reason, entry in found["problems"].items()}
    assert reasons == {
        "label.list: a list was expected": 1, "run.volume_imaged_ml: a number above 0 was expected": 1,
        "sample.latitude_deg: 151.4 is outside -90..90": 1,
    }  # fmt: skip
    records = {record.run.sample_id: record for record in workspace.catalogue.runs()}
    assert set(records) == {"H1", "H2", "H3"}
    sample = workspace.catalogue.sample("H1")
    assert (sample.station, sample.latitude_deg, sample.longitude_deg, sample.dilution_factor) == (
        "Thornton",
        51.6,
        2.9,
        2,
    )
    assert workspace.catalogue.sample("H2").latitude_deg is None
    run_id = records["H1"].run.run_id
    assert records["H1"].run.volume_imaged_ml == 0.25 and records["H2"].run.volume_imaged_ml is None
    facts = [fact for _, fact in workspace.catalogue.annotations(run_id)]
    assert [(fact.class_id, fact.annotator) for fact in facts] == [("Noctiluca", "eva"), ("Detritus", "tom")]
    label = workspace.catalogue.standing(run_id)[0]  # the newest stands
    assert (label.class_id, label.at, label.source) == ("Detritus", datetime(2024, 3, 9, tzinfo=UTC), Source.IMPORT)
    database.particles.update_one({"_id": "a"}, {"$push": {"said": said("Noctiluca", "tom", 12)}})
    assert connect(workspace, tmp_path / "lists.toml")["labels"] == 1
    assert workspace.catalogue.standing(run_id)[0].class_id == "Noctiluca"


def test_labels_of_persons_count_as_validated_and_are_not_taken_back(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    fill(database)
    mapping = lists(tmp_path, mongo_url, "person = true")
    connect(workspace, mapping)
    (run_id,) = [record.run.run_id for record in workspace.catalogue.runs() if record.run.sample_id == "H1"]
    assert workspace.catalogue.run(run_id).validated == 1
    from plankter.types import Annotation

    mine = Annotation(run_id, 0, "x", Verdict.CORRECTED, "ada", datetime(2025, 1, 1, tzinfo=UTC))
    workspace.catalogue.annotate([mine])
    database.particles.update_one({"_id": "a"}, {"$set": {"said": []}})
    assert connect(workspace, mapping)["labels"] == 0
    assert workspace.catalogue.standing(run_id)[0].class_id == "x"


def test_a_sample_that_is_corrected_in_the_source(
    database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path
) -> None:
    institute.fill(database, 6, broken=False)
    mapping = institute.write_mapping(tmp_path, mongo_url)
    connect(workspace, mapping)
    later = institute.WHEN.replace(year=2030)
    database.rois.update_many({"sample.cruise": "C1"}, {"$set": {"ctd.temp": 3.5, "updated_at": later}})
    assert connect(workspace, mapping)["changed"] == 3
    assert workspace.catalogue.sample("C1").environment == {"temperature_degC": 3.5}
    assert {s.sample_id: s.environment["temperature_degC"] for s in workspace.archive.samples()} == {
        "C0": 11.5,
        "C1": 3.5,
    }


class _Images(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = institute.png(1) if self.path == "/rois/1.png" else b""
        self.send_response(200 if data else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_images_behind_addresses(database: Any, mongo_url: str, workspace: Workspace, tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Images)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        root = f"http://127.0.0.1:{server.server_port}/rois/"
        names = ["1.png", f"{root}1.png", "2.png", "../1.png", "http://example.org/rois/1.png", ""]
        database.rois.insert_many([institute.document(n, name) for n, name in enumerate(names)])
        mapping = institute.write_mapping(tmp_path, mongo_url, kind=f'kind = "url"\nroot = "{root}"')
        found = connect(workspace, mapping)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert {reason: entry["count"] for reason, entry in found["problems"].items()} == {
        OUTSIDE: 2, "the image is not there (HTTP 404)": 1, "no image is named": 1
    }  # fmt: skip
    assert sum(record.vignettes for record in workspace.catalogue.runs()) == 2


def test_a_proposal_for_other_shapes(database: Any, mongo_url: str, tmp_path: Path) -> None:
    database.rois.insert_many(
        [
            {"_id": n, "file": f"2024/{n}.png", "species": "Noctiluca", "user": "eva", "lat": 51.2, "size": n}
            for n in range(5)
        ]
    )
    found = propose(mongo_url, "rois", tmp_path / "p.toml")["proposed"]
    assert found["image"] == {"kind": "path", "field": "file", "root": "FOLDER"}
    assert found["label"] == {"class": "species", "annotator": "user"} and found["sample"] == {"latitude_deg": "lat"}
    database.web.insert_one({"image": "https://images.example.org/a/1.jpg", 'odd "name"': 'x"\n[source]\n'})
    assert (
        propose(mongo_url, "web", tmp_path / "w.toml")["proposed"]["image"]["root"] == "https://images.example.org/a/"
    )
    database.raw.insert_one({"pixels": b"\x89PNG"})
    assert propose(mongo_url, "raw", tmp_path / "r.toml")["proposed"]["image"] == {"kind": "binary", "field": "pixels"}
    for name in ("p", "w", "r"):
        from plankter.formats.mapping_file import read_mapping

        assert read_mapping(tmp_path / f"{name}.toml").source.address == mongo_url
    with pytest.raises(Conflict, match="already"):
        propose(mongo_url, "rois", tmp_path / "p.toml")
    with pytest.raises(SettingsError, match="there are: raw, rois, web"):
        propose(mongo_url, "none", tmp_path / "n.toml")
    with pytest.raises(StoreError, match="expected an address"):
        propose("http://h/db", "none", tmp_path / "n.toml")
    secret = mongo_url.replace("mongodb://", "mongodb://ada:hush-hush@")
    with pytest.raises(StoreError) as caught:
        propose(secret, "rois", tmp_path / "s.toml")
    assert "hush" not in str(caught.value) and not (tmp_path / "s.toml").exists()
