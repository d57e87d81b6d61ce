"""The last layer: scores against plain arithmetic, files against what they must not be."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.calibrate import Calibration
from plankter.classify.context import ContextEncoder
from plankter.classify.head import Head, load_head, save_head
from plankter.classify.models import write_model_json


def test_scores_of_two_classes_by_hand() -> None:
    head = Head([[1.0, 0.0], [0.0, 2.0]], [0.0, 1.0])
    scores = head.scores(np.array([[1.0, 0.5]], np.float32))  # logits 1 and 2
    np.testing.assert_allclose(scores, [[1 / (1 + math.e), math.e / (1 + math.e)]], rtol=1e-6)
    assert scores.dtype == np.float32


def test_temperature_softens_and_keeps_the_order() -> None:
    weight, bias = [[2.0, 0.0]], [0.0, 0.0]
    x = np.array([[1.0]], np.float32)
    np.testing.assert_allclose(
        Head(weight, bias, 2.0).scores(x), [[math.e / (1 + math.e), 1 / (1 + math.e)]], rtol=1e-6
    )
    assert Head(weight, bias, 2.0).scores(x)[0, 0] < Head(weight, bias).scores(x)[0, 0]


@pytest.mark.parametrize(("n", "dim", "classes"), [(0, 3, 2), (1, 1312, 95), (77, 1312, 95), (40, 5, 9000)])
def test_blocks_add_up_to_the_whole_product(n: int, dim: int, classes: int) -> None:
    rng = np.random.default_rng(n)
    x, weight, bias = rng.normal(size=(n, dim)), rng.normal(size=(dim, classes)) / 30, rng.normal(size=classes)
    logits = x @ weight + bias
    expected = np.exp(logits - logits.max(1, keepdims=True, initial=0))
    expected /= expected.sum(1, keepdims=True)
    found = Head(weight, bias).scores(x.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_huge_logits_stay_finite() -> None:
    scores = Head([[1000.0, -1000.0, 0.0]], [0, 0, 0]).scores(np.array([[6.0]], np.float32))
    np.testing.assert_array_equal(scores, [[1, 0, 0]])


@pytest.mark.parametrize(
    ("weight", "bias", "temperature"),
    [
        (np.zeros((3, 2)), np.zeros(3), 1.0),
        (np.zeros(3), np.zeros(3), 1.0),
        (np.zeros((0, 2)), np.zeros(2), 1.0),
        (np.full((3, 2), np.nan), np.zeros(2), 1.0),
        (np.zeros((3, 2)), np.array([0, np.inf]), 1.0),
        (np.zeros((3, 2)), np.zeros(2), 0.0),
        (np.zeros((3, 2)), np.zeros(2), math.nan),
    ],
)
def test_heads_that_make_no_sense_are_refused(weight: np.ndarray, bias: np.ndarray, temperature: float) -> None:
    with pytest.raises(ValueError, match=r"do not fit|finite|above 0"):
        Head(weight, bias, temperature)


def folder_with(tmp_path: Path, dim: int = 3, classes: int = 2, temperature: object = 1.5) -> Path:
    facts = {
        "format_version": 1, "backbone": {"dim": dim}, "class_ids": [f"c{i}" for i in range(classes)],
        "temperature": temperature,
    }  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(facts), encoding="utf-8")
    return tmp_path


def test_a_head_survives_its_file(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    weight = np.array([[0.5, -1], [2, 0.1], [3, 4]], np.float32)
    save_head(folder / "head.npz", weight, np.array([0.3, 0.7]))
    head = load_head(folder)
    np.testing.assert_array_equal(head.weight, weight.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(head.bias, np.array([0.3, 0.7], np.float32))
    assert head.temperature == 1.5
    with np.load(folder / "head.npz") as arrays:
        assert (arrays["weight"].dtype, arrays["bias"].dtype) == (np.float16, np.float32)


def test_objects_in_a_head_are_never_unpickled(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    np.savez(folder / "head.npz", weight=np.array([[{"a": 1}]], dtype=object), bias=np.zeros(1))
    with pytest.raises(ModelError, match="allow_pickle"):
        load_head(folder)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plankter.classify.head.MAX_HEAD_BYTES", 9_000_000)
    folder = folder_with(tmp_path)
    with (
        zipfile.ZipFile(folder / "head.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("weight.npy", "w") as member,
    ):
        for _ in range(10):
            member.write(bytes(1_000_000))
    with pytest.raises(ModelError, match="unpacked are over the limit"):
        load_head(folder)


@pytest.mark.parametrize(
    ("dim", "classes", "temperature"), [(4, 2, 1.0), (3, 5, 1.0), (3, 2, -1), (3, 2, "warm"), (3, 2, None)]
)
def test_a_head_of_another_model_is_refused(tmp_path: Path, dim: int, classes: int, temperature: object) -> None:
    folder = folder_with(tmp_path, dim, classes, temperature)
    save_head(folder / "head.npz", np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ModelError, match=r"model.json says|expected arrays"):
        load_head(folder)


def test_missing_damaged_and_incomplete_heads(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    with pytest.raises(ModelError, match=r"head\.npz"):
        load_head(folder)
    (folder / "head.npz").write_bytes(b"PK\x03\x04 half a zip")
    with pytest.raises(ModelError, match="expected arrays"):
        load_head(folder)
    np.savez(folder / "head.npz", weight=np.zeros((3, 2)))
    with pytest.raises(ModelError, match="expected arrays 'weight' and 'bias'"):
        load_head(folder)


def test_context_joins_the_embedding() -> None:
    context = ContextEncoder(["depth"], [10.0], [5.0])
    head = Head([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]], [0.0, 0.0], context=context)
    assert head.dim == 1
    # known: (15 - 10) / 5 = 1 and the flag 1; missing: 0 and 0
    np.testing.assert_allclose(head.logits(np.array([[3.0]]), np.array([[15.0]])), [[3.0, 2.0 - 1.0]])
    np.testing.assert_allclose(head.logits(np.array([[3.0]]), np.array([[np.nan]])), [[3.0, 0.0]])
    np.testing.assert_allclose(head.logits(np.array([[3.0]])), [[3.0, 0.0]])


def test_a_bias_from_calibration_moves_the_classes() -> None:
    plain = Head([[1.0, 1.0]], [0.0, 0.0], 2.0)
    moved = Head([[1.0, 1.0]], [0.0, 0.0], 2.0, class_bias=[0.0, 2.0])
    np.testing.assert_allclose(moved.logits(np.ones((1, 1))) - plain.logits(np.ones((1, 1))), [[0.0, 1.0]])


@pytest.mark.parametrize("layer", [False, True])
def test_a_head_with_context_comes_back_from_its_file(tmp_path: Path, layer: bool) -> None:
    rng = np.random.default_rng(4)
    parts = (rng.normal(size=(4, 3)), rng.normal(size=3)) if layer else (None, None)
    context = ContextEncoder(["depth", "month_sin"], [10.0, 0.0], [5.0, 1.0], *parts)
    weight = rng.normal(size=(6 + context.dim, 2)).astype(np.float16)
    (tmp_path / "backbone.onnx").write_bytes(b"")
    save_head(tmp_path / "head.npz", weight, np.zeros(2), context)
    write_model_json(
        tmp_path, name="m", backbone_name="b", dim=6, input_px=80, class_ids=("a", "b"), class_counts=(1, 1),
        temperature=1.0, card={}, inputs={"context": context.columns},
        calibration=Calibration(1.7, (0.5, -0.5), 9, "test", 0.05),
    )  # fmt: skip
    kept, made = (
        load_head(tmp_path),
        Head(weight, [0.0, 0.0], 1.7, context=context, class_bias=[0.5, -0.5], smoothing=0.05),
    )
    x, values = rng.normal(size=(5, 6)), np.array([[1.0, np.nan]] * 5)
    np.testing.assert_allclose(kept.scores(x, values), made.scores(x, values), rtol=1e-5)


def test_a_weight_too_large_for_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit float16"):
        save_head(tmp_path / "head.npz", np.array([[1e6]]), np.zeros(1))


def test_the_head_calibrates_as_the_calibration_does() -> None:
    rng = np.random.default_rng(2)
    weight, bias, x = rng.normal(size=(6, 4)), rng.normal(size=4), rng.normal(size=(9, 6))
    calibration = Calibration(0.8, (0.1, 0.0, -0.3, 0.0), 9, "test", 0.05)
    head = Head(weight, bias, 0.8, class_bias=calibration.bias, smoothing=0.05)
    np.testing.assert_allclose(head.logits(x), calibration.apply(Head(weight, bias).logits(x)), atol=1e-4)
