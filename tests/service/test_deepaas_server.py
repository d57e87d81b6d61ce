"""The package as a module of the real DEEPaaS server and of its command line, where those are installed."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from service_images import png, write_set

BIN = Path(sys.executable).parent
PROGRAMS = ("deepaas-run", "deepaas-cli")


class Server(NamedTuple):
    address: str
    folder: Path
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A platform's environment, with storage of its own."""
    if importlib.util.find_spec("deepaas") is None:
        if os.environ.get("PLANKTER_REQUIRE_DEEPAAS") == "1":
            pytest.fail("PLANKTER_REQUIRE_DEEPAAS=1, but deepaas is not installed")
        pytest.skip("DEEPaaS is not installed: make test-deepaas")
    folder = tmp_path_factory.mktemp("deepaas")
    (folder / "tmp").mkdir()
    write_set(folder / "storage" / "set", classes=2, images=20)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DEEPAAS_"))},
        "PLANKTER_WORKSPACE": str(folder / "workspace"), "PLANKTER_DATA": str(folder / "storage"),
        "OS_DEFAULT__WORKERS": "2", "TMPDIR": str(folder / "tmp"), "DEEPAAS_V2_MODEL": "plankter",
    }  # fmt: skip


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[Server]:
    folder = Path(environment["PLANKTER_DATA"]).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(BIN / "deepaas-run"), "--listen-ip=127.0.0.1", f"--listen-port={port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True)
    found = Server(f"http://127.0.0.1:{port}", folder, process)
    try:
        for _ in range(240):
            try:
                call(found, "/v2/")
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
                time.sleep(0.5)
        yield found
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # seen with this server
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def call(server: Server, path: str, *, method: str = "GET", image: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; an image goes as a form."""
    request = urllib.request.Request(server.address + path, method=method)
    if image is not None:
        mark = uuid.uuid4().hex.encode()
        head = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'
        request.data = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (mark, head, image, mark)
        request.add_header("Content-Type", f"multipart/form-data; boundary={mark.decode()}")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(io.BytesIO(error.read()))


def predicted(server: Server, image: bytes, query: str = "") -> tuple[int, Any]:
    return call(server, f"/v2/models/plankter/predict/{query}", method="POST", image=image)


def trained(server: Server, query: str) -> dict[str, Any]:
    _, begun = call(server, f"/v2/models/plankter/train/?{query}", method="POST")
    for _ in range(600):
        _, found = call(server, f"/v2/models/plankter/train/{begun['uuid']}")
        if found["status"] != "running":
            return found
        time.sleep(0.5)
    raise AssertionError("the training did not end")


def test_the_server_lists_the_module(server: Server) -> None:
    status, found = call(server, "/v2/models/")
    assert status == 200 and [model["id"] for model in found["models"]] == ["plankter"]
    assert "flowcam" in [model["name"] for model in found["models"][0]["models"]]


def test_an_image_is_predicted_and_its_file_deleted(server: Server) -> None:
    status, found = predicted(server, png(1), "?topk=3")
    assert status == 200 and len(found["labels"]) == len(found["probabilities"]) == len(found["aphia_ids"]) == 3
    assert found["model"] == "flowcam" and found["probabilities"] == sorted(found["probabilities"], reverse=True)
    assert [path for path in (server.folder / "tmp").iterdir() if path.is_file()] == []


@pytest.mark.parametrize(
    ("query", "image", "status", "words"),
    [("", b"no image", 422, "expected a"), ("?model=other", png(1), 404, "there are: flowcam"),
     ("?model=../set", png(1), 404, "name or an id"), ("?topk=0", png(1), 422, "topk")],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_reason(
    server: Server, query: str, image: bytes, status: int, words: str
) -> None:
    got, found = predicted(server, image, query)
    assert got == status and words in json.dumps(found)
    assert predicted(server, png(2))[0] == 200  # the worker lives


def test_the_description_is_one_that_the_platforms_page_draws(server: Server) -> None:
    _, found = call(server, "/swagger.json")
    answer = found["definitions"]["ModelPredictionResponse"]["properties"]
    assert {"labels", "probabilities"} <= set(answer)
    fields = found["paths"]["/v2/models/plankter/predict/"]["post"]["parameters"]
    image = next(field for field in fields if field["name"] == "image")
    assert image["type"] == "file" and image["in"] == "formData"
    assert [word for word in ("image", "audio", "video") if word in image["description"]] == ["image"]


def test_a_training_runs_beside_predictions_and_its_model_is_there_at_once(server: Server) -> None:
    _, begun = call(server, "/v2/models/plankter/train/?images=set&name=by-deepaas", method="POST")
    assert begun["status"] == "running"
    assert predicted(server, png(1))[0] == 200
    assert call(server, f"/v2/models/plankter/train/{begun['uuid']}")[1]["status"] == "running"
    for _ in range(600):
        _, found = call(server, f"/v2/models/plankter/train/{begun['uuid']}")
        if found["status"] != "running":
            break
        time.sleep(0.5)
    assert found["status"] == "done", found
    assert found["result"]["output"]["classes"] == 2
    status, by_new = predicted(server, png(1), "?model=by-deepaas")
    assert status == 200 and by_new["model_id"] == found["result"]["output"]["model_id"]
    assert set(by_new["labels"]) == {"class_0", "class_1"}


@pytest.mark.parametrize(
    ("query", "words"),
    [("images=/etc", "outside the folders"), ("images=nothing", "expected a folder or a zip"),
     ("images=set&name=flowcam", "there is a model 'flowcam' already")],
)  # fmt: skip
def test_a_training_that_fails_ends_with_its_reason(server: Server, query: str, words: str) -> None:
    found = trained(server, query)
    assert found["status"] == "error" and words in found["message"]


def command_line(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "deepaas-cli"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_command_line_predicts_and_leaves_the_users_file(environment: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(png(1))
    out = str(tmp_path / "out.json")
    done = command_line(environment, tmp_path, "--deepaas_method_output", out, "predict", "--image", str(image))
    assert done.returncode == 0, done.stderr
    found = json.loads(Path(out).read_text(encoding="utf-8"))
    assert len(found["labels"]) == 5 and image.is_file()
    assert [path for path in Path(environment["TMPDIR"]).iterdir() if path.is_file()] == []


def test_the_command_line_fails_with_the_reason(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    done = command_line(environment, tmp_path, "predict", "--image", "a.png")
    assert done.returncode != 0 and "expected a TIFF, PNG" in done.stdout
    (tmp_path / "b.png").write_bytes(png(1))
    done = command_line(environment, tmp_path, "predict", "--image", "b.png", "--topk", "5000")
    assert done.returncode != 0 and "whole number from 1 to 1000" in done.stdout


def test_the_command_line_trains_and_describes(environment: dict[str, str], tmp_path: Path) -> None:
    done = command_line(environment, tmp_path, "--deepaas_method_output", str(tmp_path / "m.json"), "get_metadata")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "m.json").read_text())["license"] == "Apache-2.0"
    done = command_line(
        environment,
        tmp_path,
        "--deepaas_method_output",
        str(tmp_path / "t.json"),
        "train",
        "--images",
        "set",
        "--name",
        "by-cli",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "t.json").read_text())["result"]["output"]["name"] == "by-cli"


def test_the_server_ends_when_it_is_told_to(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) in (0, -signal.SIGTERM)  # the last test: those above need the server
