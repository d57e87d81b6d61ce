"""The OpenVINO backbone on a tiny network whose output is known, and the placeholder."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.features.backbones import BATCH, OpenVinoBackbone, available_cores, import_openvino, native_bf16
from plankter.features.placeholder import PlaceholderBackbone

SIDE = 12


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embedding = mean grey of each vignette, then its three sizes."""
    ov = import_openvino()
    ops = ov.opset13
    vignettes = ops.parameter([-1, SIDE, SIDE], ov.Type.u8, name="vignettes")
    sizes = ops.parameter([-1, 3], ov.Type.f32, name="sizes")
    vignettes.output(0).set_names({"vignettes"})
    sizes.output(0).set_names({"sizes"})
    flat = ops.reshape(ops.convert(vignettes, "f32"), np.array([-1, SIDE * SIDE]), special_zero=False)
    mean = ops.reduce_mean(flat, np.array([1]), keep_dims=True)
    path = tmp_path_factory.mktemp("network") / "mean.xml"
    ov.save_model(ov.Model([ops.concat([mean, sizes], 1)], [vignettes, sizes], "mean"), str(path))
    return path


def batch(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, SIDE, SIDE), np.uint8), rng.random((n, 3), np.float32)


@pytest.mark.parametrize("n", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 5])
def test_every_row_is_its_own_whatever_the_batch(network: Path, n: int) -> None:
    backbone = OpenVinoBackbone(network, precision="f32", threads=2)
    assert (backbone.dim, backbone.input_px, backbone.precision) == (4, SIDE, "f32")
    vignettes, sizes = batch(n)
    found = backbone.embed(vignettes, sizes)
    assert found.dtype == np.float32 and found.shape == (n, 4)
    np.testing.assert_allclose(found[:, 0], vignettes.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(found[:, 1:], sizes)


def test_several_threads_get_their_own_answers(network: Path) -> None:
    backbone = OpenVinoBackbone(network, precision="f32", threads=1)  # one request, wanted by all
    inputs = [batch(20 + 30 * i, seed=i) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: backbone.embed(*pair), inputs))
    for (vignettes, sizes), embeddings in zip(inputs, found, strict=True):
        np.testing.assert_allclose(embeddings[:, 0], vignettes.mean((1, 2)), rtol=1e-5)
        np.testing.assert_array_equal(embeddings[:, 1:], sizes)


@pytest.mark.parametrize(
    ("vignettes", "sizes"),
    [
        (np.zeros((2, SIDE, SIDE + 1), np.uint8), np.zeros((2, 3), np.float32)),
        (np.zeros((2, SIDE, SIDE), np.float32), np.zeros((2, 3), np.float32)),
        (np.zeros((2, SIDE, SIDE), np.uint8), np.zeros((1, 3), np.float32)),
    ],
)
def test_other_shapes_are_refused_and_nothing_is_lost(network: Path, vignettes: np.ndarray, sizes: np.ndarray) -> None:
    backbone = OpenVinoBackbone(network, precision="f32", threads=1)
    with pytest.raises(ValueError, match="expected uint8"):
        backbone.embed(vignettes, sizes)
    assert len(backbone.embed(*batch(3))) == 3


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the network is missing"):
        OpenVinoBackbone(tmp_path / "backbone.onnx", precision="f32")
    broken = tmp_path / "backbone.onnx"
    contents = {
        b"\x08\x07 no network at all": "expected an ONNX network",
        bytes.fromhex("08083a0612046d61696e"): "cannot load the network",  # a graph with a name and nothing else
        bytes.fromhex("3a042a027001"): "lies in another file",  # a tensor that is said to be elsewhere
    }
    for data, message in contents.items():
        broken.write_bytes(data)
        with pytest.raises(ModelError, match=message) as caught:
            OpenVinoBackbone(broken, precision="f32")
        assert caught.value.path == str(broken)
    with pytest.raises(ModelError, match="precision must be one of auto, f32, bf16"):
        OpenVinoBackbone(broken, precision="f16")


def test_a_network_of_other_inputs_is_refused(tmp_path: Path) -> None:
    ov = import_openvino()
    x = ov.opset13.parameter([-1, 4], ov.Type.f32, name="x")
    x.output(0).set_names({"x"})
    ov.save_model(ov.Model([ov.opset13.relu(x)], [x], "other"), str(tmp_path / "other.xml"))
    with pytest.raises(ModelError, match="expected inputs 'vignettes' and 'sizes'"):
        OpenVinoBackbone(tmp_path / "other.xml", precision="f32")


@pytest.mark.parametrize(
    ("flags", "capabilities", "expected"),
    [
        ({"avx512f", "avx512_bf16"}, ["FP32", "BF16"], True),
        ({"avx512f", "amx_bf16"}, ["FP32", "BF16"], True),
        ({"avx512f"}, ["FP32", "BF16"], False),  # would be emulated
        ({"avx512_bf16"}, ["FP32"], False),
        (None, ["FP32", "BF16"], True),
        (None, ["FP32"], False),
    ],
)
def test_bf16_only_where_the_processor_has_it(flags: set[str] | None, capabilities: list[str], expected: bool) -> None:
    assert native_bf16(flags, capabilities) is expected


def test_auto_names_what_it_took(network: Path) -> None:
    assert OpenVinoBackbone(network, threads=1).precision in ("f32", "bf16")
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_openvino_reports_nothing_to_anybody(tmp_path: Path) -> None:
    """Neither a connection, nor a helper process that could make one, nor an identity in the home folder."""
    code = (
        "import sys\n"
        "seen = []\n"
        "watched = ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen', 'os.fork', 'os.posix_spawn')\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in watched else None)\n"
        "from plankter.features.backbones import import_openvino\n"
        "ov = import_openvino(); import openvino.tools.ovc as ovc\n"
        "print(seen, 'openvino_telemetry' in sys.modules, ovc.telemetry.__class__.__module__)\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):  # there it stays silent by itself
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[] False openvino.tools.ovc.telemetry_stub"
    assert list(tmp_path.iterdir()) == []


def test_placeholder_measures_pixels() -> None:
    vignettes = np.zeros((2, 80, 80), np.uint8)
    vignettes[1, :10, :10] = 255  # the first of 8 x 8 tiles
    sizes = np.array([[0, 0, 0], [0.5, 0.25, 1]], np.float32)
    found = PlaceholderBackbone().embed(vignettes, sizes)
    assert found.shape == (2, PlaceholderBackbone.dim) and found.dtype == np.float32
    assert not found[0].any()
    np.testing.assert_allclose(found[1, :2], [1, 0])
    np.testing.assert_allclose(found[1, 64:], [1 / 64, np.sqrt(63) / 64, 0.5, 0.25, 1], rtol=1e-5)
    with pytest.raises(ValueError, match="expected"):
        PlaceholderBackbone().embed(np.zeros((1, 4, 4), np.uint8), np.zeros((1, 3), np.float32))


def test_placeholder_tiles_of_an_uneven_side() -> None:
    vignettes = np.full((1, 19, 19), 51, np.uint8)
    np.testing.assert_allclose(
        PlaceholderBackbone().embed(vignettes, np.zeros((1, 3), np.float32))[0, :65], 0.2, rtol=1e-5
    )
