"""The last map of the network that ships: its mean is the embedding."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.models import built_in_models
from plankter.features.backbones import OpenVinoBackbone
from plankter.features.last_map import LastMap
from plankter.vignettes.letterbox import size_inputs

NETWORK = built_in_models()["flowcam"] / "backbone.onnx"
TINY = Path(__file__).parents[1] / "workflow" / "tiny_backbone.onnx"


def test_its_mean_is_the_part_of_the_embedding_that_it_names() -> None:
    found = LastMap(NETWORK)
    side = found.input_px
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (side, side), np.uint8), (0, 0), 2)
    sizes = size_inputs(60, 80)
    last = found.read(image, sizes)
    embedding = OpenVinoBackbone(NETWORK, precision="f32").embed(image[None], sizes)[0]
    mine = embedding[found.first : found.first + found.features]
    assert len(last) == found.features
    np.testing.assert_allclose(last.mean((1, 2)), mine, atol=2e-4, rtol=1e-3)
    assert last.std(axis=(1, 2)).max() > 0


def test_an_embedding_that_holds_more_than_means_is_refused() -> None:
    with pytest.raises(ModelError, match="does not average a last map"):
        LastMap(TINY)  # the largest value of each channel joins its mean


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="ONNX"):
        LastMap(tmp_path / "n.onnx")
    shutil.copy(NETWORK, tmp_path / "cut.onnx")
    data = (tmp_path / "cut.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError):
        LastMap(tmp_path / "cut.onnx")
