"""The model that ships: whole, and right on real vignettes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plankter.classify.evaluate import evaluate_predictions, folder_classes
from plankter.classify.head import load_head
from plankter.classify.models import built_in_models, load_model
from plankter.classify.predictor import load_predictor
from plankter.classify.stream import StreamResult, classify_stream
from plankter.features.backbones import OpenVinoBackbone
from plankter.taxa.classes import shipped_class_list
from plankter.types import Model


@pytest.fixture(scope="module", params=["flowcam", "flowcam-small"])
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(built_in_models()[request.param])


@pytest.fixture(scope="module")
def demo(shared_data: Path, model: Model) -> tuple[list[bytes], np.ndarray]:
    """Encoded images and their classes."""
    folder = shared_data / "labelled" / "flowcam_vliz_demo"
    matched, unknown = folder_classes(folder, model.class_ids)
    assert unknown == []
    files = [(path, class_id) for name, class_id in matched.items() for path in sorted((folder / name).iterdir())]
    return [path.read_bytes() for path, _ in files], np.array([model.class_ids.index(c) for _, c in files])


def predict(model: Model, data: list[bytes], precision: str, threads: int = 2, k: int = 5) -> StreamResult:
    backbone = OpenVinoBackbone(model.folder / "backbone.onnx", precision=precision, threads=threads)
    return classify_stream(
        enumerate(data), len(data), backbone, load_predictor(model), input_px=model.input_px, k=k, threads=threads
    )  # fmt: skip


def test_it_knows_the_classes_of_the_shipped_list(model: Model) -> None:
    assert model.class_ids == tuple(taxon.class_id for taxon in shipped_class_list())
    assert sum(path.stat().st_size for path in model.folder.iterdir()) < 20e6
    assert (model.folder / "CARD.md").read_text(encoding="utf-8").startswith("# flowcam")


def test_backbone_and_head_fit_what_the_model_says(model: Model) -> None:
    backbone = OpenVinoBackbone(model.folder / "backbone.onnx", precision="f32", threads=1)
    assert backbone.input_px == model.input_px
    assert backbone.dim == load_head(model.folder).dim


def test_it_is_right_on_real_vignettes(model: Model, demo: tuple[list[bytes], np.ndarray]) -> None:
    data, true = demo
    result = predict(model, data, "f32", k=len(model.class_ids))
    assert len(result.index) == len(data) and not result.failures
    scores = np.zeros(result.scores.shape, np.float32)
    np.put_along_axis(scores, result.best.astype(np.int64), result.scores, axis=1)
    found = evaluate_predictions(true, scores, model.class_ids)
    assert found.top1 > 0.6 and found.top5 > 0.9


def test_the_same_numbers_whatever_the_threads(model: Model, demo: tuple[list[bytes], np.ndarray]) -> None:
    first, second = (predict(model, demo[0], "f32", threads) for threads in (1, 3))
    np.testing.assert_array_equal(first.best, second.best)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.embeddings is not None and second.embeddings is not None
    np.testing.assert_array_equal(first.embeddings, second.embeddings)


def test_kept_embeddings_give_the_same_classes(model: Model, demo: tuple[list[bytes], np.ndarray]) -> None:
    result = predict(model, demo[0], "f32")
    assert result.embeddings is not None
    best, scores, *_ = load_predictor(model).predict(result.embeddings)
    np.testing.assert_allclose(scores[:, 0], result.scores[:, 0], atol=5e-3)
    clear = result.scores[:, 0] - result.scores[:, 1] > 0.02
    np.testing.assert_array_equal(best[clear, 0], result.best[clear, 0])


def test_bf16_agrees_with_f32_where_the_case_is_clear(model: Model, demo: tuple[list[bytes], np.ndarray]) -> None:
    precise, fast = predict(model, demo[0], "f32"), predict(model, demo[0], "bf16")
    clear = precise.scores[:, 0] - precise.scores[:, 1] > 0.25
    assert clear.mean() > 0.4
    np.testing.assert_array_equal(fast.best[clear, 0], precise.best[clear, 0])
