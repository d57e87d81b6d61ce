"""Files on their way in."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from plankter.service.app import create_app
from plankter.service.problems import Problem
from plankter.service.state import Limits
from plankter.service.uploads import UploadLimits, safe_name

HERE = "http://127.0.0.1:8000"


def begin(client: TestClient) -> str:
    return str(client.post("/api/v1/uploads").json()["id"])


def test_a_file_in_pieces_goes_on_after_a_cut(client: TestClient, demo_workspace: Path) -> None:
    upload, address = begin(client), "/api/v1/uploads/{}/files/run%201/a.png"
    address = address.format(upload)
    assert client.put(f"{address}?offset=0&size=10", content=b"01234").json() == {"name": "run 1/a.png", "size": 5}
    shown = client.get(f"/api/v1/uploads/{upload}").json()
    assert shown["files"] == {"run 1/a.png": 5} and shown["missing"] == ["run 1/a.png"]
    wrong = client.put(f"{address}?offset=7&size=10", content=b"789")
    assert wrong.status_code == 409 and wrong.json()["size"] == 5
    assert client.put(f"{address}?offset=5&size=10", content=b"56789").json()["size"] == 10
    assert client.get(f"/api/v1/uploads/{upload}").json()["missing"] == []
    assert (demo_workspace / "uploads" / upload / "data" / "run 1" / "a.png").read_bytes() == b"0123456789"


def test_more_than_was_announced_is_refused(client: TestClient) -> None:
    upload = begin(client)
    assert client.put(f"/api/v1/uploads/{upload}/files/a?size=3", content=b"0123").status_code == 413


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "..", "c:x", "a\0b", "x" * 300, "a\\..\\..\\x", "\ud800"]
)
def test_no_name_leaves_the_upload(name: str) -> None:
    with pytest.raises(Problem):
        safe_name(name)


def test_a_name_that_looks_like_markup_is_only_a_name(client: TestClient) -> None:
    upload = begin(client)
    assert client.put(f"/api/v1/uploads/{upload}/files/%3Cscript%3E.png?size=1", content=b"x").status_code == 200


def test_a_job_does_not_begin_with_half_an_upload(client: TestClient) -> None:
    upload = begin(client)
    body = {"kind": "analyse", "arguments": {"upload": upload}}
    assert client.post("/api/v1/jobs", json=body).status_code == 409
    client.put(f"/api/v1/uploads/{upload}/files/a.png?size=10", content=b"0123")
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 409 and "a.png" in answer.json()["detail"]


def test_limits_of_files_and_bytes(demo_workspace: Path) -> None:
    limits = Limits(upload=UploadLimits(max_bytes=20, max_files=2))
    with TestClient(create_app(demo_workspace, limits=limits), base_url=HERE) as client:
        upload = begin(client)
        address = f"/api/v1/uploads/{upload}/files/"
        assert client.put(f"{address}a", content=b"0123456789").status_code == 200
        assert client.put(f"{address}b", content=b"0123456789x").status_code == 413
        assert client.put(f"{address}c?size=100", content=b"0").status_code == 413
        assert client.put(f"{address}d", content=b"0").status_code == 413  # the third file


def test_an_upload_is_removed_and_unknown_ones_are_not_found(client: TestClient, demo_workspace: Path) -> None:
    upload = begin(client)
    assert client.delete(f"/api/v1/uploads/{upload}").status_code == 204
    assert not (demo_workspace / "uploads" / upload).exists()
    for unknown in (upload, "..", "%2e%2e", "x" * 24):
        assert client.get(f"/api/v1/uploads/{unknown}").status_code == 404
