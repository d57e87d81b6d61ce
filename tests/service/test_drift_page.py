"""Drift as a page, and its chart."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from plankter.classify.drift import Verdict
from plankter.service.drift_chart import HEIGHT, WIDTH, difference, drift_chart, kind_of

LIMITS = {"centre": 0.05, "upper": 0.12, "tolerance": 0.1, "false_alarms": 0.01}


def run(n: int, mmd2: float | None, verdict: str = "none", *, dated: bool = True) -> dict[str, Any]:
    started = f"2024-0{1 + n % 9}-03T10:00:00+00:00" if dated else None
    return {
        "run_id": f"{n:016x}", "name": f"run <{n}>", "sample_id": "s", "started_at": started, "mmd2": mmd2,
        "verdict": verdict, "alarm": verdict.startswith("other instrument"),
    }  # fmt: skip


def test_every_verdict_has_its_own_shape_and_words() -> None:
    kinds = [kind_of(verdict.value) for verdict in Verdict]
    assert len({kind for kind, _ in kinds}) == len(Verdict) == len({words for _, words in kinds})
    assert kind_of("something new") == ("unclear", "something new")


def test_points_stand_in_the_field_by_time_and_size() -> None:
    chart = drift_chart([run(0, 0.0025), run(1, 0.04, Verdict.INSTRUMENT.value), run(2, -1e-4), run(3, None)], LIMITS)
    assert chart is not None
    points = chart["points"]
    assert [p["x"] for p in points] == sorted(p["x"] for p in points) and len(points) == 3
    assert points[1]["y"] < points[0]["y"] < points[2]["y"] == HEIGHT - 64
    assert all(0 < p["x"] < WIDTH and 0 < p["y"] < HEIGHT for p in points)
    assert points[1]["kind"] == "instrument" and points[1]["alarm"]
    limits = {line["kind"]: line["y"] for line in chart["lines"]}
    assert points[1]["y"] < limits["upper"] < limits["tolerance"] < limits["centre"]


def test_a_limit_far_above_all_runs_is_not_drawn_but_said() -> None:
    chart = drift_chart([run(0, 0.0001)], {**LIMITS, "upper": 3.0})
    assert chart is not None and chart["hidden_limit"] == 3.0
    assert {line["kind"] for line in chart["lines"]} == {"tolerance", "centre"}


@pytest.mark.parametrize("count", [1, 14, 15, 100, 400])
def test_labels_are_few_and_words_of_lines_do_not_touch(count: int) -> None:
    chart = drift_chart(
        [run(n, 0.001, dated=n % 2 == 0) for n in range(count)], {**LIMITS, "centre": 0.1, "upper": 0.101}
    )
    assert chart is not None and 1 <= len(chart["labels"]) <= 14 and len(chart["ticks"]) <= 7
    heights = [line["text_y"] for line in chart["lines"]]
    assert all(b - a >= 15 for a, b in pairwise(heights))


def test_without_a_compared_run_there_is_no_chart() -> None:
    assert drift_chart([run(0, None)], LIMITS) is None and drift_chart([], LIMITS) is None
    assert difference({"mmd2": -0.5}) == 0 and difference({}) is None


def test_the_workspace_is_compared_and_shown(client: TestClient, demo_workspace: Path) -> None:
    assert "Compare the runs with its training images" in client.get("/drift").text
    assert client.post("/drift", data={"model": "nothing"}).status_code == 404
    answer = client.post("/drift", data={"model": "flowcam", "name": "flowcam"})
    address = answer.headers["HX-Redirect"]
    for _ in range(600):
        page = client.get(address).text
        if "data-job=" not in page:
            break
        time.sleep(0.2)
    assert "Compare again" in page and "<svg" in page
    run_id = client.get("/api/v1/runs").json()["runs"][0]["run_id"]
    assert f'id="run-{run_id}"' in page and f'href="#run-{run_id}"' in page
    (path,) = (demo_workspace / "reports").glob("drift-*.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert kind_of(found["runs"][0]["verdict"])[1] in page
    report = next(part for part in page.split('"') if part.endswith("/report"))
    assert client.get(report).status_code == 200


def test_a_removed_run_has_no_link_and_a_new_one_is_said(client: TestClient, demo_workspace: Path) -> None:
    model = client.get("/api/v1/models").json()["models"][0]
    path = demo_workspace / "reports" / f"drift-{model['model_id']}.json"
    earlier = path.read_bytes() if path.is_file() else None
    gone = {
        **run(7, 0.02, Verdict.SEASON.value), "particles": 5, "images": 5, "mmd_p": 0.5, "compared": 1.0, "class_mix_p": 0.0001,
        "class_mix_distance": 0.4, "confidence_p": 0.5, "confidence_shift": 0.0, "psi": 0.0, "rising": [["<i>", 0.1, 0.3]],
        "falling": [], "advice": "look",
    }  # fmt: skip
    month = {"month": "2024-05", "labels": 9, "right": 5, "accuracy": 5 / 9, "low": 0.2, "high": 0.8, "alarm": True}
    told = {"model_id": model["model_id"], "runs": [gone], "chart": LIMITS, "expected_accuracy": 0.8, "months": [month],
            "warnings": ["run `x` first"]}  # fmt: skip
    path.write_text(json.dumps(told), encoding="utf-8")
    try:
        page = client.get(f"/drift?model={model['model_id']}").text
        assert "(removed)" in page and f"/runs/{gone['run_id']}" not in page
        assert "1 run not among them" in page and "&lt;i&gt; (10 % → 30 %)" in page and "run &lt;7&gt;" in page
        assert "under what was expected" in page and "<code>x</code>" in page
        path.write_text('{"runs": 1}', encoding="utf-8")
        assert client.get(f"/drift?model={model['model_id']}").status_code == 200
    finally:
        path.unlink()
        if earlier is not None:
            path.write_bytes(earlier)
