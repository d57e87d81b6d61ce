"""Runs and samples as a page: what a table of sample metadata brings to the map, and what is chosen there."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HERE
from fastapi.testclient import TestClient

from plankter.service.app import create_app
from plankter.workflow.demo import run_demo


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose sample may be changed."""
    folder = tmp_path_factory.mktemp("own") / "w"
    run_demo(folder, particles=20, seed=5)
    return folder


def test_a_table_of_samples_brings_the_map(own: Path) -> None:
    with TestClient(create_app(own), base_url=HERE) as client:
        page = client.get("/runs").text
        assert 'id="when"' not in page and 'id="where"' not in page  # one day is no picture
        run = client.get("/api/v1/runs").json()["runs"][0]
        table = (
            "run,sample,station,latitude,longitude,time\n"
            + f"{run['name']},cruise <1>,130,51.27,2.9,2023-08-01T10:00:00Z\n"
        )
        said = client.put("/samples?name=samples.csv", content=table.encode()).json()
        assert said["attached"] == 1
        page = client.get("/runs").text
        assert "130, 51.27° N 2.9° E: 1 run, 20 particles" in page and "2023-08-01: 1 run" in page
        assert "cruise &lt;1&gt;" in page and "<1>" not in page and "51.2700, 2.9000" in page
        row = f'<a href="/runs/{run["run_id"]}">'
        for address, there in (
            ("place=51.2700%2C2.9000", True), ("place=0.0000%2C0.0000", False), ("period=2023-08", True), ("period=2024", False),
            ("sample=cruise%20%3C1%3E", True), ("sample=other", False), ("period=2023&place=51.2700%2C2.9000", True),
        ):  # fmt: skip
            answer = client.get(f"/runs?{address}")
            assert answer.status_code == 200 and (row in answer.text) == there, address
        for bad in ("period=2024-1", "period=%3Cb%3E", "start=-1", "place=" + "9" * 50):
            assert client.get(f"/runs?{bad}").status_code == 422
