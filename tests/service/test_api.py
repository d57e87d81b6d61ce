"""The API as a script meets it, and every page as a browser does."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from served import ended

from plankter.publish.predictions import PREDICTION_COLUMNS


@pytest.fixture(scope="session")
def images(client: TestClient) -> list[bytes]:
    """Vignettes of the run."""
    run_id = client.get("/api/v1/runs").json()["runs"][0]["run_id"]
    return [client.get(f"/api/v1/runs/{run_id}/particles/{n}/image").content for n in range(12)]


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def uploaded(client: TestClient, files: dict[str, bytes]) -> str:
    upload = str(client.post("/api/v1/uploads").json()["id"])
    for name, data in files.items():
        assert client.put(f"/api/v1/uploads/{upload}/files/{name}?size={len(data)}", content=data).status_code == 200
    return upload


# -- predictions at once
def test_one_image_with_all_scores(client: TestClient, images: list[bytes]) -> None:
    found = client.post("/api/v1/predict?top=3", content=images[0]).json()
    assert len(found["top"]) == 3 and len(found["scores"]) == 95
    assert sum(found["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert found["top"][0]["score"] == max(found["scores"].values())
    assert 0 <= found["uncertainty"] <= 1 and found["failure"] is None
    assert any(entry["aphia_id"] for entry in client.post("/api/v1/predict?top=95", content=images[0]).json()["top"])


def test_one_image_that_is_none_is_a_problem(client: TestClient, images: list[bytes]) -> None:
    for body in (b"no image", images[0][:60], b"\x89PNG\r\n\x1a\n" + b"\0" * 40):
        answer = client.post("/api/v1/predict", content=body)
        assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) >= {"type", "title", "status", "detail"}
    assert client.post("/api/v1/predict", content=b"").status_code == 422
    assert client.post("/api/v1/predict?model=nothing", content=images[0]).status_code == 404
    assert client.post("/api/v1/predict?model=../x", content=images[0]).status_code == 404


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(client: TestClient) -> None:
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\0IEND\xaeB`\x82"
    )
    answer = client.post("/api/v1/predict", content=bomb)
    assert answer.status_code == 422 and "pixels" in answer.json()["detail"]


def test_a_good_image_beside_a_corrupt_one_is_answered(client: TestClient, images: list[bytes]) -> None:
    body = {"images": [
        {"file": "good", "data": base64.b64encode(images[0]).decode()},
        {"file": "bad", "data": base64.b64encode(b"no image").decode()},
        {"file": "worse", "data": "%%%"},
        {"file": "worse", "data": "%%"},
        {"file": "good", "data": base64.b64encode(images[1]).decode()},
    ]}  # fmt: skip
    answered = client.post("/api/v1/predict/many?scores=false", json=body).json()["images"]
    assert [entry["file"] for entry in answered] == ["good", "bad", "worse", "worse", "good"]
    assert [entry["failure"] is None for entry in answered] == [True, False, False, False, True]
    found = {entry["file"]: entry for entry in answered}
    assert found["good"]["top"] and found["good"]["failure"] is None
    assert found["bad"]["failure"] and not found["bad"]["top"]
    assert "base64" in found["worse"]["failure"]


def test_a_zip_of_images(client: TestClient, images: list[bytes]) -> None:
    members = {f"class/{n}.png": data for n, data in enumerate(images)} | {
        "notes.txt": b"x",
        "bad.png": b"x",
        "d/": b"",
    }
    found = client.post("/api/v1/predict/zip", content=zipped(members)).json()
    assert sorted(entry["file"] for entry in found["images"]) == sorted(n for n in members if n.endswith(".png"))
    alone = client.post("/api/v1/predict", content=images[3]).json()
    same = next(entry for entry in found["images"] if entry["file"] == "class/3.png")
    assert same["top"][0]["class_id"] == alone["top"][0]["class_id"]


@pytest.mark.parametrize("body", [
    b"no zip", b"PK\x03\x04 broken", zipped({"notes.txt": b"x"}), zipped({"../x.png": b"x"}), zipped({"/etc/x.png": b"x"}),
    zipped({"bomb.png": b"\0" * 60_000_000}),
])  # fmt: skip
def test_zips_that_are_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/v1/predict/zip", content=body)
    assert answer.status_code in (413, 422) and answer.json()["detail"]


def test_requests_at_the_same_time_share_batches(client: TestClient, images: list[bytes]) -> None:
    def ask(n: int) -> str:
        return str(client.post("/api/v1/predict", content=images[n % 12]).json()["top"][0]["class_id"])

    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(ask, range(96)))
    assert together == [ask(n) for n in range(12)] * 8
    metrics = client.get("/metrics").text
    done = {name: int(n) for name, n in re.findall(r"plankter_predicted_(\w+)_total\{[^}]*\} (\d+)", metrics)}
    assert done["batches"] < done["images"]


# -- the workspace
def test_particles_in_pages_are_all_particles_once(client: TestClient) -> None:
    run = client.get("/api/v1/runs").json()["runs"][0]
    for sort in ("index", "score", "esd_um"):
        seen, cursor = [], ""
        while True:
            page = client.get(f"/api/v1/particles?run_id={run['run_id']}&limit=7&sort={sort}{cursor}").json()
            seen += [row["index"] for row in page["particles"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert sorted(seen) == list(range(run["particles"]))


@pytest.mark.parametrize(
    "cursor", ["x", "bm90aGluZw", "W10", "WzEsMiwzLDQsNSw2XQ", "eyJhIjoxfQ", "W251bGwsIG51bGwsIG51bGxd"]
)
def test_cursors_of_others_are_refused(client: TestClient, cursor: str) -> None:
    for address in ("particles?sort=score", "particles?sort=index"):
        assert client.get(f"/api/v1/{address}&cursor={cursor}").status_code in (200, 422)


def test_counts_add_up_and_have_intervals(client: TestClient) -> None:
    run = client.get("/api/v1/runs").json()["runs"][0]
    counts = client.get(f"/api/v1/runs/{run['run_id']}/counts").json()
    assert sum(row["predicted"] for row in counts) == run["predicted"]
    for row in counts:
        assert row["per_ml_low"] <= row["per_ml"] <= row["per_ml_high"]
        assert row["per_ml"] == pytest.approx(row["predicted"] / run["volume_imaged_ml"])


def test_sample_metadata_from_a_table(client: TestClient) -> None:
    run = client.get("/api/v1/runs").json()["runs"][0]
    table = f"run,sample,station,latitude,longitude\n{run['name']},S 1,Station 330,51.4,2.8\nother,S 2,,,\n"
    found = client.put("/api/v1/samples?name=t.csv", content=table.encode())
    assert found.status_code == 200, found.text
    assert len(found.json()["attached"]) == 1 and found.json()["unknown_runs"] == ["other"]
    assert any(sample["station"] == "Station 330" for sample in client.get("/api/v1/samples").json())
    assert client.put("/api/v1/samples?name=t.exe", content=b"x").status_code == 422


def test_the_description_knows_every_route(client: TestClient) -> None:
    described = client.get("/api/v1/openapi.json").json()
    assert len(described["paths"]) > 20 and all(path.startswith("/api/v1/") for path in described["paths"])
    assert all(facts["description"] for methods in described["paths"].values() for facts in methods.values())


# -- jobs and results
def test_an_analysis_of_images_and_what_can_be_taken_away(client: TestClient, images: list[bytes]) -> None:
    files = {f"mine/{n}.png": data for n, data in enumerate(images)} | {"mine/bad.png": b"no image"}
    body = {"kind": "analyse", "title": "Mine", "arguments": {"upload": uploaded(client, files), "model": "flowcam"}}
    job = ended(client, client.post("/api/v1/jobs", json=body).json()["id"])
    assert job["state"] == "done" and job["result"]["files"] == 13 and job["result"]["failures"] == 1, job
    address = f"/results/job/{job['id']}"
    page = client.get(address).text
    assert "Mine" in page and "could not be read" in page
    rows = list(
        csv.DictReader(io.StringIO(client.get(f"{address}/download/predictions.csv").content.decode("utf-8-sig")))
    )
    assert len(rows) == 13 and tuple(rows[0]) == PREDICTION_COLUMNS
    table = pq.read_table(io.BytesIO(client.get(f"{address}/download/predictions.parquet").content)).to_pylist()
    objects = json.loads(client.get(f"{address}/download/predictions.json").content)["images"]
    for row, other, third in zip(rows, table, objects, strict=True):
        assert row["file"] == other["file"] == third["file"]
        assert row["class_1"] == (other["class_1"] or "") == (third["top"][0]["class_id"] if third["top"] else "")
    names = zipfile.ZipFile(io.BytesIO(client.get(f"{address}/download/images.zip").content)).namelist()
    assert len(names) == 13 and "unpredicted/bad.png" in names
    by_class = {f"{row['class_1']}/{row['file']}" for row in rows if row["class_1"]}
    assert by_class == set(names) - {"unpredicted/bad.png"}
    class_id = rows[0]["class_1"] or rows[1]["class_1"]
    sheet = client.get(f"{address}/sheet", params={"class": class_id})
    assert sheet.headers["content-type"] == "image/jpeg" and sheet.content[:2] == b"\xff\xd8"


def test_a_try_leaves_nothing_on_the_disk(client: TestClient, images: list[bytes], demo_workspace: Path) -> None:
    def on_disk() -> set[str]:
        skip = ("service/", "cache/")
        names = (p.relative_to(demo_workspace).as_posix() for p in demo_workspace.rglob("*") if p.is_file())
        return {name for name in names if not name.startswith(skip)}

    before = on_disk()
    form = {"content-type": "application/x-www-form-urlencoded"}
    begun = client.post("/try", content="model=flowcam", headers=form).json()
    assert client.post(f"/try/{begun['id']}?name=a.png", content=images[0]).json() == {"images": 1, "unreadable": {}}
    assert (
        client.post(f"/try/{begun['id']}?name=z.zip", content=zipped({"b.png": images[1], "c.png": b"x"})).json()[
            "images"
        ]
        == 2
    )
    page = client.get(begun["location"]).text
    assert "Nothing of this is on the disk" in page
    assert client.get(f"{begun['location']}/download/predictions.csv").status_code == 200
    assert client.get(f"{begun['location']}/images/0/picture").content == images[0]
    assert on_disk() == before
    client.post(f"{begun['location']}/forget")
    assert client.get(begun["location"]).status_code == 404


@pytest.mark.parametrize(("body", "status"), [
    ({"kind": "analyse", "arguments": {}}, 422), ({"kind": "shell", "arguments": {}}, 422),
    ({"kind": "analyse", "arguments": {"upload": "0" * 24}}, 404), ({"kind": "analyse", "arguments": {"upload": 7}}, 422),
    ({"kind": "train", "arguments": {"config": {"start": "/etc/passwd"}}}, 422),
    ({"kind": "train", "arguments": {"config": {"mode": "magic"}}}, 422),
    ({"kind": "train", "arguments": {"config": {"model": "http://evil.example"}}}, 404),
    *(
        ({"kind": "train", "arguments": {"config": {name: value}}}, 422)
        for name, values in {
            "augmentation": [3, None], "epochs": ["x", -1, 0, True, 10**9], "px": [-1, 20, 1e9], "seed": ["q", -1, 2**40],
            "name": [5], "force_context": ["no"], "imported": [1], "network": [None],
        }.items()
        for value in values
    ),
    ({"kind": "train", "arguments": {"config": []}}, 422), ({"kind": "classify", "arguments": {"runs": ["nothing"]}}, 404),
    ({"kind": "classify", "arguments": {"runs": "x"}}, 422), ({"kind": "export", "arguments": {"format": "xlsx"}}, 404),
    ({"kind": "classify", "arguments": {"model": "/tmp"}}, 404), ({"kind": "classify", "arguments": {"paths": ["/"]}}, 422),
])  # fmt: skip
def test_jobs_that_cannot_be(client: TestClient, body: dict[str, Any], status: int) -> None:
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_a_class_folder_with_a_hostile_name(client: TestClient, images: list[bytes]) -> None:
    files = {
        "%3Cscript%3Ealert(1)%3C%2Fb%3E/1.png": images[0],
        "other/2.png": images[1],
        "%3Cscript%3E/3.png": images[2],
    }
    body = {"kind": "inspect", "arguments": {"upload": uploaded(client, files)}}
    job = ended(client, client.post("/api/v1/jobs", json=body).json()["id"])
    assert job["state"] == "done", job
    page = client.get(f"/train/{job['id']}").text
    assert "&lt;script&gt;" in page and "<script>" not in page


def test_jobs_are_listed_in_pages_and_removed(client: TestClient) -> None:
    first = client.post("/api/v1/jobs", json={"kind": "export", "arguments": {"format": "csv"}}).json()["id"]
    job = ended(client, first)
    assert job["state"] == "done", job
    names = zipfile.ZipFile(io.BytesIO(client.get(f"/jobs/{first}/files.zip").content)).namelist()
    assert "particles.csv" in names
    seen, cursor = [], ""
    while True:
        page = client.get(f"/api/v1/jobs?limit=2{cursor}").json()
        seen += [entry["id"] for entry in page["jobs"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert first in seen and len(seen) == len(set(seen)) and seen == sorted(seen, reverse=True)
    assert client.delete(f"/api/v1/jobs/{first}").status_code == 204
    assert client.get(f"/api/v1/jobs/{first}").status_code == 404


def test_events_tell_of_a_job_until_it_has_ended(client: TestClient) -> None:
    job_id = client.post("/api/v1/jobs", json={"kind": "export", "arguments": {"format": "csv"}}).json()["id"]
    with client.stream("GET", f"/api/v1/jobs/{job_id}/events") as stream:
        told = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert told[-1]["state"] == "done" and all(facts["id"] == job_id for facts in told)


# -- pages
class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.labels: set[str] = set()
        self.inputs: list[dict[str, str | None]] = []
        self.inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        for name in ("href", "src", "hx-get"):
            value = facts.get(name)
            if value and value.startswith("/"):
                self.found.add(value)
        self.inside += tag == "label"
        if tag == "label" and facts.get("for"):
            self.labels.add(str(facts["for"]))
        if tag in ("input", "select") and facts.get("type") != "hidden" and not self.inside:
            self.inputs.append(facts)
        assert not any(name.startswith("on") or name == "style" for name in facts), (tag, facts)
        if tag == "img":
            assert "alt" in facts

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag == "label"


def _walk(client: TestClient, start: list[str]) -> Iterator[tuple[str, _Links]]:
    waiting, seen = list(start), set(start)
    while waiting:
        address = waiting.pop()
        answer = client.get(address)
        assert answer.status_code == 200, f"{address}: {answer.status_code}"
        report = "/report" in address
        if answer.headers["content-type"].startswith("text/html") and not report:
            links = _Links()
            links.feed(answer.text)
            yield address, links
            # one of each kind of page is enough: ids and numbers stand for each other
            for link in sorted(links.found):
                pattern = re.sub(r"[0-9a-f]{12,}|[0-9]{8}-[0-9]{6}-[0-9a-f]{8}|(?<=/images/)\d+|=[^&]*", "*", link)
                if pattern not in seen:
                    seen.add(pattern)
                    waiting.append(link)


def test_no_page_has_a_dead_link_an_inline_script_or_a_field_without_a_label(client: TestClient) -> None:
    visited = []
    for address, links in _walk(client, ["/"]):
        visited.append(address)
        for field in links.inputs:
            assert field.get("id") in links.labels or field.get("aria-label"), f"{address}: {field}"
    for page in ("/analyse", "/train", "/transform", "/runs", "/models", "/jobs", "/api"):
        assert page in visited


def test_what_is_not_there_is_said_on_a_page(client: TestClient) -> None:
    for path in (
        "/nothing",
        "/runs/0123456789abcdef",
        "/results/run/0123456789abcdef",
        "/results/x/y",
        "/jobs/x",
        "/models/x",
    ):
        answer = client.get(path)
        assert answer.status_code == 404 and answer.headers["content-type"].startswith("text/html"), path
        assert "Traceback" not in answer.text


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    metrics = client.get("/metrics").text
    assert "plankter_request_seconds_bucket" in metrics and 'route="/api/v1/runs' in metrics
