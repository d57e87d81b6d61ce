"""The client against a real server in a process of its own."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from plankter._errors import (
    Conflict,
    ImageError,
    ModelError,
    NotFound,
    PlankterError,
    ReadError,
    SettingsError,
    StoreError,
)
from plankter.client import Client, Denied, JobFailed, Unreachable
from plankter.client.requests import problem_error


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any], demo_workspace: Path) -> Any:
    return serve(demo_workspace)


@pytest.fixture(scope="module")
def lab(served: Any) -> Iterator[Client]:
    with Client(served.address) as found:
        yield found


@pytest.fixture(scope="module")
def images(lab: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve vignettes of the run, in two folders of their own."""
    folder = tmp_path_factory.mktemp("images")
    run = next(lab.runs())
    for index in range(12):
        path = folder / f"class {index % 2}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lab.image(run["run_id"], index))
    return folder


def test_predictions_of_one_many_and_a_zip_agree(lab: Client, images: Path, tmp_path: Path) -> None:
    files = sorted(images.rglob("*.png"))
    one = [lab.predict(path, top=1, scores=False) for path in files]
    assert all(len(found["top"]) == 1 and found["scores"] is None for found in one)
    best = [found["top"][0]["class_id"] for found in one]
    many = lab.predict_many(files, model="flowcam")
    assert many["model"] == "flowcam" and [found["file"] for found in many["images"]] == [str(path) for path in files]
    assert [found["top"][0]["class_id"] for found in many["images"]] == best and len(many["images"][0]["scores"]) == 95
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for path in files:
            out.write(path, path.name)
    packed = lab.predict_zip(tmp_path / "a.zip")
    assert [found["top"][0]["class_id"] for found in packed["images"]] == best
    assert lab.predict(files[0].read_bytes())["top"][0]["class_id"] == best[0]


def test_what_cannot_be_predicted_is_an_error_of_plankter(lab: Client, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        lab.predict(b"no image")
    with pytest.raises(NotFound, match="no model 'nothing'"):
        lab.predict(next(images.rglob("*.png")), model="nothing")
    with pytest.raises(ReadError, match="absent"):
        lab.predict(tmp_path / "absent.png")
    with pytest.raises(SettingsError, match="top"):
        lab.predict(b"x", top=0)
    assert lab.predict_many({"bad": b"no image"})["images"][0]["failure"]
    with pytest.raises(SettingsError, match="expected a zip"):
        lab.predict_zip(b"no zip")


def test_an_analysis_from_upload_to_download(lab: Client, images: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    images = Path(shutil.copytree(images, tmp_path / "images"))
    (images / "empty.png").touch()
    upload = lab.upload(images, part_bytes=200, progress=lambda *facts: told.append(facts))
    total = sum(path.stat().st_size for path in images.rglob("*.png"))
    assert told[-1][1:] == (total, total) and len(told) > 20
    assert [sent for _, sent, _ in told] == sorted(sent for _, sent, _ in told)
    states: list[str] = []
    job = lab.start("analyse", title="Mine", upload=upload, model="flowcam")
    done = lab.wait(job["id"], timeout_s=100, progress=lambda job: states.append(job["state"]))
    assert done["result"]["files"] == 13 and done["result"]["failures"] == 1 and states[-1] == "done"
    assert "analyse begins" in lab.log(job["id"])
    rows = lab.download(job["id"], "predictions.csv", tmp_path / "p.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(rows) == 14 and any(row.startswith("class 0/0.png,") for row in rows)
    assert job["id"] in {found["id"] for found in lab.jobs()}


def test_a_cut_upload_goes_on_where_it_was(lab: Client, served: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(range(250)) * 40)
    sent: list[int] = []

    def cut(name: str, there: int, total: int) -> None:
        sent.append(there)
        if there >= 6_000:
            raise KeyboardInterrupt

    upload = lab.begin_upload()
    with pytest.raises(KeyboardInterrupt):
        lab.upload(file, upload_id=upload, part_bytes=2_000, progress=cut)
    assert sent == [2_000, 4_000, 6_000]
    sent.clear()
    lab.upload(file, upload_id=upload, part_bytes=2_000, progress=lambda name, there, total: sent.append(there))
    assert sent == [8_000, 10_000]
    assert (served.folder / "uploads" / upload / "data" / "a.bin").read_bytes() == file.read_bytes()


def test_an_upload_is_resumed_by_its_id(lab: Client, served: Any, tmp_path: Path) -> None:
    whole, half = bytes(range(250)) * 40, tmp_path / "half"
    half.write_bytes(whole[:3_000])
    upload = lab.upload({"sub/a.bin": half})
    (tmp_path / "whole").write_bytes(whole)
    sent: list[int] = []
    again = lab.upload(
        {"sub/a.bin": tmp_path / "whole"}, upload_id=upload, part_bytes=5_000, progress=lambda n, s, t: sent.append(s)
    )
    assert again == upload and sent == [8_000, 10_000]
    assert (served.folder / "uploads" / upload / "data" / "sub" / "a.bin").read_bytes() == whole
    with pytest.raises(Conflict, match="10000 bytes"):
        lab.upload({"sub/a.bin": half}, upload_id=upload)
    with pytest.raises(NotFound):
        lab.upload(half, upload_id="0" * 24)
    with pytest.raises(ReadError):
        lab.upload(tmp_path / "absent")


def test_an_answer_that_was_lost_sends_nothing_twice(lab: Client, served: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"0123456789" * 10)
    upload = lab.upload({"a.bin": file}, part_bytes=40)
    # the server has 100 bytes of it; a client that believes in 40 is told
    assert lab._put(upload, "a.bin", file, 40, 100, 40) == 100
    assert (served.folder / "uploads" / upload / "data" / "a.bin").read_bytes() == file.read_bytes()


def test_jobs_that_fail_or_are_cancelled_say_so(lab: Client, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    upload = lab.upload(tmp_path / "notes.txt")
    job = lab.start("analyse", upload=upload)
    with pytest.raises(JobFailed) as failed:
        lab.wait(job["id"])
    assert failed.value.job["state"] == "failed" and failed.value.job["reason"] in str(failed.value)
    with pytest.raises(SettingsError, match="needs an upload"):
        lab.start("analyse")
    with pytest.raises(NotFound):
        lab.wait("20260101-000000-00000000")
    assert lab.cancel(job["id"])["state"] == "failed"


def test_lists_by_cursor_are_whole(lab: Client) -> None:
    run = next(lab.runs())
    seen = [row["index"] for row in lab.particles(run["run_id"], limit=7, sort="score", descending=True)]
    assert sorted(seen) == list(range(60)) and seen != sorted(seen)
    assert sum(row["predicted"] for row in lab.counts(run["run_id"])) == run["predicted"] == lab.status()["predicted"]
    assert "flowcam" in {model["name"] for model in lab.models()}
    with pytest.raises(NotFound):
        lab.counts("0" * 16)


def test_threads_share_a_client(lab: Client, images: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    files = sorted(images.rglob("*.png"))
    alone = [lab.predict(path)["top"][0] for path in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: lab.predict(files[n % 12])["top"][0]["class_id"], range(48)))
    assert together == [found["class_id"] for found in alone] * 4


# -- servers that are not there, or not ours
@pytest.fixture
def foreign() -> Iterator[tuple[str, list[str]]]:
    """A server that is not plankter's, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if len(asked) == 1:
                self.close_connection = True  # no answer at all
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_may_be_asked_twice_is_and_no_other(foreign: tuple[str, list[str]]) -> None:
    address, asked = foreign
    with Client(address, token="secret\n") as client:
        with pytest.raises(Unreachable):
            client.start("export", format="csv")
        assert asked == ["POST /api/v1/jobs Bearer secret"]
        asked.clear()
        with pytest.raises(Unreachable, match="no JSON"):
            client.status()
        assert asked == ["GET /api/v1/status Bearer secret"] * 2


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plankter.client.requests.WAIT_S", (0.01,))
    with Client("127.0.0.1:9") as client, pytest.raises(Unreachable, match="plankter serve"):
        client.status()


@pytest.mark.parametrize("address", ["ftp://x", "http://", "http://x:port", "http://x:99999"])
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(SettingsError, match="expected an address"):
        Client(address)


@pytest.mark.parametrize(("status", "facts", "kind"), [
    (404, {"code": "not_found"}, NotFound), (409, {"code": "conflict"}, Conflict), (409, {}, Conflict),
    (422, {"code": "image"}, ImageError), (422, {"code": "model"}, ModelError), (422, {"code": "error"}, SettingsError),
    (422, {}, SettingsError), (401, {}, Denied), (421, {}, Denied), (507, {}, StoreError), (413, {}, PlankterError),
    (503, {"code": "store"}, StoreError), (422, {"code": "unreadable", "path": "a.lst", "row": 3}, ReadError),
])  # fmt: skip
def test_problems_are_the_packages_errors(status: int, facts: dict[str, Any], kind: type[PlankterError]) -> None:
    where = "a.lst: " if "path" in facts else ""
    error = problem_error(status, json.dumps({"detail": f"{where}wrong", "hint": "do", **facts}).encode())
    assert type(error) is kind and error.message == "wrong" and error.hint == "do"
    assert str(error) == ("a.lst, row 3: wrong (do)" if where else "wrong (do)")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"detail": 3', b'"x"'])
def test_an_answer_that_is_no_problem(body: bytes) -> None:
    assert "502" in str(problem_error(502, body))
