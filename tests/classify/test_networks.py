"""Networks: parameters as published, embeddings of the right shape, folded weights that compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

from plankter.classify.export_onnx import export_backbone  # noqa: E402
from plankter.classify.models import built_in_models, load_model  # noqa: E402
from plankter.classify.networks import NETWORKS, build_backbone, parameter_count  # noqa: E402
from plankter.classify.networks.folded import load_from_model  # noqa: E402
from plankter.classify.networks.layers import Classifier, ConvNorm  # noqa: E402
from plankter.classify.networks.mobilenet_v2 import load_folded_imagenet  # noqa: E402
from plankter.features.backbones import OpenVinoBackbone  # noqa: E402

# of the whole ImageNet network as published, less the layers after the average, which are the head's business here
PUBLISHED = {
    "mobilenet_v2": 3_504_872 - (1280 * 1000 + 1000),
    "mobilenet_v4_small": 3_774_024 - (1280 * 1000 + 1000) - (960 * 1280 + 2 * 1280),
    "efficientnet_b0": 5_288_548 - (1280 * 1000 + 1000),
    "efficientnet_lite0": 4_652_008 - (1280 * 1000 + 1000),
    "efficientnet_lite1": 5_416_680 - (1280 * 1000 + 1000),
    "efficientnet_lite2": 6_092_072 - (1280 * 1000 + 1000),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_parameters_are_those_published_for_three_channels(name: str) -> None:
    body = build_backbone(name, channels=3).layers
    assert sum(p.numel() for p in body.parameters()) == PUBLISHED[name]
    size_branch = (3 * 64 + 64) + (64 * 32 + 32)
    first = next(m for m in build_backbone(name).modules() if isinstance(m, ConvNorm)).conv.weight
    assert parameter_count(name) == PUBLISHED[name] - 2 * first.numel() + size_branch


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_embeddings_depend_on_pixels_and_sizes(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name)
    backbone.train(False)
    vignettes = torch.randint(0, 255, (2, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        found = backbone(vignettes, torch.zeros(2, 3))
        sized = backbone(vignettes, torch.ones(2, 3))
    assert found.shape == (2, backbone.dim)
    assert not torch.equal(found[0, :-32], found[1, :-32])
    assert torch.equal(found[:, :-32], sized[:, :-32]) and not torch.equal(found[:, -32:], sized[:, -32:])


@pytest.mark.parametrize("side", [32, 33, 47])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_tensorflows(side: int, stride: int) -> None:
    layer = ConvNorm(1, 1, 3, stride, same=True)
    out = -(-side // stride)
    total = max((out - 1) * stride + 3 - side, 0)
    x = torch.randn(1, 1, side, side)
    padded = torch.nn.functional.pad(x, (total // 2, total - total // 2) * 2)
    expected = torch.nn.functional.conv2d(padded, layer.conv.weight, None, stride)
    assert layer.convolve(x).shape[-1] == out
    torch.testing.assert_close(layer.convolve(x), expected)


def test_context_joins_before_the_head_and_is_required() -> None:
    torch.manual_seed(0)
    model = Classifier(build_backbone("mobilenet_v4_small"), 3, context_inputs=4, context_features=5)
    model.train(False)
    vignettes, sizes = torch.zeros(1, 32, 32, dtype=torch.uint8), torch.zeros(1, 3)
    with torch.no_grad():
        embedding = model.backbone(vignettes, sizes)
        context = torch.tensor([[1.0, -2.0, 1.0, 0.0]])
        branch = torch.relu(context @ model.context.weight.T + model.context.bias)
        expected = torch.cat((embedding, branch), 1) @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(model(vignettes, sizes, context), expected)
        with pytest.raises(ValueError, match="built with context"):
            model(vignettes, sizes)


def _folded_weights(path: Path, convs: list[ConvNorm], skip: int = 0) -> None:
    """Random weights as TensorFlow Lite keeps them, one layer more than the backbone has (ImageNet's classifier)."""
    rng, arrays = np.random.default_rng(0), {}
    for i, module in enumerate(convs[skip:]):
        out, cin, h, w = module.conv.weight.shape
        cin = 3 if i == 0 and not skip else cin
        depthwise = module.conv.groups > 1
        shape = (1, h, w, out) if depthwise else (out, h, w, cin)
        name = f"{i:03d}_{'depthwise' if depthwise else 'conv'}"
        arrays[name + "_w"] = (rng.normal(size=shape) / np.sqrt(h * w * cin)).astype(np.float32)
        arrays[name + "_b"] = rng.normal(size=out).astype(np.float32)
    arrays["999_w"], arrays["999_b"] = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    np.savez(path, **arrays)


def test_folded_weights_get_norms_and_compute_the_same(tmp_path: Path) -> None:
    backbone = build_backbone("mobilenet_v2")
    convs = [m for m in backbone.modules() if isinstance(m, ConvNorm)]
    _folded_weights(tmp_path / "w.npz", convs)
    vignettes = torch.randint(0, 255, (4, 32, 32), dtype=torch.uint8)
    load_folded_imagenet(backbone, tmp_path / "w.npz", vignettes)
    # the folded network by hand: each convolution with its bias, no norm
    with np.load(tmp_path / "w.npz") as arrays:
        names = sorted(k[:-2] for k in arrays.files if k.endswith("_w"))
        bias = {id(m): torch.from_numpy(arrays[n + "_b"]) for n, m in zip(names, convs, strict=False)}
    plain = build_backbone("mobilenet_v2")
    plain.load_state_dict(backbone.state_dict())
    for module, source in zip([m for m in plain.modules() if isinstance(m, ConvNorm)], convs, strict=True):
        module.conv.bias = torch.nn.Parameter(bias[id(source)].clone())
        module.norm = torch.nn.Identity()
    plain.train(False)
    with torch.no_grad():
        expected, found = plain(vignettes, torch.zeros(4, 3)), backbone(vignettes, torch.zeros(4, 3))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert all(not m._forward_hooks for m in convs)


def test_weights_of_another_network_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    backbone = build_backbone("mobilenet_v2")
    convs = [m for m in backbone.modules() if isinstance(m, ConvNorm)]
    vignettes = torch.zeros(2, 32, 32, dtype=torch.uint8)
    _folded_weights(tmp_path / "few.npz", convs, skip=3)
    with pytest.raises(ModelError, match="expected 53 of a MobileNetV2"):
        load_folded_imagenet(backbone, tmp_path / "few.npz", vignettes)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ModelError, match="expected weights as npz"):
        load_folded_imagenet(backbone, tmp_path / "bad.npz", vignettes)
    with pytest.raises(ModelError, match="network 'resnet' is not known"):
        build_backbone("resnet")


def test_the_grey_start_sees_what_three_equal_colours_see(shared_data: Path) -> None:
    npz = shared_data / "weights" / "mobilenet_v2_imagenet" / "mobilenet_v2_1.0_224_quant_f32.npz"
    torch.manual_seed(0)
    grey, colour = build_backbone("mobilenet_v2"), build_backbone("mobilenet_v2", channels=3)
    colour.size.load_state_dict(grey.size.state_dict())
    vignettes = torch.randint(0, 255, (8, 48, 48), dtype=torch.uint8)
    tripled = vignettes[..., None].expand(-1, -1, -1, 3).contiguous()
    load_folded_imagenet(grey, npz, vignettes)
    load_folded_imagenet(colour, npz, tripled)
    with torch.no_grad():
        torch.testing.assert_close(
            grey(vignettes, torch.zeros(8, 3)), colour(tripled, torch.zeros(8, 3)), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v4_small", "efficientnet_b0"])
def test_a_models_network_can_be_trained_on(name: str, tmp_path: Path) -> None:
    """Exported with folded norms, taken up again: the same numbers, with norms that follow the new images."""
    pytest.importorskip("onnx", reason="onnx is not installed (extra 'train')")
    torch.manual_seed(3)
    backbone = build_backbone(name)
    vignettes, sizes = torch.randint(0, 255, (24, 48, 48), dtype=torch.uint8), torch.rand(24, 3)
    backbone.train()
    with torch.no_grad():
        backbone(vignettes, sizes)  # statistics that are not the initial ones
    backbone.train(False)
    with torch.no_grad():
        wanted = backbone(vignettes, sizes)
    export_backbone(backbone, 48, tmp_path / "backbone.onnx")
    again = build_backbone(name)
    load_from_model(again, tmp_path / "backbone.onnx", vignettes)
    with torch.no_grad():
        found = again(vignettes, sizes)
    np.testing.assert_allclose(found, wanted, atol=0.02 * float(wanted.abs().max()))
    norms = [m for m in again.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(m.weight.requires_grad for m in norms)


def test_the_shipped_network_can_be_trained_on() -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra 'train')")
    model = load_model(built_in_models()["flowcam"])
    path = model.folder / "trainable.onnx"
    vignettes, sizes = torch.randint(0, 255, (16, model.input_px, model.input_px), dtype=torch.uint8), torch.rand(16, 3)
    backbone = build_backbone("efficientnet_lite0")
    load_from_model(backbone, path, vignettes)
    with torch.no_grad():
        found = backbone(vignettes, sizes).numpy()
    wanted = OpenVinoBackbone(path, precision="f32", threads=1).embed(vignettes.numpy(), sizes.numpy())
    np.testing.assert_allclose(found, wanted, atol=0.01 * np.abs(wanted).max())


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = built_in_models()["flowcam"] / "trainable.onnx"
    pytest.importorskip("onnx", reason="onnx is not installed (extra 'train')")
    with pytest.raises(ModelError, match="of another network"):
        load_from_model(build_backbone("mobilenet_v4_small"), path, torch.zeros(2, 64, 64, dtype=torch.uint8))
    (tmp_path / "damaged.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError):
        load_from_model(build_backbone("mobilenet_v2"), tmp_path / "damaged.onnx", torch.zeros(2, 64, 64))
