"""A full disk: one clear message, and nothing is lost of what was answered."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from plankter._errors import DiskFull
from plankter.client import Client, JobFailed
from plankter.service import job_runner
from plankter.service.job_runner import JobRunner
from plankter.service.jobs import FAILED, JobStore
from plankter.service.uploads import Upload
from plankter.store import files
from plankter.synthetic import simulate_flowcam_run
from plankter.workflow.upkeep import check
from plankter.workflow.workspace import open_workspace

# the disk is small, so the server may not keep the usual half gigabyte of it free
NOTHING_KEPT_FREE = "from plankter.service import uploads; uploads.FREE_BYTES = 0"


@pytest.fixture
def small_disk(tmp_path: Path, demo_workspace: Path) -> Iterator[Path]:
    """A file system of its own with 4 MB beside the workspace in it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    used = int(
        subprocess.run(["du", "-sk", demo_workspace], capture_output=True, text=True, check=True).stdout.split()[0]
    )
    mount = ["mount", "-t", "tmpfs", "-o", f"size={used + 4_000}k", "tmpfs", str(disk)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        shutil.copytree(demo_workspace, disk / "w", ignore=shutil.ignore_patterns("*.lock", "*.turn"))
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, left: int) -> None:
    """Leaves only so many bytes, by a file ``filler``."""
    with (disk / "filler").open("wb") as file:
        while (free := shutil.disk_usage(disk).free - left) > 0:
            file.write(bytes(min(free, 100_000)))
            file.flush()


def test_uploads_and_jobs_on_a_full_disk(small_disk: Path, serve: Callable[..., Any], tmp_path: Path) -> None:
    folder = small_disk / "w"
    server = serve(folder, NOTHING_KEPT_FREE)
    run = simulate_flowcam_run(tmp_path, name="late_4x", particles=30, seed=9).folder
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(range(250)) * 4_000)
    answered: list[int] = []
    with Client(server.address) as client:
        before = client.status()
        ready = client.upload(run)
        upload, filler = client.begin_upload(), small_disk / "filler"

        # an upload: what was answered stays, and it goes on
        def meanwhile(name: str, here: int, total: int) -> None:
            answered.append(here)
            if here == 400_000:
                fill(small_disk, 300_000)

        with pytest.raises(DiskFull, match="no room") as full:
            client.upload(large, upload_id=upload, part_bytes=200_000, progress=meanwhile)
        assert "free some space" in str(full.value) and answered == [200_000, 400_000]
        address = f"/api/v1/uploads/{upload}/files/large.bin?offset=400000"
        status, body = client._server.ask("PUT", address, large.read_bytes()[400_000:], again=False)
        assert status == 507 and "disk is full" in json.loads(body)["detail"]  # the disk itself, as no size was told
        here = client._server.json("GET", f"/uploads/{upload}")["files"]["large.bin"]
        assert here >= 400_000
        assert (folder / "uploads" / upload / "data" / "large.bin").read_bytes() == large.read_bytes()[:here]
        filler.unlink()
        client.upload(large, upload_id=upload, part_bytes=200_000)
        assert (folder / "uploads" / upload / "data" / "large.bin").read_bytes() == large.read_bytes()

        # a job that cannot even be noted is refused, and leaves nothing
        fill(small_disk, 0)
        known = {job["id"] for job in client.jobs()}
        for _ in range(3):
            with pytest.raises(DiskFull, match="disk is full"):
                client.start("analyse", upload=ready)
        assert {job["id"] for job in client.jobs()} == known == {path.name for path in (folder / "jobs").glob("*")}
        assert client.status() == before

        # one that finds the disk full on its way says so, and is done when there is room
        for left in (0, 150_000):
            fill(small_disk, 150_000)
            job = client.start("analyse", upload=ready)
            fill(small_disk, left)
            with pytest.raises(JobFailed, match="disk is full"):
                client.wait(job["id"], timeout_s=120)
        filler.unlink()
        assert client.status() == before
        client._server.json("POST", f"/jobs/{job['id']}/retry")
        assert client.wait(job["id"], timeout_s=120)["result"]["what"] == "runs"
        assert client.status()["runs"] == before["runs"] + 1
    server.end()
    with open_workspace(folder) as workspace:
        assert check(workspace, deep=True)["problems"] == []


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_job_that_cannot_be_noted_is_refused(
    client: TestClient, demo_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((demo_workspace / "jobs").glob("*"))
    monkeypatch.setattr(files, "sync", no_room)
    answer = client.post("/api/v1/jobs", json={"kind": "export", "arguments": {"format": "csv"}})
    assert answer.status_code == 507 and answer.json()["code"] == "disk_full" and answer.json()["hint"]
    assert client.post("/api/v1/uploads").status_code == 507
    assert sorted((demo_workspace / "jobs").glob("*")) == before


def test_a_catalogue_without_room_is_said_as_such(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from plankter.store.sqlite_connect import store_error

    error = store_error(sqlite3.OperationalError("database or disk is full"), Path("c.sqlite"))
    assert isinstance(error, DiskFull) and error.hint


def test_half_a_note_of_a_size_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = Upload(tmp_path)
    upload.announce("a", 1)
    real = json.dumps

    def dumps(value: Any) -> str:
        with (tmp_path / "sizes.jsonl").open("a") as file:
            file.write(real(value)[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("plankter.service.uploads.json.dumps", dumps)
    with pytest.raises(OSError, match="No space"):
        upload.announce("b", 2)
    monkeypatch.undo()
    upload.announce("c", 3)
    assert upload.missing() == ["a", "c"]


def test_a_job_whose_end_cannot_be_noted_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(tmp_path / "jobs")
    runner = JobRunner(tmp_path, store, {}, ("false",))
    job = runner.submit("export", "x", {})
    runner._spawn(job)
    runner._started[job.id].wait()
    with monkeypatch.context() as full:
        full.setattr(files, "sync", no_room)
        runner._look()
        assert job.id in runner._open and not store.folder(job.id).read().ended
    monkeypatch.setattr(job_runner.JobRunner, "_spawn", no_room)
    runner._look()
    assert store.folder(job.id).read().state == FAILED and not (store.root / job.id / ".room").exists()
