"""The DEEPaaS V2 surface, as the platform's clients use it."""

from __future__ import annotations

import io
import time
import zipfile
from typing import Any

import pytest
from fastapi.testclient import TestClient

from plankter.service.multipart import parts_of
from plankter.service.problems import Problem


def vignettes(client: TestClient, count: int) -> list[bytes]:
    run_id = client.get("/api/v1/runs").json()["runs"][0]["run_id"]
    return [client.get(f"/api/v1/runs/{run_id}/particles/{n}/image").content for n in range(count)]


def test_models_and_versions(client: TestClient) -> None:
    assert client.get("/v2/").json()["id"] == "v2"
    found = client.get("/v2/models/").json()["models"]
    assert found[0]["id"] == "flowcam"
    assert client.get("/v2/models/flowcam/").json() == found[0]
    assert client.get("/v2/models/nothing/").status_code == 404


def test_an_image_of_a_form_is_predicted_like_one_of_the_api(client: TestClient) -> None:
    image = vignettes(client, 1)[0]
    found = client.post("/v2/models/flowcam/predict/?topk=3", files={"image": ("a.png", image, "image/png")}).json()
    assert found["status"] == "OK" and len(found["labels"]) == len(found["probabilities"]) == 3
    same = client.post("/api/v1/predict?top=3", content=image).json()
    assert found["labels"] == [entry["class_id"] for entry in same["top"]]


def test_bad_forms_are_told_with_their_reason(client: TestClient) -> None:
    address = "/v2/models/flowcam/predict/"
    assert client.post(address, files={"other": ("a.png", b"x")}).status_code == 422
    assert client.post(address, content=b"x").status_code == 415
    broken = client.post(address, files={"image": ("a.png", b"no image")})
    assert broken.status_code == 422 and "image" in broken.json()["detail"]
    assert client.post(address, files={"image": ("a.png", b"x")}, data={"topk": "many"}).status_code == 422


def test_the_description_has_what_the_platforms_page_needs(client: TestClient) -> None:
    found = client.get("/swagger.json").json()
    path = next(path for path in found["paths"] if path.endswith("predict/"))
    parameters = {p["name"]: p for p in found["paths"][path]["post"]["parameters"]}
    assert parameters["image"]["type"] == "file" and "image" in parameters["image"]["description"]
    assert {"labels", "probabilities"} <= set(found["definitions"]["ModelPredictionResponse"]["properties"])


def test_a_training_runs_beside_predictions_and_keeps_its_status(client: TestClient) -> None:
    images = vignettes(client, 40)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number, data in enumerate(images):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", data)
    address = "/v2/models/flowcam/train/"
    begun = client.post(address, files={"images": ("set.zip", out.getvalue())}, data={"name": "by-deepaas"}).json()
    assert begun["status"] == "running" and begun["args"]["name"] == "by-deepaas"
    assert client.post("/v2/models/flowcam/predict/", files={"image": ("a.png", images[0])}).status_code == 200
    found: dict[str, Any] = {}
    for _ in range(600):
        found = client.get(address + begun["uuid"]).json()
        if found["status"] != "running":
            break
        time.sleep(0.2)
    assert found["status"] == "done", found
    assert found["result"]["output"]["name"] == "by-deepaas"
    assert begun["uuid"] in [entry["uuid"] for entry in client.get(address).json()]
    second = client.post(address, files={"images": ("set.zip", out.getvalue())}).json()
    assert client.delete(address + second["uuid"]).json()["status"] == "cancelled"


def test_a_form_keeps_bytes_as_they_are() -> None:
    data = bytes(range(256)) * 3 + b"\r\n--other\r\n\n\r"
    body = b'--B\r\nContent-Disposition: form-data; name="image"; filename="a \xc3\xa9.png"\r\nContent-Type: image/png\r\n\r\n'
    body += data + b'\r\n--B\r\nContent-Disposition: form-data; name="topk"\r\n\r\n3\r\n--B--\r\n'
    image, topk = parts_of("multipart/form-data; boundary=B", body)
    assert (image.name, image.data) == ("image", data) and image.filename is not None
    assert (topk.name, topk.filename, topk.data) == ("topk", None, b"3")
    for cut in (body[:50], body[:-8], b"", b"--B--x"[:3]):
        with pytest.raises(Problem):
            parts_of("multipart/form-data; boundary=B", cut)
