"""`plankter train` as users and scripts meet it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from plankter.classify.head import save_head
from plankter.classify.models import write_model_json
from plankter.cli import app

TINY = Path(__file__).parents[1] / "workflow" / "tiny_backbone.onnx"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("Copepoda_adult", "Bubbles")):
        (root / name).mkdir()
        for k in range(15):
            image = np.full((40, 40), 200, np.uint8) + rng.integers(0, 9, (40, 40), np.uint8)
            cv2.circle(image, (20, 20), 6 + 8 * number + k % 3, 50, -1 if number else 1)
            cv2.imwrite(str(root / name / f"{k}.png"), image)
    (root / "Bubbles" / "0.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    shutil.copy(TINY, made / "backbone.onnx")
    save_head(made / "head.npz", np.zeros((35, 2)), np.zeros(2))
    write_model_json(
        made, name="tiny", backbone_name="tiny", dim=35, input_px=32, class_ids=("a", "b"), class_counts=(1, 1),
        temperature=1.0, card={},
    )  # fmt: skip
    return made


def run(*arguments: object, status: int = 0) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return json.loads(result.stdout)


def test_three_commands_from_images_to_predictions(images: Path, tiny: Path, tmp_path: Path) -> None:
    found = run("train", "--images", images, "--name", "mine", "--out", tmp_path / "o", "--model", tiny, "-w", tmp_path)
    assert {"model_id", "name", "mode", "classes", "images", "seconds", "evaluation", "warnings", "problems"} <= set(
        found
    )
    assert (found["name"], found["classes"], found["images"]) == ("mine", 2, 29)
    assert [p["names"] for p in found["problems"]] == [["Bubbles/0.png"]]
    assert run("evaluate", "--images", images, "--model", found["model"], "-w", tmp_path)["top1"] > 0.7
    out = tmp_path / "p.csv"
    assert (
        run("predict", "--images", images, "--out", out, "--model", found["model"], "-w", tmp_path)["predicted"] == 29
    )


def test_in_a_workspace_the_model_goes_by_its_name(images: Path, tiny: Path, tmp_path: Path) -> None:
    run("init", tmp_path / "w")
    found = run("train", "--images", images, "--name", "mine", "--model", tiny, "-w", tmp_path / "w")
    assert Path(found["folder"]).parent == tmp_path / "w" / "trainings"
    listed = {m["name"]: m for m in run("models", "-w", tmp_path / "w")["models"]}
    assert listed["mine"]["model_id"] == found["model_id"] and listed["mine"]["top1"] is not None
    assert run("evaluate", "--images", images, "--model", "mine", "-w", tmp_path / "w")["model_id"] == found["model_id"]
    error = run("train", "--images", images, "--name", "mine", "--model", tiny, "-w", tmp_path / "w", status=1)["error"]
    assert error["code"] == "conflict"


def test_text_and_estimate(images: Path, tiny: Path, tmp_path: Path) -> None:
    arguments = ["train", "--images", str(images), "--model", str(tiny), "--out", str(tmp_path), "-w", str(tmp_path)]
    shown = CliRunner().invoke(app, [*arguments, "--estimate"])
    assert shown.exit_code == 0 and "30 images of 2 classes: about" in shown.stdout
    shown = CliRunner().invoke(app, arguments)
    assert "unseen images: top-1" in shown.stdout and "1 x cannot be used" in shown.stdout
    assert "use it with --model" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "magic"], "mode must be one of head, finetune, classical"),
        (["--images", "none"], "one folder a class"),
        ([], "no images"),
        (["--compare", "--candidates", "nothing"], "no candidate 'nothing'"),
        (["--model", "nobody"], "no model 'nobody'"),
    ],
)
def test_one_clear_message_each(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in run("train", *arguments, "-w", tmp_path, status=1)["error"]["message"]
