"""Everything that the API's description allows, and much that it does not, asked by schemathesis: never an error of the server's
own, and no answer that is not described."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.skipif(
    find_spec("schemathesis") is None and os.environ.get("PLANKTER_REQUIRE_SCHEMATHESIS") != "1",
    reason="schemathesis is not installed; `make test-api` brings it",
)
def test_nothing_that_is_asked_breaks_the_server(serve: Callable[[Path], Any], tmp_path: Path) -> None:
    from plankter.client import Client
    from plankter.workflow.demo import run_demo

    run_demo(tmp_path / "w", particles=20, seed=3)
    server = serve(tmp_path / "w")
    with Client(server.address) as client:  # loads the model, which takes a moment
        client.predict(client.image(next(client.runs())["run_id"], 0))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}/api/v1/openapi.json", "--checks", CHECKS,
        "--max-examples", os.environ.get("PLANKTER_FUZZ_EXAMPLES", "10"), "--seed", "1", "--no-color",
        "--request-timeout", "60",
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=1_500)
    assert found.returncode == 0, found.stdout[-8_000:] + found.stderr[-2_000:]
    assert "Tested: " in found.stdout
    with Client(server.address) as client:  # it lives, and its own log knows of no error
        assert client.status()["runs"] >= 1
    server.end()
    lines = (tmp_path / "w" / "service" / "server.log").read_text(encoding="utf-8").splitlines()
    assert [line for line in map(json.loads, lines) if "error" in line] == []
