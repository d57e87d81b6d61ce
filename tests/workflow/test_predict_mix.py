"""Predictions under the class mix of the images themselves."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter.classify.estimated_mix import estimate_mix
from plankter.synthetic.real import real_vignettes
from plankter.workflow.engine import FEWEST_FOR_MIX, load_engine, read_files
from plankter.workflow.predict import image_files, predict
from plankter.workflow.workspace import find_model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each of the images of the three classes with most of them, many times: a bloom."""
    folder = tmp_path_factory.mktemp("bloom")
    common = {name for name, _ in Counter(v.class_name for v in real_vignettes()).most_common(3)}
    chosen = [v for v in real_vignettes() if v.class_name in common] * 10
    for number, vignette in enumerate(chosen[: FEWEST_FOR_MIX + 30]):
        cv2.imwrite(str(folder / f"{number:03}.png"), vignette.grey)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_scores_move_by_the_shares_that_the_images_tell(images: Path, tmp_path: Path) -> None:
    files = image_files(images)
    engine = load_engine(find_model("flowcam"), precision="f32")
    plain = engine.run(read_files(files, {}), len(files), k=engine.predictor.classes)
    predict(images, tmp_path / "own.csv", class_mix="estimated", precision="f32")
    own = rows_of(tmp_path / "own.csv")
    scores = np.take_along_axis(plain.scores, plain.best.argsort(axis=1), axis=1).astype(float)
    training = np.asarray(engine.predictor.training_mix, float)
    expected = scores * estimate_mix(scores, training) / (training / training.sum())
    expected /= expected.sum(axis=1, keepdims=True)
    assert [row["class_1"] for row in own] == [engine.model.class_ids[c] for c in expected.argmax(axis=1)]
    np.testing.assert_allclose([float(row["score_1"]) for row in own], expected.max(axis=1), atol=2e-3)
    assert np.abs(expected.max(axis=1) - scores.max(axis=1)).max() > 0.01  # else this shows nothing


def test_too_few_images_tell_no_mix(images: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in image_files(images)[: FEWEST_FOR_MIX - 1]:
        (few / path.name).write_bytes(path.read_bytes())
    predict(few, tmp_path / "own.csv", class_mix="estimated", precision="f32")
    predict(few, tmp_path / "plain.csv", precision="f32")
    assert (tmp_path / "own.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
