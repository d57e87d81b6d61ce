"""The pages of evaluations and of two of them beside each other."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from service_images import png, zipped

CLASSES = ("Bubbles", "Copepoda_adult", "Tripos")
PER_CLASS = 6


def done(client: TestClient, job_id: str) -> dict[str, Any]:
    for _ in range(900):
        job: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running"):
            assert job["state"] == "done", job
            return job
        time.sleep(0.2)
    raise AssertionError("the job did not end")


def evaluated(client: TestClient, **more: str) -> str:
    """The id of an evaluation of the shipped model on 18 images of 3 classes."""
    members = {f"set/{name}/{k}.png": png(k + 10 * n) for n, name in enumerate(CLASSES) for k in range(PER_CLASS)}
    data = zipped(members)
    upload = client.post("/api/v1/uploads").json()["id"]
    assert client.put(f"/api/v1/uploads/{upload}/files/set.zip?size={len(data)}", content=data).status_code == 200
    body = {"kind": "evaluate", "title": "My set", "arguments": {"upload": upload, "model": "flowcam", **more}}
    return str(done(client, client.post("/api/v1/jobs", json=body).json()["id"])["id"])


@pytest.fixture(scope="session")
def first(client: TestClient) -> str:
    return evaluated(client)


@pytest.fixture(scope="session")
def second(client: TestClient) -> str:
    return evaluated(client, against="flowcam")


def test_the_page_has_matrix_thresholds_and_classes(client: TestClient, first: str) -> None:
    page = client.get(f"/evaluations/{first}?all=true").text
    cells = [int(n) for n in re.findall(r'<td class="(?:right|wrong)\d"><a [^>]*>(\d+)</a>', page)]
    assert sum(cells) == 18
    assert 'type="range"' in page and 'data-thresholds="/evaluations/' in page
    hardest = [int(n) for n in re.findall(r'<tr data-class="(\d+)"', page)]
    scores = client.get(f"/evaluations/{first}/scores.json").json()
    assert set(hardest) == set(scores["true"]) | set(scores["given"])
    assert "style=" not in page


def test_scores_in_pages_are_all_images_once(client: TestClient, first: str) -> None:
    whole = client.get(f"/evaluations/{first}/scores.json").json()
    assert whole["total"] == 18 and whole["next"] is None
    assert all(0 <= score <= 1000 for score in whole["score"])
    assert np.bincount(whole["true"])[sorted(set(whole["true"]))].tolist() == [6, 6, 6]
    parts: dict[str, list[int]] = {"true": [], "given": [], "score": []}
    start = 0
    while start is not None:
        page = client.get(f"/evaluations/{first}/scores.json?start={start}&limit=7").json()
        for name, values in parts.items():
            values += page[name]
        start = page["next"]
    assert parts == {name: whole[name] for name in parts}
    assert client.get(f"/evaluations/{first}/scores.json?limit=50001").status_code == 422
    assert client.get(f"/evaluations/{first}/scores.json?start=-1").status_code == 422


def test_every_cell_opens_its_images(client: TestClient, first: str) -> None:
    page = client.get(f"/evaluations/{first}").text
    found = re.findall(r'href="(/evaluations/[^"]*true=[^"]*)" aria-label="(\d+) ', page)
    assert found
    for address, count in found[:6]:
        part = client.get(address.replace("&amp;", "&"), headers={"HX-Request": "true", "HX-Target": "cell"}).text
        assert "<html" not in part and f" of {count}," in part
        pictures = re.findall(r'src="(/results/evaluation/[^"]*)"', part)
        assert len(pictures) == int(count)
        picture = client.get(pictures[0])
        assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"
        detail = client.get(pictures[0].removesuffix("/picture")).text
        assert "its folder says" in detail


def test_what_is_no_evaluation_is_not_found(client: TestClient, first: str) -> None:
    export = client.post("/api/v1/jobs", json={"kind": "export", "arguments": {"format": "csv"}}).json()["id"]
    for path in (
        export, "x", "%2E%2E%2Fmodels", f"{first}.against", f"{first}.x", f"{first}?true=nothing", f"{first}?given=%3Cb%3E",
        f"{first}/scores.jso",
    ):  # fmt: skip
        answer = client.get(f"/evaluations/{path}")
        assert answer.status_code == 404 and "<b>" not in answer.text, path


def test_an_evaluation_without_its_images_says_so(client: TestClient, demo_workspace: Any) -> None:
    job = evaluated(client)
    (demo_workspace / "jobs" / job / "images.parquet").unlink()
    answer = client.get(f"/evaluations/{job}")
    assert answer.status_code == 404 and "evaluate again" in answer.text
    assert f"/evaluations/{job}" not in client.get(f"/jobs/{job}").text


def test_two_evaluations_beside_each_other(client: TestClient, first: str, second: str) -> None:
    page = client.get(f"/compare?first={second}.against").text
    assert f'<option value="{second}.against" selected>' in page and f'value="{first}"' in page
    answer = client.post("/compare", data={"first": first, "second": f"{second}.against"})
    address = answer.headers["HX-Redirect"]
    job = done(client, address.rsplit("/", 1)[1])
    assert job["result"]["images"] == 18 and job["result"]["p"] == 1 and job["result"]["left_out"] == 0
    page = client.get(address).text
    assert "no difference between flowcam (first) and flowcam (second) can be told from chance" in page
    assert "level in 3" in page and "<svg" in page
    assert address in client.get("/compare").text


def test_an_evaluation_of_two_models_is_a_comparison(client: TestClient, first: str, second: str) -> None:
    page = client.get(f"/comparisons/{second}").text
    assert "18 images that both models saw" in page
    assert f'href="/evaluations/{second}.against"' in page
    assert f"/comparisons/{second}" in client.get(f"/evaluations/{second}.against").text
    assert client.get(f"/comparisons/{first}").status_code == 404


@pytest.mark.parametrize("chosen", [
    {"first": "x", "second": "y"}, {"first": "", "second": ""}, {}, {"first": "../../x", "second": "..%2F.against"},
])  # fmt: skip
def test_comparisons_that_cannot_be(client: TestClient, chosen: dict[str, str]) -> None:
    assert client.post("/compare", data=chosen or {"other": "x"}).status_code in (404, 422)
    body = {"kind": "compare", "arguments": chosen}
    assert client.post("/api/v1/jobs", json=body).status_code in (404, 422)


def test_an_evaluation_beside_itself_is_refused(client: TestClient, first: str) -> None:
    body = {"kind": "compare", "arguments": {"first": first, "second": first}}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 422 and "two different" in answer.json()["detail"]
