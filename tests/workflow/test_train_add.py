"""A class joins a model later: the head is that of all images together, and the old classes stay what they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shape_images import SHAPES, tiny_model, write_shapes
from typer.testing import CliRunner

from plankter._errors import ModelError, ReadError, SettingsError
from plankter.classify.add_class import load_discriminant
from plankter.classify.head import load_head
from plankter.classify.lda import gather
from plankter.classify.models import load_model, read_model_json
from plankter.classify.novelty import fit_reference, load_reference
from plankter.cli import app
from plankter.workflow.evaluate import evaluate
from plankter.workflow.model_files import unpacked_model, write_model_file
from plankter.workflow.train import train
from plankter.workflow.train_add import add_images
from plankter.workflow.training_config import TrainConfig
from plankter.workflow.workspace import find_model, init_workspace, open_workspace


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def old(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model of discs and rods."""
    root = tmp_path_factory.mktemp("old")
    return train(
        TrainConfig(model=tiny, name="two"), folder=write_shapes(root / "in", SHAPES[:2], range(40)), out=root / "out"
    )


@pytest.fixture(scope="module")
def added(old: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same with stars, and with more rods."""
    root = tmp_path_factory.mktemp("new")
    write_shapes(root / "in", ("star",), range(40))
    write_shapes(root / "in", ("rod",), range(50, 60))
    return add_images(old["model"], root / "in", out=root / "out", name="three")


def embedded(run: dict[str, Any]) -> tuple[np.ndarray, list[str], list[str]]:
    """Embeddings, classes and parts of a training's images."""
    folder = Path(run["folder"])
    lines = (folder / "splits.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    cells = [line.split(",") for line in lines]
    return np.load(folder / "embeddings.npy").astype(np.float32), [c[1] for c in cells], [c[3] for c in cells]


def test_the_head_is_that_of_all_images_together(old: dict[str, Any], added: dict[str, Any]) -> None:
    parts = [embedded(run) for run in (old, added)]
    columns = np.concatenate([x[np.array(part) == "train"] for x, _, part in parts])
    names = [c for _, classes, part in parts for c, p in zip(classes, part, strict=True) if p == "train"]
    labels = np.array([SHAPES.index(c) for c in names], np.int64)
    found, recipe = load_discriminant(Path(added["model"]))
    whole = gather(columns, labels, SHAPES)
    assert found.class_ids == SHAPES and recipe == load_discriminant(Path(old["model"]))[1]
    np.testing.assert_array_equal(found.counts, whole.counts)
    np.testing.assert_allclose(found.means, whole.means, atol=1e-5)
    np.testing.assert_allclose(found.scatter, whole.scatter, rtol=1e-3, atol=1e-3 * whole.scatter.max())
    head, alike = load_head(Path(added["model"])), recipe.head(whole)
    same = head.scores(columns).argmax(axis=1) == (columns @ alike.weight + alike.bias).argmax(axis=1)
    assert same.mean() > 0.98
    reference, expected = load_reference(Path(added["model"])), fit_reference(columns, labels, 3)
    assert reference is not None
    np.testing.assert_allclose(reference.mix, expected.mix, atol=1e-6)
    np.testing.assert_allclose(reference.distance(columns), expected.distance(columns), rtol=0.05, atol=0.05)
    assert set(reference.labels.tolist()) == {0, 1, 2}


def test_old_and_new_classes_are_named(added: dict[str, Any], old: dict[str, Any], tmp_path: Path) -> None:
    unseen = write_shapes(tmp_path / "unseen", SHAPES, range(70, 90))
    found = evaluate(unseen, model=added["model"])
    assert found["classes"] == 3 and found["top1"] > 0.85
    two = write_shapes(tmp_path / "two", SHAPES[:2], range(70, 90))
    assert evaluate(two, model=added["model"])["top1"] > evaluate(two, model=old["model"])["top1"] - 0.06


def test_what_was_done_is_told(added: dict[str, Any], old: dict[str, Any]) -> None:
    assert (added["classes"], added["name"], added["mode"]) == (3, "three", "head")
    told = added["added"]
    assert told["classes"] == ["star"] and told["more_of"] == ["rod"] and told["base"] == old["model_id"]
    assert told["old_images"] == old["split"]["train"] and told["images"] == added["split"]["train"]
    assert told["old_sample"]["images"] == old["split"]["train"] and told["old_sample"]["right_before"] > 0.9
    assert added["evaluation"]["images"] == added["split"]["tune"] + added["split"]["judge"]
    facts, before = (read_model_json(Path(run["model"])) for run in (added, old))
    assert facts["calibration"] == before["calibration"] and facts["card"]["added_to"] == old["model_id"]
    counts = facts["training_class_counts"]
    assert counts["disc"] == before["training_class_counts"]["disc"]
    assert sum(counts.values()) == told["old_images"] + told["images"]
    card = (Path(added["model"]) / "CARD.md").read_text(encoding="utf-8")
    assert "statistics of two" in card and "| star |" in card
    assert json.loads(json.dumps(added, allow_nan=False)) == added


def test_thresholds_and_a_calibration_by_class_are_widened(old: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "changed"
    shutil.copytree(old["model"], source)
    facts = read_model_json(source)
    facts["calibration"]["bias"] = [0.4, -0.2]
    facts["thresholds"] = {"by_class": {"disc": 0.5, "rod": 0.7}, "group": 0.8, "distance": 6.0, "target": "p"}
    (source / "model.json").write_text(json.dumps(facts))
    images = write_shapes(tmp_path / "in", ("star",), range(12))
    found = read_model_json(Path(add_images(str(source), images, out=tmp_path / "out")["model"]))
    assert found["calibration"]["bias"] == [0.4, -0.2, pytest.approx(0.1)]
    assert found["thresholds"]["by_class"] == {"disc": 0.5, "rod": 0.7, "star": pytest.approx(0.6)}
    assert found["thresholds"]["target"] == "p" and 3 < found["thresholds"]["distance"] < 12


def test_a_model_handed_on_can_be_added_to(added: dict[str, Any], tmp_path: Path) -> None:
    file = write_model_file(load_model(Path(added["model"])), tmp_path)
    images = write_shapes(tmp_path / "in", ("star",), range(100, 110))
    with unpacked_model(file) as model:
        again = add_images(str(model.folder), images, out=tmp_path / "out")
    assert again["added"]["classes"] == [] and again["added"]["more_of"] == ["star"] and again["classes"] == 3


def test_context_is_asked_for_in_the_columns_of_the_model(tiny: str, tmp_path: Path) -> None:
    images = write_shapes(tmp_path / "in", SHAPES[:2], range(20))
    lines = [f"{s}{k}.png,{k},s{k % 5}" for s in SHAPES for k in range(20)]
    table = tmp_path / "c.csv"
    table.write_text("file,depth_m,group\n" + "\n".join(lines) + "\n")
    config = TrainConfig(model=tiny, force_context=True)
    base = train(config, folder=images, context=table, out=tmp_path / "out")
    star = write_shapes(tmp_path / "star", ("star",), range(20))
    found = add_images(base["model"], star, context=table, out=tmp_path / "out")
    both, _ = load_discriminant(Path(found["model"]))
    assert both.dim == 37 and both.means[2, 36] == 1.0  # known of every new image
    without = add_images(base["model"], star, out=tmp_path / "out", name="blind")
    assert load_discriminant(Path(without["model"]))[0].means[2, 36] == 0.0
    table.write_text("file,salinity\nstar1.png,3\n")
    with pytest.raises(SettingsError, match="lacks depth_m"):
        add_images(base["model"], star, context=table, out=tmp_path / "out")


def test_models_without_statistics_are_refused(old: dict[str, Any], tiny: str, tmp_path: Path) -> None:
    images = write_shapes(tmp_path / "in", ("star",), range(8))
    for model in ("flowcam", tiny):
        with pytest.raises(ModelError, match="keeps no statistics") as caught:
            add_images(model, images, out=tmp_path / "out")
        assert "--head lda" in str(caught.value)
    damaged = tmp_path / "damaged"
    shutil.copytree(old["model"], damaged)
    (damaged / "statistics.npz").write_bytes(b"x")
    with pytest.raises(ModelError, match="changed since"):
        add_images(str(damaged), images, out=tmp_path / "out")
    facts = read_model_json(damaged)
    shutil.copy(Path(old["model"]) / "statistics.npz", damaged)
    for wrong in ({"scale": 0}, {"shrinkage": "much"}, {"scale": None}):
        changed = {**facts, "statistics": {**facts["statistics"], **wrong}}
        (damaged / "model.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError, match="'statistics' cannot be read"):
            add_images(str(damaged), images, out=tmp_path / "out")
    with pytest.raises(ReadError, match="no image of any class"):
        (tmp_path / "none" / "star").mkdir(parents=True)
        add_images(old["model"], tmp_path / "none", out=tmp_path / "out")
    with pytest.raises(SettingsError, match="takes no context"):
        (tmp_path / "c.csv").write_text("file,depth_m\nstar1.png,3\n")
        add_images(old["model"], images, context=tmp_path / "c.csv", out=tmp_path / "out")


def test_from_the_command_line_into_a_workspace(old: dict[str, Any], tmp_path: Path) -> None:
    init_workspace(tmp_path / "w")
    images = write_shapes(tmp_path / "stars", ("star",), range(20))
    asked = ["train", "--add-to", old["model"], "--images", str(images), "-w", str(tmp_path / "w")]
    shown = CliRunner().invoke(app, [*asked, "--name", "more"])
    assert shown.exit_code == 0, shown.output
    assert "new classes star" in shown.output and "taken for a new class" in shown.output
    with open_workspace(tmp_path / "w") as workspace:
        assert find_model("more", workspace).class_ids == SHAPES
    for wrong in (["--compare"], ["--mode", "classical"]):
        refused = CliRunner().invoke(app, [*asked, *wrong])
        assert refused.exit_code == 1 and "--add-to goes with" in " ".join(refused.output.split())
