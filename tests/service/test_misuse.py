"""What people and other programs do that nobody meant: other sites, other names, ten thousand files, a model taken away."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from plankter.classify.models import load_model
from plankter.service import predicting, state
from plankter.service.app import create_app
from plankter.service.uploads import Upload
from plankter.workflow.workspace import built_in_models, keep_model, open_workspace

HERE = "http://127.0.0.1:8000"


def png(seed: int = 0, side: int = 32) -> bytes:
    image = np.random.default_rng(seed).integers(0, 255, (side, side), np.uint8)
    return bytes(cv2.imencode(".png", image)[1])


def zip_of(names: list[str], data: bytes) -> bytes:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, data)
    return out.getvalue()


# -- other sites, other names
def test_no_route_that_changes_anything_is_open_to_another_site(client: TestClient) -> None:
    described: dict[str, Any] = client.get("/api/v1/openapi.json").json()["paths"]
    changing = [(m, path) for path, methods in described.items() for m in methods if m not in ("get", "head")]
    pages = [
        "/try",
        "/analyse",
        "/train",
        "/transform",
        "/jobs/x/cancel",
        "/jobs/x/remove",
        "/v2/models/flowcam/predict/",
    ]
    assert len(changing) > 8
    for method, path in [*changing, *(("post", page) for page in pages)]:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert client.request(method, path, headers=headers).status_code == 403, f"{method} {path}"


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example:8000", "evil.example.localhost:80",
    "[::1].evil.example", "0.0.0.0:8000", "192.168.1.5", "127.0.0.1@evil.example", "evil.example#127.0.0.1", "", " ",
])  # fmt: skip
def test_a_name_that_was_bent_to_this_computer_reads_nothing(client: TestClient, host: str) -> None:
    for method, path in (
        ("GET", "/"), ("GET", "/api/v1/status"), ("GET", "/metrics"), ("GET", "/static/plankter.css"), ("GET", "/health"),
        ("POST", "/api/v1/predict"), ("GET", "/api/v1/openapi.json"),
    ):  # fmt: skip
        answer = client.request(method, path, headers={"Host": host})
        assert answer.status_code == 421, f"{method} {path}"


def test_no_answer_invites_another_site(client: TestClient) -> None:
    for path in ("/api/v1/status", "/", "/api/v1/predict"):
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        for method in ("OPTIONS", "GET"):
            assert not [
                n for n in client.request(method, path, headers=asked).headers if n.startswith("access-control")
            ]


# -- ten thousand files at once
def test_ten_thousand_files_in_one_upload(client: TestClient, demo_workspace: Path) -> None:
    upload_id = client.post("/api/v1/uploads").json()["id"]
    upload = Upload(demo_workspace / "uploads" / upload_id)
    lines = []
    for number in range(10_000):  # as many requests would have left it
        path = upload.data / f"station {number // 1_000}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * (number % 2))
        lines.append(json.dumps([path.relative_to(upload.data).as_posix(), 1]) + "\n")
    (upload.folder / "sizes.jsonl").write_text("".join(lines), encoding="utf-8")
    shown = client.get(f"/api/v1/uploads/{upload_id}").json()
    assert len(shown["files"]) == 10_000 and len(shown["missing"]) == 5_000
    refused = client.post("/api/v1/jobs", json={"kind": "analyse", "arguments": {"upload": upload_id}})
    assert refused.status_code == 409 and "4,997 more" in refused.json()["detail"].replace("4997", "4,997")
    assert client.put(f"/api/v1/uploads/{upload_id}/files/station 0/0.png?size=1", content=b"x").json()["size"] == 1
    assert client.delete(f"/api/v1/uploads/{upload_id}").status_code == 204


def test_many_files_sent_at_the_same_time_all_arrive(client: TestClient) -> None:
    upload = client.post("/api/v1/uploads").json()["id"]

    def send(number: int) -> int:
        address = f"/api/v1/uploads/{upload}/files/{number % 7}/{number}.bin?size={number}"
        return client.put(address, content=b"x" * number).status_code

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(send, range(400))) == {200}
    shown = client.get(f"/api/v1/uploads/{upload}").json()
    assert shown["missing"] == [] and sum(shown["files"].values()) == sum(range(400)) and len(shown["files"]) == 400


def test_one_file_sent_by_many_at_the_same_time_is_never_mixed(client: TestClient, demo_workspace: Path) -> None:
    upload = client.post("/api/v1/uploads").json()["id"]

    def send(letter: int) -> int:
        return client.put(
            f"/api/v1/uploads/{upload}/files/a?size=300000", content=bytes([letter]) * 300_000
        ).status_code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(send, range(8)))
    assert found.count(200) == 1 and set(found) <= {200, 409}
    assert len(set((demo_workspace / "uploads" / upload / "data" / "a").read_bytes())) == 1


def test_too_many_images_at_once_are_sent_elsewhere(client: TestClient) -> None:
    answer = client.post("/api/v1/predict/zip", content=zip_of([f"{n}.png" for n in range(10_000)], b"x"))
    assert answer.status_code == 413 and "use an upload and a job" in answer.json()["detail"]
    many = {"images": [{"file": str(n), "data": ""} for n in range(10_000)]}
    assert client.post("/api/v1/predict/many", json=many).status_code == 422


# -- a model that is taken away while it is in use
@pytest.fixture
def with_own_model(demo_workspace: Path, tmp_path: Path) -> Iterator[tuple[TestClient, Path]]:
    """A server whose workspace has a model ``mine``, and the folder of that."""
    folder = tmp_path / "w"
    shutil.copytree(demo_workspace, folder, ignore=shutil.ignore_patterns("*.lock", "*.turn"))
    copy = tmp_path / "mine"
    shutil.copytree(built_in_models()["flowcam"], copy)
    facts = json.loads((copy / "model.json").read_text(encoding="utf-8"))
    (copy / "model.json").write_text(json.dumps({**facts, "name": "mine"}), encoding="utf-8")
    with open_workspace(folder) as workspace:
        model = keep_model(workspace, load_model(copy))
    with TestClient(create_app(folder), base_url=HERE) as client:
        yield client, folder / "models" / model.model_id


def test_a_model_deleted_while_it_is_in_use(
    with_own_model: tuple[TestClient, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, folder = with_own_model
    assert client.post("/api/v1/predict?model=mine", content=png()).status_code == 200
    upload = client.post("/api/v1/uploads").json()["id"]
    client.put(f"/api/v1/uploads/{upload}/files/a.png", content=png())
    shutil.rmtree(folder)
    assert client.post("/api/v1/predict?model=mine", content=png(1)).status_code == 200  # it is loaded
    monkeypatch.setattr(state, "KNOWN_S", 0.0)
    monkeypatch.setattr(predicting, "KNOWN_S", 0.0)
    for query in ("?model=mine", "?model=mine&scores=1"):
        answer = client.post(f"/api/v1/predict{query}", content=png(2))
        assert answer.status_code in (404, 422) and answer.json()["detail"], answer.text
        assert str(folder.parent.parent) not in answer.text
    job = client.post("/api/v1/jobs", json={"kind": "analyse", "arguments": {"upload": upload, "model": "mine"}})
    if job.status_code == 202:  # the catalogue still knows it
        until = time.monotonic() + 120
        while (found := client.get(f"/api/v1/jobs/{job.json()['id']}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < until
            time.sleep(0.2)
        assert found["state"] == "failed" and found["reason"] and "error in the program" not in found["reason"], found
    else:
        assert job.status_code in (404, 422)
    for path in ("/models", "/models/mine", "/api/v1/models", "/api/v1/models/mine", "/analyse", "/train"):
        assert client.get(path).status_code in (200, 404, 422), path
    assert client.post("/api/v1/predict?model=flowcam", content=png()).status_code == 200
