"""Models as folders: identity by content, and every way in which one must not be loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.head import save_head
from plankter.classify.models import built_in_models, load_model, model_id_of, write_model_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "backbone.onnx").write_bytes(b"not looked into here")
    save_head(made / "head.npz", np.zeros((6, 2)), np.zeros(2))
    (made / "CARD.md").write_text("# tiny\n", encoding="utf-8")
    write_model_json(
        made, name="tiny", backbone_name="none", dim=6, input_px=24, class_ids=("a", "b"), class_counts=(3, 4),
        temperature=1.25, card={"license": "Apache-2.0", "metrics": {"top1": 0.5}},
    )  # fmt: skip
    return made


def change(folder: Path, **facts: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | facts), encoding="utf-8")


def facts_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "model.json").read_text(encoding="utf-8")))


def test_a_model_says_what_it_is(folder: Path) -> None:
    model = load_model(folder)
    assert (model.name, model.folder, model.input_px, model.class_ids) == ("tiny", folder, 24, ("a", "b"))
    assert model.backbone == "none" and model.preprocessing == "letterbox-1"
    assert model.backbone_hash == hashlib.sha256(b"not looked into here").hexdigest()
    assert model.card["metrics"] == {"top1": 0.5}
    assert facts_of(folder)["training_class_counts"] == {"a": 3, "b": 4}
    assert sorted(p.name for p in folder.iterdir()) == ["CARD.md", "backbone.onnx", "head.npz", "model.json"]


def test_the_id_is_that_of_the_content(folder: Path, tmp_path: Path) -> None:
    lines = [
        f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in ("CARD.md", "backbone.onnx", "head.npz", "model.json")
    ]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    assert load_model(folder).model_id == expected
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    (copy / "Thumbs.db").write_bytes(b"left by the system")
    assert load_model(copy).model_id == expected
    (copy / "CARD.md").write_text("# other words\n", encoding="utf-8")
    assert model_id_of(copy) != expected
    (copy / "CARD.md").unlink()
    assert load_model(copy).model_id not in (expected, "")


@pytest.mark.parametrize("name", ["backbone.onnx", "head.npz"])
def test_changed_and_missing_files_are_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match="changed since the model was made") as caught:
        load_model(folder)
    assert caught.value.path == str(folder / name)
    (folder / name).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(folder)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"format_version": 3}, "format 3 is newer than this plankter knows"),
        ({"format_version": None}, "format_version must be a whole number"),
        ({"format_version": True}, "format_version must be a whole number"),
        ({"preprocessing": "letterbox-2"}, "fitted on preprocessing 'letterbox-2'"),
        ({"preprocessing": 1}, "'preprocessing' must be str"),
        ({"class_ids": []}, "'class_ids' must be 1 to"),
        ({"class_ids": ["a", 1]}, "'class_ids' must be 1 to"),
        ({"class_ids": ["a", "a"]}, "names a class twice"),
        ({"name": None}, "'name' must be str"),
        ({"card": []}, "'card' must be dict"),
        ({"head": "head.npz"}, "'head' must be dict"),
        ({"head": {"file": "../head.npz", "sha256": ""}}, "expected the file 'head.npz'"),
    ],
)
def test_facts_that_do_not_hold_are_refused(folder: Path, facts: dict[str, Any], message: str) -> None:
    change(folder, **facts)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("file", "../../etc/passwd", "expected the file 'backbone.onnx'"),
        ("kind", "keras", "backbone kind 'keras' is not known"),
        ("dim", 0, "out of range"),
        ("input_px", 100_000, "out of range"),
        ("input_px", "80", "'input_px' must be int"),
        ("sha256", None, "changed since"),
    ],
)
def test_a_backbone_entry_that_does_not_hold_is_refused(folder: Path, key: str, value: object, message: str) -> None:
    change(folder, backbone=facts_of(folder)["backbone"] | {key: value})
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "", "[" * 100_000])
def test_what_is_no_model_json_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="expected"):
        load_model(folder)


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.json is missing"):
        load_model(tmp_path)


def test_sealing_checks_what_it_is_told(folder: Path) -> None:
    with pytest.raises(ValueError, match="1 counts for 2 classes"):
        write_model_json(
            folder, name="x", backbone_name="n", dim=6, input_px=24, class_ids=("a", "b"), class_counts=(1,),
            temperature=1.0, card={},
        )  # fmt: skip


def test_the_flagship_ships() -> None:
    assert "flowcam" in built_in_models()
    for name, path in built_in_models().items():
        assert load_model(path).name == name
