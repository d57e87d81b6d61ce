"""What all tests share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from served import Served

if find_spec("hypothesis"):  # the platform's environment has none
    from hypothesis import HealthCheck, settings

    # a test says what is right, a benchmark how fast it is: a busy machine must not fail a test
    settings.register_profile("plankter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("plankter")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it are skipped, saying so, where it is absent."""
    folder = Path(os.environ.get("PLANKTER_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set PLANKTER_SHARED_DATA")
    return folder


class Mongod:
    """A real mongod as a replica set of one node, in a folder of its own.

    Args:
        program: what starts it.
        folder: for its files; kept over `stop` and `start`.
        options: more of mongod's.
    """

    def __init__(self, program: Path, folder: Path, *options: str, replica_set: bool = True) -> None:
        self._program, self._folder, self._options, self._set = program, folder, options, replica_set
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        (folder / "db").mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self) -> Mongod:
        command: list[str] = [
            str(self._program), "--dbpath", str(self._folder / "db"), "--bind_ip", "127.0.0.1", "--port", str(self.port),
            "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5", "--logpath", str(self._folder / "log"), "--logappend",
            *(("--replSet", "rs0") if self._set else ()), *self._options,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()
        return self

    def _wait(self) -> None:
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure, PyMongoError

        until = time.monotonic() + 60
        client: MongoClient[dict[str, Any]] = MongoClient(
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=1000
        )
        with client:
            while time.monotonic() < until:
                try:
                    if self._set:
                        member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
                        try:
                            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
                        except OperationFailure as error:
                            if error.code not in (13, 23):  # needs a user, is initiated: both after the first time
                                raise
                    if not self._set or client.admin.command("hello")["isWritablePrimary"]:
                        return
                except PyMongoError:
                    assert self._process is not None and self._process.poll() is None, "mongod ended"
                time.sleep(0.05)
        raise AssertionError("mongod did not become ready")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None


@pytest.fixture(scope="session")
def demo_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run of 60 particles, classified."""
    from plankter.workflow.demo import run_demo

    folder = tmp_path_factory.mktemp("served") / "w"
    run_demo(folder, particles=60, seed=3)
    return folder


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., Served]]:
    """Starts servers, each in a process of its own; those that are left are ended after the session."""
    started: list[Served] = []

    def make(folder: Path, code: str = "") -> Served:
        started.append(Served(folder, code))
        return started[-1].start()

    yield make
    for server in started:
        server.end()


def _no_mongod(why: str) -> None:
    if os.environ.get("PLANKTER_REQUIRE_MONGOD") == "1":
        pytest.fail(f"PLANKTER_REQUIRE_MONGOD=1, but {why}")
    pytest.skip(why)


@pytest.fixture(scope="session")
def mongod_program() -> Path:
    """Starts a real mongod; tests that need it are skipped, saying so, where none is to be had."""
    if find_spec("pymongo") is None:
        _no_mongod("pymongo is not installed")
    named = os.environ.get("PLANKTER_MONGOD")
    if named:
        return Path(named)
    script = ROOT.parent / "shared" / "tools" / "get_mongod.sh"
    if not script.is_file():
        _no_mongod("no mongod: set PLANKTER_MONGOD to the program")
    got = subprocess.run(["bash", script, ROOT / ".cache" / "mongod"], capture_output=True, text=True, check=False)
    if got.returncode:
        _no_mongod(f"get_mongod.sh failed: {got.stderr[-300:]}")
    return Path(got.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def make_mongod(mongod_program: Path) -> Iterator[Callable[..., Mongod]]:
    """Starts servers, ended after the session; their files are in memory where the system has room for that."""
    started: list[Mongod] = []
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4e9
    with tempfile.TemporaryDirectory(prefix="plankter-mongod-", dir=memory if roomy else None) as folder:

        def make(*options: str, replica_set: bool = True) -> Mongod:
            place = Path(folder) / str(len(started))
            started.append(Mongod(mongod_program, place, *options, replica_set=replica_set))
            return started[-1].start()

        yield make
        for server in started:
            server.stop()


@pytest.fixture(scope="session")
def mongod(make_mongod: Callable[..., Mongod]) -> Mongod:
    """One server for all tests that do not stop it."""
    return make_mongod()


@pytest.fixture
def mongo_url(mongod: Mongod) -> Iterator[str]:
    """Address of a new, empty database, dropped after the test."""
    from pymongo import MongoClient

    name = f"test_{uuid.uuid4().hex[:12]}"
    yield f"{mongod.address}/{name}"
    with MongoClient[dict[str, Any]](mongod.address) as client:
        client.drop_database(name)


@pytest.fixture(scope="session")
def guarded(make_mongod: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A server that asks for a password: users ``writer`` and ``reader`` of database ``w``, both with "p/ss:word@"."""
    from pymongo import MongoClient

    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text("a shared secret of the members" * 4)
    key.chmod(0o600)
    server = make_mongod("--auth", "--keyFile", str(key))
    with MongoClient[dict[str, Any]](server.address, directConnection=True) as client:
        client.admin.command("createUser", "root", pwd="root", roles=["root"])
    with MongoClient[dict[str, Any]](server.address, username="root", password="root") as client:
        for name, role in (("writer", "readWrite"), ("reader", "read")):
            client.w.command("createUser", name, pwd="p/ss:word@", roles=[{"role": role, "db": "w"}])
    yield server
    server.stop()
