"""A workspace with a run in it, and the server on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from plankter.service.app import create_app
from plankter.workflow.demo import run_demo

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="session")
def demo_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run of 60 particles, classified."""
    folder = tmp_path_factory.mktemp("served") / "w"
    run_demo(folder, particles=60, seed=3)
    return folder


@pytest.fixture(scope="session")
def client(demo_workspace: Path) -> Iterator[TestClient]:
    """A client on this computer."""
    with TestClient(create_app(demo_workspace), base_url=HERE) as found:
        yield found
