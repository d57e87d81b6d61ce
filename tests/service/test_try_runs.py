"""What is only tried: a whole run as a job of which nothing stays; and the other parts of the pages that begin jobs."""

from __future__ import annotations

import csv
import io
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from served import ended

from plankter._errors import NotFound
from plankter.service import try_runs
from plankter.service.app import create_app
from plankter.service.jobs import DONE, RUNNING, Job, JobStore
from plankter.service.try_runs import TryRuns
from plankter.service.uploads import UploadLimits, UploadStore
from plankter.synthetic import simulate_flowcam_run
from plankter.workflow.workspace import init_workspace

HX = {"HX-Request": "true"}


def files_of(folder: Path) -> set[str]:
    """Files of a workspace but those of the server itself and the computed networks; the catalogue's by name."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in names if not name.startswith(("service/", "cache/", "catalogue.sqlite"))}


def put(client: TestClient, files: dict[str, bytes], purpose: str = "try") -> str:
    upload = str(client.post("/api/v1/uploads", json={"purpose": purpose}).json()["id"])
    for name, data in files.items():
        answer = client.put(f"/api/v1/uploads/{upload}/files/{name}?size={len(data)}", content=data)
        assert answer.status_code == 200
    return upload


def png(seed: int) -> bytes:
    image = np.full((48, 48), 200, np.uint8)
    cv2.circle(image, (24, 24), 6 + seed % 14, 10 * (seed % 9), -1)
    return bytes(cv2.imencode(".png", image)[1])


@pytest.fixture(scope="module")
def run_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A simulated run, as a browser would send its folder."""
    folder = simulate_flowcam_run(
        tmp_path_factory.mktemp("run") / "i", name="secret_station", particles=25, seed=5
    ).folder
    return {
        f"{folder.name}/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init_workspace(tmp_path_factory.mktemp("tried") / "w")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(folder), base_url="http://127.0.0.1:8000") as found:
        yield found


def test_a_run_is_tried_and_nothing_of_it_stays(client: TestClient, folder: Path, run_files: dict[str, bytes]) -> None:
    before, catalogue = files_of(folder), (folder / "catalogue.sqlite").read_bytes()
    upload = put(client, run_files)
    address = client.post("/analyse", data={"upload": upload, "model": "flowcam", "keep": "no"}).json()["location"]
    job = ended(client, address.rsplit("/", 1)[1])
    assert job["state"] == "done" and job["kind"] == "try", job
    (run,) = job["result"]["runs"]
    assert run["particles"] == 25 and job["result"]["what"] == "runs"
    page = client.get(address).text
    assert "Nothing of this is kept" in page
    results = f"/results/tried/{job['id']}.{run['run_id']}"
    assert results in page and "mL imaged" in client.get(results).text
    rows = list(
        csv.DictReader(io.StringIO(client.get(f"{results}/download/predictions.csv").content.decode("utf-8-sig")))
    )
    assert len(rows) == 25
    assert client.get(f"{results}/images/0/picture").headers["content-type"] == "image/png"
    report = client.get(f"/jobs/{job['id']}/runs/{run['run_id']}/report")
    assert (
        report.status_code == 200
        and "secret_station" in report.text
        and "sandbox" in report.headers["content-security-policy"]
    )
    tables = zipfile.ZipFile(io.BytesIO(client.get(f"/jobs/{job['id']}/files.zip").content))
    assert "particles.csv" in tables.namelist()
    assert client.get("/api/v1/runs").json()["runs"] == [] and "secret_station" not in client.get("/runs").text
    assert client.post(f"/jobs/{job['id']}/forget", headers=HX).headers["HX-Redirect"] == "/analyse"
    assert files_of(folder) == before and (folder / "catalogue.sqlite").read_bytes() == catalogue
    assert not list((folder / "uploads").iterdir()) and not list((folder / "jobs").iterdir())
    for gone in (
        address,
        results,
        f"{results}/download/predictions.csv",
        f"/jobs/{job['id']}/runs/{run['run_id']}/report",
    ):
        assert client.get(gone).status_code == 404, gone


def test_many_images_are_tried_as_a_job(client: TestClient, folder: Path) -> None:
    before = files_of(folder)
    upload = put(client, {f"mine/{n}.png": png(n) for n in range(5)})
    body = {"kind": "try", "arguments": {"upload": upload}}
    job = ended(client, client.post("/api/v1/jobs", json=body).json()["id"])
    assert job["state"] == "done" and job["result"]["files"] == 5, job
    assert client.get(f"/results/job/{job['id']}").status_code == 200
    client.post(f"/jobs/{job['id']}/forget")
    assert files_of(folder) == before and client.get(f"/results/job/{job['id']}").status_code == 404


def test_what_was_tried_is_gone_after_a_while(
    client: TestClient, folder: Path, run_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(folder)
    broken = {name: data for name, data in run_files.items() if not name.endswith((".tif", ".bmp", ".png"))}
    job = ended(
        client,
        client.post("/api/v1/jobs", json={"kind": "try", "arguments": {"upload": put(client, broken)}}).json()["id"],
    )
    assert files_of(folder) != before
    monkeypatch.setattr(try_runs, "KEPT_S", 0.0)
    for _ in range(100):
        if client.get(f"/api/v1/jobs/{job['id']}").status_code == 404:
            break
        time.sleep(0.1)
    assert files_of(folder) == before


def test_a_zip_with_a_run_is_not_taken_for_images(client: TestClient, run_files: dict[str, bytes]) -> None:
    begun = client.post("/try", data={"model": "flowcam"}).json()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in run_files.items():
            file.writestr(name, data)
    answer = client.post(f"/try/{begun['id']}?name=run.zip", content=out.getvalue(), headers=HX)
    assert answer.status_code == 409 and "run of an instrument" in answer.text


def test_only_what_is_tried_is_forgotten(client: TestClient) -> None:
    job_id = client.post("/api/v1/jobs", json={"kind": "export", "arguments": {"format": "csv"}}).json()["id"]
    assert client.post(f"/jobs/{job_id}/forget", headers=HX).status_code == 404
    assert ended(client, job_id)["state"] == "done"
    assert client.get(f"/jobs/{job_id}/runs/0123456789abcdef/report").status_code == 404


# -- the keeper alone, with jobs that no process works at
class _Runner:
    def __init__(self) -> None:
        self.cancelled: list[str] = []

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


def _left(store: JobStore, uploads: UploadStore, state: str) -> tuple[Job, str]:
    upload = uploads.create("try")
    (upload.data / "a.tif").write_bytes(b"x")
    job = store.create("try", "T", {"upload": upload.id}, {})
    folder = store.folder(job.id)
    (folder.folder / "workspace").mkdir()
    (folder.folder / "workspace" / "catalogue.sqlite").write_bytes(b"x")
    job = folder.write(Job(**{**job.__dict__, "state": state}))
    return folder.end(job, DONE) if state == DONE else job, upload.id


def test_a_start_removes_what_a_killed_server_left(tmp_path: Path) -> None:
    store, uploads, runner = JobStore(tmp_path / "jobs"), UploadStore(tmp_path / "uploads", UploadLimits()), _Runner()
    uploads.root.mkdir()
    (done, _), (running, its) = _left(store, uploads, DONE), _left(store, uploads, RUNNING)
    kept, other = store.create("analyse", "K", {}, {}), uploads.create("analyse")
    cut = uploads.create("try")  # sent, but its job was never begun
    keeper = TryRuns(store, runner, uploads)  # type: ignore[arg-type]
    keeper.start()
    assert not (store.root / done.id).exists() and runner.cancelled == [running.id]
    assert (store.root / kept.id).is_dir() and other.folder.is_dir() and not cut.folder.exists()
    store.folder(running.id).end(store.folder(running.id).read(), "cancelled")
    keeper.stop()
    assert not (store.root / running.id).exists()
    with pytest.raises(NotFound):
        uploads.get(its)
    with pytest.raises(NotFound):
        keeper.folder_of(running.id)
    assert (store.root / kept.id).is_dir()


# -- an evaluation that is not kept
def test_a_test_set_is_evaluated_and_nothing_of_it_stays(client: TestClient, folder: Path) -> None:
    before, catalogue = files_of(folder), (folder / "catalogue.sqlite").read_bytes()
    secret = {f"set/{name}/secret_{n}.png": png(n) for name in ("Bubbles", "Tripos") for n in range(3)}
    form = {
        "upload": put(client, secret),
        "model": "flowcam",
        "against": "flowcam-small",
        "keep": "no",
        "title": "Mine",
    }
    address = client.post("/evaluate", data=form).json()["location"]
    job = ended(client, address.rsplit("/", 1)[1])
    assert job["state"] == "done" and job["arguments"]["keep"] is False, job
    page, key = client.get(address).text, job["id"]
    assert "Nothing of this is kept" in page and f"/jobs/{key}/forget" in page and f"/jobs/{key}/remove" not in page
    matrix = client.get(f"/evaluations/{key}?all=true").text
    assert "Nothing of this is kept" in matrix and "/compare?first=" not in matrix
    picture = f"/results/evaluation/{key}/images/0/picture"
    assert client.get(picture).headers["content-type"] == "image/png"
    assert "Nothing of this is kept" in client.get(f"/comparisons/{key}").text
    assert key not in client.get("/compare").text.split("Done before")[0]
    refused = client.post("/compare", data={"first": key, "second": f"{key}.against"}, headers=HX)
    assert refused.status_code == 422 and "not kept" in refused.text
    assert client.post(f"/jobs/{key}/forget", headers=HX).headers["HX-Redirect"] == "/models"
    assert files_of(folder) == before and (folder / "catalogue.sqlite").read_bytes() == catalogue
    gone = (address, f"/evaluations/{key}", f"/evaluations/{key}.against", f"/evaluations/{key}/scores.json", picture,
            f"/results/evaluation/{key}/images/0", f"/comparisons/{key}", f"/jobs/{key}/report")  # fmt: skip
    for one in gone:
        assert client.get(one).status_code == 404, one
    for path in folder.rglob("*"):
        assert not path.is_file() or b"secret_0" not in path.read_bytes(), path


def test_an_evaluation_that_is_not_kept_goes_with_its_job_and_leaves_others_their_images(
    client: TestClient, folder: Path
) -> None:
    upload = put(client, {f"set/Tripos/{n}.png": png(n) for n in range(3)}, "api")
    asked = {"upload": upload, "model": "flowcam-small"}
    jobs = [
        client.post("/api/v1/jobs", json={"kind": "evaluate", "arguments": {**asked, **keep}}).json()["id"]
        for keep in ({"keep": False}, {"keep": True}, {"keep": False})
    ]
    assert {ended(client, job)["state"] for job in jobs} == {"done"}
    for wrong in ("no", 0, [False]):
        body = {"kind": "evaluate", "arguments": {**asked, "keep": wrong}}
        assert client.post("/api/v1/jobs", json=body).status_code == 422, wrong
    assert client.delete(f"/api/v1/jobs/{jobs[0]}").status_code == 204
    assert client.get(f"/results/evaluation/{jobs[1]}/images/0/picture").status_code == 200
    assert client.post(f"/jobs/{jobs[1]}/forget", headers=HX).status_code == 404
    assert client.post(f"/jobs/{jobs[1]}/remove", headers=HX).status_code == 200
    assert (folder / "uploads" / upload).is_dir()
    assert client.post(f"/jobs/{jobs[2]}/remove", headers=HX).status_code == 200
    assert not (folder / "uploads" / upload).exists() and not any((folder / "jobs" / job).exists() for job in jobs)


# -- a reference of one's own, and MLflow
def test_a_set_is_made_like_one_of_the_users_own(client: TestClient) -> None:
    upload = put(client, {f"mine/a/{n}.png": png(n) for n in range(4)}, "transform")
    light = {
        f"ref/{n}.png": bytes(
            cv2.imencode(".png", np.full((40, 40), 240, np.uint8) - np.eye(40, dtype=np.uint8) * 90)[1]
        )
        for n in range(4)
    }
    form = {
        "upload": upload,
        "like": "flowcam",
        "like_upload": put(client, light, "transform"),
        "um_per_px": "1.5",
        "like_um_per_px": "3",
    }
    job = ended(client, client.post("/transform", data=form).json()["location"].rsplit("/", 1)[1])
    assert job["state"] == "done" and "like" not in job["arguments"], job
    assert job["result"]["matching"]["like"]["um_per_px"] == 3.0 and job["result"]["written"] == 4
    assert client.get(f"/jobs/{job['id']}/preview").content[:4] == b"\x89PNG"
    for wrong in ("x", "0", "-1", "nan", "inf"):
        answer = client.post("/transform", data={**form, "um_per_px": wrong}, headers=HX)
        assert answer.status_code == 422, wrong


def test_a_model_is_registered_where_a_server_is_named(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.post("/models/flowcam/register", headers=HX)
    assert answer.status_code == 422 and "MLFLOW_TRACKING_URI" in answer.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret-word@127.0.0.1:9")
    address = client.post("/models/flowcam/register", headers=HX).headers["HX-Redirect"]
    job = ended(client, address.rsplit("/", 1)[1])
    assert job["state"] == "failed" and re.search("MLflow", job["reason"]) and "secret-word" not in job["reason"]
    assert "secret-word" not in client.get(address).text
    assert client.post("/models/nothing/register", headers=HX).status_code == 404


def test_the_page_of_a_model_offers_the_registry_where_one_is_named(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = client.get("/api/v1/models/flowcam").json()["model_id"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "Register in MLflow" not in client.get("/models/flowcam").text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for name in ("flowcam", model_id):
        page = client.get(f"/models/{name}").text
        assert f'hx-post="/models/{model_id}/register">Register in MLflow<' in page
