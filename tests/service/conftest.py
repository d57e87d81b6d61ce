"""A workspace with a run in it, and the server on it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from plankter.service.app import create_app

HERE = "http://127.0.0.1:8000"


def png(seed: int, side: int = 48) -> bytes:
    """A grey picture of a dark disk, as PNG."""
    image = np.full((side, side), 200, np.uint8)
    rng = np.random.default_rng(seed)
    cv2.circle(image, (side // 2, side // 2), int(rng.integers(6, side // 2 - 2)), int(rng.integers(0, 90)), -1)
    return bytes(cv2.imencode(".png", image)[1])


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip."""
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


@pytest.fixture(scope="session")
def client(demo_workspace: Path) -> Iterator[TestClient]:
    """A client on this computer."""
    with TestClient(create_app(demo_workspace), base_url=HERE) as found:
        yield found
