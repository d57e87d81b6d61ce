"""The MLflow registry: against a real server where MLflow is installed, and what must hold without one."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plankter._errors import ModelError, NotFound, PlankterError
from plankter.classify.head import save_head
from plankter.classify.models import load_model, write_model_json
from plankter.types import Model
from plankter.workflow import mlflow_registry as registry
from plankter.workflow.classify import classify
from plankter.workflow.models import fetch_model, list_models, register_model
from plankter.workflow.workspace import find_model, init_workspace, open_workspace

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own
NETWORK = bytes.fromhex("08083a0612046d61696e")  # an ONNX model whose graph has a name and nothing else


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "backbone.onnx").write_bytes(NETWORK)
    save_head(folder / "head.npz", np.ones((6, 2)), np.zeros(2))
    (folder / "CARD.md").write_text("# tiny\n", encoding="utf-8")
    metrics = {"top1": 0.5, "on": "two images", "by_class": {"a": {"f1": 0.25}, "b/c": {"f1": float("nan")}}}
    write_model_json(
        folder, name="tiny", backbone_name="none", dim=6, input_px=24, class_ids=("a", "b"), class_counts=(3, 4),
        temperature=1.25, card={"license": "Apache-2.0", "metrics": metrics},
    )  # fmt: skip
    return load_model(folder)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server with its own SQLite on this machine only; its address."""
    if any(importlib.util.find_spec(name) is None for name in ("mlflow", "flask")):
        pytest.skip("MLflow with its server is not installed: make test-mlflow")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    uri = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(
            [*command, "--workers", "1"], stdout=log, stderr=log, cwd=folder, start_new_session=True, env=environment
        )
        try:
            wait_for(uri, started, folder / "log")
            yield uri
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait(20)


def wait_for(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-2000:]
            time.sleep(0.5)
    raise AssertionError("the MLflow server did not start")


@pytest.fixture
def at_server(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN", *registry.SECRETS):
        monkeypatch.delenv(name, raising=False)
    return server


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_a_model_goes_to_the_registry_once_and_comes_back_whole(model: Model, at_server: str, tmp_path: Path) -> None:
    found = register_model(str(model.folder), None)
    assert found["status"] == "registered" and found["address"] == f"models:/tiny/{found['version']}"
    assert found["server"] == at_server and found["model_id"] == model.model_id
    again = register_model(str(model.folder), None)
    assert again == found | {"status": "unchanged"}
    fetched = find_model(found["address"])
    assert fetched.model_id == model.model_id and fetched.folder == tmp_path / "cache/plankter/models" / model.model_id
    for path in model.folder.iterdir():
        assert (fetched.folder / path.name).read_bytes() == path.read_bytes()
    assert sorted(p.name for p in fetched.folder.iterdir()) == sorted(p.name for p in model.folder.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "model"]  # MLflow left nothing beside


def test_the_run_behind_a_version_holds_figures_and_files(model: Model, at_server: str, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "north sea")
    monkeypatch.setenv("MLFLOW_RUN", "first try")
    found = register_model(str(model.folder), None, "figures")
    version = client(at_server).get_model_version("figures", found["version"])
    run = client(at_server).get_run(version.run_id)
    assert version.tags[registry.ID_TAG] == model.model_id
    assert run.info.status == "FINISHED" and run.info.run_name == "first try"
    assert client(at_server).get_experiment(run.info.experiment_id).name == "north sea"
    assert run.data.metrics == {"top1": 0.5, "by_class/a/f1": 0.25}
    assert run.data.params["license"] == "Apache-2.0" and run.data.params["classes"] == "2"
    files = {Path(file.path).name for file in client(at_server).list_artifacts(version.run_id, "model")}
    assert files == {"CARD.md", "backbone.onnx", "head.npz", "model.json"}


def test_versions_and_aliases_are_loaded_by_their_address(model: Model, at_server: str, tmp_path: Path) -> None:
    first = register_model(str(model.folder), None, "versions")
    (model.folder / "CARD.md").write_text("# the second\n", encoding="utf-8")
    second = register_model(str(model.folder), None, "versions")
    assert int(second["version"]) == int(first["version"]) + 1
    client(at_server).set_registered_model_alias("versions", "best", second["version"])
    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        assert find_model("models:/versions@best", workspace).model_id == second["model_id"]
        kept = find_model(first["address"], workspace)
        assert kept.folder == workspace.models_folder / first["model_id"]
        assert {m["model_id"] for m in list_models(workspace)["models"]} >= {first["model_id"], second["model_id"]}


def test_the_shipped_model_classifies_from_the_registry(at_server: str, tmp_path: Path) -> None:
    found = register_model("flowcam", None)
    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        assert classify(workspace, model=found["address"])["model_id"] == found["model_id"]


def test_what_the_registry_does_not_have_is_not_found(model: Model, at_server: str) -> None:
    found = register_model(str(model.folder), None, "known")
    for address in ("models:/unknown/1", "models:/known/99", "models:/known@nobody", "models:/unknown@best"):
        with pytest.raises(NotFound):
            fetch_model(address, None)
    for address in ("models:/known", "models:/", "models:/known/latest", "models:/a/b/1", f"{found['address']}/.."):
        with pytest.raises(ModelError, match="expected models:/name/version"):
            fetch_model(address, None)


def test_files_changed_in_the_registry_are_refused(model: Model, at_server: str, tmp_path: Path) -> None:
    found = register_model(str(model.folder), None, "tampered")
    version = client(at_server).get_model_version("tampered", found["version"])
    for name, data, message in (
        ("CARD.md", b"# of another", "was announced"),
        ("head.npz", b"PK", "changed since the model was made"),
        ("model.json", json.dumps({"format_version": 99}).encode(), "newer than this plankter"),
    ):
        (tmp_path / name).write_bytes(data)
        client(at_server).log_artifact(version.run_id, str(tmp_path / name), "model")
        with pytest.raises(ModelError, match=message):
            fetch_model(found["address"], None)
        client(at_server).log_artifact(version.run_id, str(model.folder / name), "model")
    assert fetch_model(found["address"], None).model_id == model.model_id


def test_a_version_of_another_kind_is_refused(at_server: str, tmp_path: Path) -> None:
    server = client(at_server)
    run_id = server.create_run(server.create_experiment("others")).info.run_id
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    server.log_artifact(run_id, str(tmp_path / "model.pkl"), "model")
    server.create_registered_model("foreign")
    made = server.create_model_version("foreign", source=f"runs:/{run_id}/model", run_id=run_id)
    with pytest.raises(ModelError, match="is missing, no model of plankter"):
        fetch_model(f"models:/foreign/{made.version}", None)


def run_folder(folder: Path) -> Path:
    folder.mkdir()
    config = {"finetune": True, "seed": 7, "rates": {"head": 0.001}, "note": None, "long": "x" * 2000}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "curves.csv").write_text("epoch,loss,top1,what\n1,2.5,0.4,warm\n2,1.5,0.6,\n", encoding="utf-8")
    (folder / "evaluation.json").write_text(json.dumps({"top1": 0.6, "classes": ["a"], "f1": {"a": 0.5}}), "utf-8")
    (folder / "splits.csv").write_text("image,class,group,split\nx.png,a,,train\n", encoding="utf-8")
    (folder / "checkpoint.pt").write_bytes(b"\x80\x04.")
    return folder


def test_a_training_is_logged_with_its_curves_and_files(model: Model, at_server: str, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "20261125-120000-mine")
    (folder / "model").mkdir()
    for path in model.folder.iterdir():
        (folder / "model" / path.name).write_bytes(path.read_bytes())
    run_id = registry.log_training(folder)
    assert run_id is not None
    run = client(at_server).get_run(run_id)
    assert run.info.run_name == folder.name and run.info.status == "FINISHED"
    assert run.data.params["rates.head"] == "0.001" and run.data.params["finetune"] == "True"
    assert run.data.metrics["top1"] == 0.6 and run.data.metrics["f1/a"] == 0.5
    history = client(at_server).get_metric_history(run_id, "curve loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.5), (2, 1.5)]
    files = {file.path for file in client(at_server).list_artifacts(run_id)}
    assert files == {"config.json", "curves.csv", "evaluation.json", "splits.csv", "model"}


def test_a_server_that_is_down_costs_a_warning_and_shows_no_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed: make test-mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hush-hush@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.DEBUG):
        assert registry.log_training(run_folder(tmp_path / "run")) is None
        with pytest.raises(PlankterError, match="is the server up") as caught:
            register_model("flowcam", None)
    assert "was not logged to MLflow" in caplog.text
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("plankter")]
    assert ours and not any("hush-hush" in text or "ann:" in text for text in [*ours, str(caught.value)])


def test_without_a_server_named_nothing_is_logged_and_nothing_is_imported(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # an import would fail
    assert registry.log_training(run_folder(tmp_path / "run")) is None
    with pytest.raises(PlankterError, match="no MLflow server is named"):
        fetch_model("models:/flowcam/1", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(PlankterError, match=r"pip install 'plankter\[mlflow\]'"):
        register_model("flowcam", None)


def test_accounts_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush-hush")
    text = "GET https://ann:secret@host:5000/api with hush-hush, and mailto ann@host"
    assert registry.without_account(text) == "GET https://host:5000/api with ***, and mailto ann@host"


class Shelf:
    """A client of a server that says whatever it likes."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes, self.fetched = sizes, list[str]()

    def list_artifacts(self, run_id: str, path: str) -> list[Any]:
        return [SimpleNamespace(path=f"{path}/{name}", file_size=size) for name, size in self.sizes.items()]

    def download_artifacts(self, run_id: str, path: str, to: str) -> str:
        self.fetched.append(path)
        (Path(to) / path).parent.mkdir(exist_ok=True)
        (Path(to) / path).write_bytes(b"")
        return str(Path(to) / path)


@pytest.mark.parametrize(
    ("source", "sizes", "message"),
    [
        ("file:///etc", {}, "was not registered by plankter"),
        ("runs:/other/model", {}, "was not registered by plankter"),
        ("runs:/abc/../../x", {}, "was not registered by plankter"),
        ("runs:/abc/model", {"model.json": 10**10}, r"model\.json has 10,000,000,000 bytes, over the limit"),
        ("runs:/abc/model", {"model.json": 5}, "backbone.onnx is missing"),
    ],
)
def test_what_a_server_offers_is_judged_before_it_is_fetched(
    tmp_path: Path, source: str, sizes: dict[str, int], message: str
) -> None:
    shelf = Shelf(sizes)
    version = SimpleNamespace(run_id="abc", source=source, tags={})
    with pytest.raises(ModelError, match=message):
        registry._download(shelf, version, tmp_path, "models:/m/1")
    assert not any("model.json" not in name for name in shelf.fetched)


def test_only_the_files_of_a_model_are_fetched(tmp_path: Path) -> None:
    names = ["model.json", "backbone.onnx", "head.npz", "setup.py", "requirements.txt"]
    shelf = Shelf(dict.fromkeys(names, 1))
    registry._download(shelf, SimpleNamespace(run_id="abc", source="runs:/abc/model", tags={}), tmp_path, "models:/m/1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone.onnx", "head.npz", "model.json"]
