"""A workspace with a run in it, and the server on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from plankter.service.app import create_app

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="session")
def client(demo_workspace: Path) -> Iterator[TestClient]:
    """A client on this computer."""
    with TestClient(create_app(demo_workspace), base_url=HERE) as found:
        yield found
