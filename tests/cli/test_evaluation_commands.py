"""evaluate and explain as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from plankter.cli import app


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    for name in ("Bubbles", "Favella"):
        (folder / name).mkdir()
        for number in range(3):
            cv2.imwrite(str(folder / name / f"{name}{number}.png"), rng.integers(0, 255, (40, 60), dtype=np.uint8))
    return folder


def invoke(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return result.stdout


def test_evaluate_in_words_names_what_it_wrote(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.csv").write_text("file,date\nBubbles0.png,2021-05-03\n", encoding="utf-8")
    words = invoke(
        "evaluate",
        "--images",
        images,
        "--report",
        "r.html",
        "--against",
        "flowcam",
        "--mix",
        "balanced",
        "--groups",
        "g.csv",
    )
    assert "6 images of 2 classes, 0 failures" in words and "re-weighted to the class mix balanced" in words
    assert "beside flowcam on 6 images: p = 1 (exact McNemar test)" in words and "by date" in words
    assert "report: r.html, numbers: r.json" in words
    assert (tmp_path / "r.html").stat().st_size > 20_000 and json.loads((tmp_path / "r.json").read_text())[
        "images"
    ] == 6


def test_explain_prints_one_object(images: Path, tmp_path: Path) -> None:
    image, out = images / "Favella" / "Favella0.png", tmp_path / "e.png"
    found = json.loads(invoke("explain", "--image", image, "--out", out, "--class", "Favella", "--patch", 30, "--json"))
    assert found["class_id"] == "Favella" and found["out"] == str(out) and out.stat().st_size > 5_000
    assert "Favella" in invoke("explain", "--image", image, "--out", out, "--class", "Favella", "--patch", 30)
    told = invoke("explain", "--image", image, "--out", out, "--method", "cam", "--class", "Favella")
    assert "most of it comes from around x" in told and "random maps" in told


def test_errors_are_one_object(images: Path, tmp_path: Path) -> None:
    found = json.loads(invoke("evaluate", "--images", images, "--half", "x", "--json", status=1))
    assert found["error"]["code"] == "settings" and "judge" in found["error"]["message"]
    found = json.loads(
        invoke("explain", "--image", tmp_path / "none.png", "--out", tmp_path / "e.png", "--json", status=1)
    )
    assert "none.png" in found["error"]["path"]
