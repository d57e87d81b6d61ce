"""Forests as arrays: scikit-learn's own probabilities without scikit-learn, and nothing followed that leads outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.calibrate import Calibration
from plankter.classify.models import load_model, write_model_json
from plankter.classify.predictor import load_predictor
from plankter.classify.trees import BOOSTING, FOREST, Forest, Inputs, Trees, fit_inputs, load_forest, save_forest

DIM, MEASURES = 6, ("length", "area", "grey")


def data(n: int = 300, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, measures (some missing) and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = np.random.default_rng(1).normal(size=(classes, DIM + 3)) * 2
    values = (centres[labels] + rng.normal(size=(n, DIM + 3))).astype(np.float32)
    measures = values[:, DIM:].copy()
    measures[rng.random((n, 3)) < 0.1] = np.nan
    return values[:, :DIM], measures, labels


def fitted(classifier: str, classes: int = 4) -> tuple[Forest, np.ndarray, np.ndarray, np.ndarray]:
    fit_trees = pytest.importorskip("plankter.classify.fit_trees", exc_type=ImportError)
    pytest.importorskip("sklearn")
    x, m, y = data(classes=classes)
    inputs = fit_inputs(x, m, MEASURES, components=4)
    trees, words = fit_trees.fit_trees(inputs.columns(x, m), y, classes, classifier=classifier, seed=1, threads=1)
    assert words
    return Forest(inputs, trees), x, m, y


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", ["random", "extra", "boosting"])
def test_the_same_probabilities_as_scikit_learn(kind: str, classes: int) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    from plankter.classify.fit_trees import boosting_arrays, forest_arrays

    x, m, y = data(classes=classes)
    other = np.concatenate(data(500, classes, seed=7)[:2], axis=1)
    columns = np.where(np.isnan(other), 0, other).astype(np.float32)
    known = np.where(np.isnan(np.concatenate([x, m], axis=1)), 0, np.concatenate([x, m], axis=1)).astype(np.float32)
    if kind == "boosting":
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            oracle = ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(known, y)
        sums = boosting_arrays(oracle, classes).sums(columns)
        exp = np.exp(sums - sums.max(axis=1, keepdims=True))
        found = exp / exp.sum(axis=1, keepdims=True)
    else:
        made = ensemble.RandomForestClassifier if kind == "random" else ensemble.ExtraTreesClassifier
        oracle = made(30, min_samples_leaf=2, random_state=0, class_weight="balanced").fit(known, y)
        found = forest_arrays(oracle, classes).sums(columns) / 30
    np.testing.assert_allclose(found, oracle.predict_proba(columns), atol=1e-5)


@pytest.mark.parametrize("classifier", [FOREST, BOOSTING])
def test_it_learns_and_an_absent_class_is_never_said(classifier: str) -> None:
    fit_trees = pytest.importorskip("plankter.classify.fit_trees")
    pytest.importorskip("sklearn")
    x, m, y = data()
    inputs = fit_inputs(x, m, MEASURES)
    columns = inputs.columns(x, m)
    trees, _ = fit_trees.fit_trees(columns, np.where(y >= 2, y + 1, y), 5, classifier=classifier, threads=1)
    again, _ = fit_trees.fit_trees(columns, np.where(y >= 2, y + 1, y), 5, classifier=classifier, threads=1)
    np.testing.assert_array_equal(trees.threshold, again.threshold)
    scores = Forest(inputs, trees).scores(*data(400, seed=5)[:2])
    truth = data(400, seed=5)[2]
    assert scores.shape == (400, 5) and scores[:, 2].max() < 0.01
    assert np.mean(scores.argmax(axis=1) == np.where(truth >= 2, truth + 1, truth)) > 0.8
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_weights_count() -> None:
    fit_trees = pytest.importorskip("plankter.classify.fit_trees")
    pytest.importorskip("sklearn")
    x, m, y = data()
    columns = fit_inputs(x, m, MEASURES).columns(x, m)
    plain, _ = fit_trees.fit_trees(columns, y, 4, threads=1)
    heavy, _ = fit_trees.fit_trees(columns, y, 4, sample_weights=np.where(y == 3, 50.0, 1.0), threads=1)
    assert heavy.sums(columns).argmax(axis=1).tolist().count(3) >= plain.sums(columns).argmax(axis=1).tolist().count(3)
    with pytest.raises(ValueError, match="two classes"):
        fit_trees.fit_trees(columns, np.zeros(len(y), np.int64), 4)
    with pytest.raises(ValueError, match="forest or boosting"):
        fit_trees.fit_trees(columns, y, 4, classifier="bush")


def test_principal_components_are_those_of_a_decomposition() -> None:
    x, m, _ = data()
    inputs = fit_inputs(x, m, MEASURES, components=3)
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(inputs.components.T @ axes[:3].T), np.eye(3), atol=1e-4)
    assert fit_inputs(x, None, MEASURES).measures == () and fit_inputs(x, m, MEASURES, components=0).width == 3


def test_missing_measures_become_the_median() -> None:
    x, m, _ = data()
    m[:, 1] = np.nan  # nobody knows it: left out
    inputs = fit_inputs(x, m, MEASURES, components=2)
    assert inputs.measures == ("length", "grey") and inputs.width == 4
    columns = inputs.columns(x[:2], np.array([[np.nan, 5.0], [2.0, np.inf]]))
    np.testing.assert_allclose(columns[:, 2:], [[np.nanmedian(m[:, 0]), 5.0], [2.0, np.nanmedian(m[:, 2])]], rtol=1e-6)
    np.testing.assert_allclose(inputs.columns(x[:1])[0, 2:], inputs.median)
    with pytest.raises(ValueError, match="measures"):
        inputs.columns(x, m)


def model_folder(folder: Path, forest: Forest, calibration: Calibration | None = None) -> Path:
    folder.mkdir()
    (folder / "backbone.onnx").write_bytes(b"not looked into here")
    save_forest(folder / "head.npz", forest)
    write_model_json(
        folder, name="trees", backbone_name="none", dim=DIM, input_px=24, class_ids=tuple("abcd"),
        class_counts=(1, 2, 3, 4), temperature=1.0, card={}, head_kind="trees",
        inputs={"measures": forest.inputs.measures}, calibration=calibration,
    )  # fmt: skip
    return folder


def test_a_model_of_trees_comes_back_from_its_folder(tmp_path: Path) -> None:
    forest, x, m, _ = fitted(FOREST)
    folder = model_folder(tmp_path / "model", forest, Calibration(0.7, (0.1, 0.0, 0.0, -0.1)))
    loaded = load_predictor(load_model(folder))
    logits = forest.logits(x, m) + np.array([0.1, 0, 0, -0.1])
    exp = np.exp((logits - logits.max(axis=1, keepdims=True)) / 0.7)
    np.testing.assert_allclose(loaded.scores(x, m), exp / exp.sum(axis=1, keepdims=True), atol=1e-5)
    assert loaded.predict(x[:3], 2, m[:3]).best.shape == (3, 2)


def test_predicting_needs_no_scikit_learn(tmp_path: Path) -> None:
    forest, x, m, _ = fitted(BOOSTING)
    folder = model_folder(tmp_path / "model", forest)
    np.savez(tmp_path / "in.npz", x=x, m=m)
    code = (
        "import sys\nsys.modules['sklearn'] = None\nimport numpy as np\nfrom pathlib import Path\n"
        "from plankter.classify.trees import load_forest\nz = np.load(sys.argv[2])\n"
        "np.save(sys.argv[3], load_forest(Path(sys.argv[1])).scores(z['x'], z['m']))"
    )
    arguments = [str(folder), str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=60)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), forest.scores(x, m))


def tiny() -> dict[str, np.ndarray]:
    return {
        "roots": np.array([0], np.int32), "feature": np.array([0, -1, -1], np.int16),
        "threshold": np.zeros(3, np.float32), "left": np.array([1, 1, 2], np.int32),
        "right": np.array([2, 1, 2], np.int32), "start": np.array([0, 0, 1, 2], np.int32),
        "said_class": np.array([0, 1], np.int16), "said_value": np.ones(2, np.float32),
        "baseline": np.zeros(2, np.float32),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left", np.array([0, 1, 2], np.int32)),  # a circle
        ("right", np.array([7, 1, 2], np.int32)),
        ("roots", np.array([5], np.int32)),
        ("start", np.array([0, 0, 9, 2], np.int32)),
        ("said_class", np.array([0, 4], np.int16)),
        ("said_value", np.array([np.nan, 1], np.float32)),
        ("threshold", np.zeros(2, np.float32)),
        ("feature", np.array([-3, -1, -1], np.int16)),
    ],
)
def test_trees_that_lead_outside_are_refused(name: str, value: np.ndarray) -> None:
    assert Trees(**tiny(), kind=FOREST).sums(np.array([[-1.0], [1.0]], np.float32)).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="trees"):
        Trees(**{**tiny(), name: value}, kind=FOREST)


def test_damaged_forests_are_refused(tmp_path: Path) -> None:
    none = np.zeros((DIM, 0), np.float32)
    parts = {**tiny(), "baseline": np.zeros(4, np.float32)}
    with pytest.raises(ValueError, match="more than the 0 columns"):
        Forest(Inputs(np.zeros(DIM, np.float32), none, (), np.zeros(0, np.float32)), Trees(**parts, kind=FOREST))
    inputs = Inputs(np.zeros(DIM, np.float32), none, ("area",), np.ones(1, np.float32))
    folder = model_folder(tmp_path / "model", Forest(inputs, Trees(**parts, kind=FOREST)))
    whole, facts = (folder / "head.npz").read_bytes(), json.loads((folder / "model.json").read_text())
    assert load_forest(folder).classes == 4
    (folder / "head.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="forest"):
        load_forest(folder)
    (folder / "head.npz").write_bytes(whole)
    for change in ({"class_ids": ["a"]}, {"inputs": {}}, {"calibration": {"temperature": 0}}):
        (folder / "model.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(ModelError):
            load_forest(folder)
