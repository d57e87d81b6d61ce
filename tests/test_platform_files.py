"""What platforms read: Dockerfile, compose file, metadata, entry point and health check."""

from __future__ import annotations

import http.server
import inspect
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerfile_steps import Instruction, Place, environment_of, instructions

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "deploy" / "docker"
DEEP_START = "deepaas-run --listen-ip=0.0.0.0 --listen-port=5000"  # what `deep-start --deepaas` runs
on_unix = pytest.mark.skipif(os.name == "nt", reason="scripts of a Linux container")


def program(name: str) -> str:
    """A checker beside this Python; skipped, saying so, where there is none."""
    found = Path(sys.executable).parent / name
    if not found.is_file():
        if os.environ.get("PLANKTER_REQUIRE_DEEPAAS") == "1":
            pytest.fail(f"PLANKTER_REQUIRE_DEEPAAS=1, but {name} is not installed")
        pytest.skip(f"{name} is not installed: make test-deepaas")
    return str(found)


def read_yaml(name: str) -> Any:
    return pytest.importorskip("yaml", reason="PyYAML is not installed").safe_load((ROOT / name).read_text("utf-8"))


@pytest.fixture(scope="module")
def dockerfile() -> list[Instruction]:
    return instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def only(found: list[Instruction], name: str) -> Instruction:
    (one,) = [entry for entry in found if entry.name == name]
    return one


def test_the_official_validator_takes_the_metadata() -> None:
    command = [program("ai4-metadata"), "validate", str(ROOT / "ai4-metadata.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "is valid" in done.stdout + done.stderr, done.stdout + done.stderr


def test_the_linter_has_nothing_to_say_of_the_dockerfile() -> None:
    done = subprocess.run([program("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_metadata_is_of_this_platform_and_says_what_the_model_is() -> None:
    found = read_yaml("ai4-metadata.yml")
    assert "vo.imagine-ai.eu" in found["tags"] and found["data-type"] == ["Image"]
    from plankter.workflow.models import list_models

    (flowcam,) = [model for model in list_models(None)["models"] if model["name"] == "flowcam"]
    assert f"{flowcam['classes']} classes" in found["summary"]


def test_the_image_keeps_the_platforms_conventions(dockerfile: list[Instruction]) -> None:
    assert only(dockerfile, "EXPOSE").value.split() == ["5000", "6006", "8888"]
    assert only(dockerfile, "CMD").listed == ["deep-start", "--deepaas"]
    assert only(dockerfile, "ENTRYPOINT").listed[-1] == "plankter-entrypoint"
    assert only(dockerfile, "HEALTHCHECK").listed == ["plankter-healthcheck"]
    environment = environment_of(dockerfile)
    assert environment["RCLONE_CONFIG"] == "/srv/.rclone/rclone.conf" and environment["DEEPAAS_V2_MODEL"] == "plankter"
    stages = [one.stage for one in dockerfile if one.name == "FROM"]
    assert stages == ["base", "cpu", "gpu", "${tag}"]
    for stage in ("cpu", "gpu"):  # the last word of each: not root
        last = [one for one in dockerfile if one.stage == stage][-1]
        assert (last.name, last.value) == ("USER", "1000")


def test_the_image_asks_for_extras_and_files_that_there_are(dockerfile: list[Instruction]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = re.findall(r"/srv/plankter\[([a-z,]+)\]", " ".join(one.value for one in dockerfile))
    assert {name for names in asked for name in names.split(",")} <= set(extras) and len(asked) == 2
    scikit = re.search(r'"(scikit-learn[^"]*)"', " ".join(one.value for one in dockerfile))
    assert scikit is not None and scikit[1] in extras["train"]
    for name in context_files():
        assert (ROOT / name).exists(), name


def test_the_page_for_operators_knows_every_variable_and_argument(dockerfile: list[Instruction]) -> None:
    from plankter.service import deepaas_module, oscar, platform_files

    page = (ROOT / "docs" / "ai4os.md").read_text(encoding="utf-8")
    usual = {
        "SHELL",
        "PYTHONUNBUFFERED",
        "MLFLOW_DISABLE_TELEMETRY",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
    }
    names = set(environment_of(dockerfile)) - usual
    names |= {deepaas_module.WORKSPACE_VARIABLE, deepaas_module.MODEL_VARIABLE, platform_files.DATA_VARIABLE}
    for function in (deepaas_module.predict, deepaas_module.train):
        names |= set(inspect.signature(function).parameters) - {"_"}
    for name in names | set(oscar.ARGUMENTS):
        assert f"`{name}`" in page or f'"{name}"' in page, name


def context_files() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def test_the_compose_file_starts_what_there_is_in_an_order_that_works() -> None:
    from plankter._settings import SETTINGS
    from plankter.cli import app

    typer = pytest.importorskip("typer")
    commands = typer.main.get_command(app).commands
    services = read_yaml("docker-compose.yml")["services"]
    assert list(services) == ["mongodb", "init", "watch", "serve"]
    for name in ("init", "watch", "serve"):
        service = services[name]
        _, verb, *arguments = service["command"]
        commands[verb].make_context(verb, list(arguments))  # raises where an option is not there
        assert "/srv/workspace" in arguments and "workspace:/srv/workspace" in service["volumes"]
        assert service["environment"]["PLANKTER_WORKSPACE_CATALOGUE"].startswith("mongodb://mongodb:27017/")
        assert ("healthcheck" in service) == (name != "serve")  # only serve is what the image's own check asks
    assert services["init"]["depends_on"]["mongodb"]["condition"] == "service_healthy"
    for name in ("watch", "serve"):
        assert services[name]["depends_on"]["init"]["condition"] == "service_completed_successfully"
    known = {setting.variable for setting in SETTINGS} | {"PLANKTER_WORKSPACE", "PLANKTER_PORT"}
    assert {name for name in services["serve"]["environment"] if name.startswith("PLANKTER_")} <= known
    port = services["serve"]["environment"]["PLANKTER_PORT"]
    assert services["serve"]["ports"] == [f"127.0.0.1:{port}:{port}"] and port in services["serve"]["command"]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with ``plankter`` in it, whatever way the package is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "plankter"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m plankter.cli "$@"\n')
    script.chmod(0o755)
    return folder


@on_unix
def test_the_entry_point_makes_a_workspace_once_and_goes_on_without(tmp_path: Path, programs: Path) -> None:
    def start(workspace: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PLANKTER_WORKSPACE": str(workspace)}
        command = ["sh", str(DOCKER / "entrypoint"), "sh", "-c", "echo started; exit 3"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first = start(tmp_path / "w")
    assert (first.returncode, first.stdout) == (3, "started\n"), first.stderr
    settings = tmp_path / "w" / "plankter.toml"
    made = settings.stat().st_mtime_ns
    assert start(tmp_path / "w").returncode == 3 and settings.stat().st_mtime_ns == made
    (tmp_path / "file").write_text("x")
    hindered = start(tmp_path / "file" / "w")
    assert (hindered.returncode, hindered.stdout) == (3, "started\n")
    assert "predictions work, trainings do not" in hindered.stderr


@on_unix
@pytest.mark.skipif(shutil.which("pkill") is None, reason="procps is not installed; the image has it")
def test_a_stop_goes_to_the_server_alone(tmp_path: Path, programs: Path) -> None:
    """deep-start's shape: a shell that keeps the signal; a server whose workers must not get it."""
    server = "import signal, subprocess, sys, time\nworker = subprocess.Popen(['sleep', '60'])\n"
    server += "def stop(*_):\n    alive = worker.poll() is None\n    worker.kill()\n    sys.exit(0 if alive else 9)\n"
    server += "signal.signal(signal.SIGTERM, stop)\nprint('up', flush=True)\nworker.wait()\nsys.exit(9)\n"
    (tmp_path / "server.py").write_text(server)
    start = programs / "deep-start"
    start.write_text(f'#!/bin/bash\n"{sys.executable}" {tmp_path / "server.py"}\nstatus=$?; echo over; exit $status\n')
    start.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PLANKTER_WORKSPACE": str(tmp_path / "w")}
    command = ["sh", str(DOCKER / "entrypoint"), "deep-start", "--deepaas"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.terminate()
        assert process.stdout.read() == "over\n"
    assert process.returncode == 0  # the server's own, not that of the signal


class _Answers(http.server.BaseHTTPRequestHandler):
    good = "/v2/"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == self.good else 404)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize(("good", "status"), [("/v2/", 0), ("/health", 0), ("/other", 1)])
def test_the_health_check_knows_both_servers(good: str, status: int) -> None:
    handler = type("Handler", (_Answers,), {"good": good})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert healthy(server.server_port) == status
        server.shutdown()
    assert healthy(server.server_port) == 1


def healthy(port: int) -> int:
    environment = {**os.environ, "PLANKTER_PORT": str(port)}
    return subprocess.run([sys.executable, str(DOCKER / "healthcheck")], env=environment, check=False).returncode


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, dockerfile: list[Instruction]) -> Place:
    """The steps of the CPU image, run in a fresh environment of Python. Downloads some 300 MB, so only where asked for."""
    if os.environ.get("PLANKTER_TEST_IMAGE") != "1":
        pytest.skip("the Dockerfile's steps are run by: make test-deepaas")
    folder = tmp_path_factory.mktemp("image")
    venv.create(folder / "venv", with_pip=True)
    place = Place(folder, folder / "venv" / "bin")
    (folder / "srv" / "plankter").mkdir(parents=True)
    for step in dockerfile:
        if step.stage in ("base", "cpu") and step.name == "COPY":
            assert step.value == ". /srv/plankter"
            for name in context_files():
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
                copy(ROOT / name, folder / "srv" / "plankter" / name)
        elif step.stage in ("base", "cpu") and step.name == "RUN":
            place.run(step)
    assert place.left == ["apt-get", "git", "useradd"]  # what could not be run here, and nothing else
    start = place.programs / "deep-start"
    start.write_text(f'#!/bin/bash\n[ "$*" = "--deepaas" ] || exit 2\n{DEEP_START.replace("5000", "$PLANKTER_PORT")}\n')
    start.chmod(0o755)
    return place


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


@pytest.fixture(params=["CMD", "serve"])
def container(
    request: pytest.FixtureRequest, image: Place, dockerfile: list[Instruction], port: int, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The entry point with the image's own command, or with plankter's server."""
    command = only(dockerfile, "CMD").listed
    if request.param == "serve":
        command = [
            "plankter",
            "serve",
            "--host",
            "0.0.0.0",
            "--port",
            str(port),
            "-w",
            str(image.root / "srv/workspace"),
        ]
    settings = {name: image.here(value) for name, value in environment_of(dockerfile).items()}
    environment = {**os.environ, **settings, "PATH": image.path, "PLANKTER_PORT": str(port)}
    entry = [part for part in only(dockerfile, "ENTRYPOINT").listed if part not in ("tini", "--")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*entry, *command], env=environment, cwd=image.root, stdout=log, stderr=log, start_new_session=True
        ) if shutil.which(entry[0], path=image.path) else None  # fmt: skip
    assert process is not None, "the entry point is not where the image puts it"
    yield process, tmp_path / "log"
    if left(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


@on_unix
def test_the_steps_make_a_container_that_is_healthy_and_ends(
    image: Place, container: tuple[subprocess.Popen[bytes], Path], port: int
) -> None:
    process, log = container
    check = [str(image.programs / "python3"), str(image.programs / "plankter-healthcheck")]
    environment = {**os.environ, "PLANKTER_PORT": str(port)}
    until = time.monotonic() + 180
    while subprocess.run(check, env=environment, check=False).returncode:
        assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")[-3000:]
        time.sleep(1)
    assert (image.root / "srv" / "workspace" / "plankter.toml").is_file()
    process.send_signal(signal.SIGTERM)  # as tini hands it on
    process.wait(60)
    until = time.monotonic() + 30  # workers see that the server has gone
    while left(process.pid):
        assert time.monotonic() < until, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)


def left(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
