"""`plankter transform` as users and scripts meet it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from plankter.cli import app


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["transform", *map(str, arguments)])


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for name, background, grey in (("scanner", 255, 200), ("flowcam", 170, 90)):
        for number in range(3):
            image = np.full((40, 50), background, np.uint8)
            cv2.circle(image, (20 + number, 20), 12, (grey,), -1)
            path = tmp_path / name / "Copepoda" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    return tmp_path


def test_json_is_one_object(sets: Path) -> None:
    result = invoke(
        "--images", sets / "scanner", "--like", sets / "flowcam", "--out", sets / "out", "--augment", 1, "--json",
        "-w", sets,
    )  # fmt: skip
    assert result.exit_code == 0, (result.stdout, result.stderr)
    found = json.loads(result.stdout)
    assert (found["images"], found["written"], found["classes"]) == (3, 6, {"Copepoda": 6})
    assert Path(found["manifest"]).is_file() and Path(found["preview"]).is_file()
    assert found["matching"]["of"]["background"] == 255 and found["matching"]["like"]["background"] == 170


def test_text_says_what_was_done(sets: Path) -> None:
    (sets / "scanner" / "Copepoda" / "bad.png").write_text("no image")
    result = invoke(
        "--images", sets / "scanner", "--like", sets / "flowcam", "--out", sets / "out", "--um-per-px", 2,
        "--like-um-per-px", 1, "--preview", sets / "sheet.png",
    )  # fmt: skip
    assert result.exit_code == 0
    for words in ("3 images written", "1 failures", "bad.png", "background grey 255 to 170", "contrast x", "size x 2"):
        assert words in result.stdout
    assert (sets / "sheet.png").is_file() and not (sets / "out" / "preview.png").exists()


def test_a_set_that_looks_the_same_says_so(sets: Path) -> None:
    result = invoke("--images", sets / "flowcam", "--like", sets / "flowcam", "--out", sets / "out")
    assert result.exit_code == 0 and "nothing to match" in result.stdout


def test_balance_without_a_reference(sets: Path) -> None:
    result = invoke("--images", sets / "scanner", "--balance", 5, "--out", sets / "out", "--seed", 7, "--json")
    found = json.loads(result.stdout)
    assert (found["written"], found["matching"], found["seed"]) == (5, None, 7)


@pytest.mark.parametrize(
    ("options", "code"),
    [([], "error"), (["--augment", 1, "--balance", 2], "error"), (["--like", "nothing"], "not_found")],
)
def test_refusals_are_one_error_object(sets: Path, options: list[object], code: str) -> None:
    result = invoke("--images", sets / "scanner", "--out", sets / "out", *options, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == code


def test_an_output_in_use_is_a_conflict(sets: Path) -> None:
    result = invoke("--images", sets / "scanner", "--out", sets / "flowcam", "--augment", 1, "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["error"]["code"] == "conflict"
