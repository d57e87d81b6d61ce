"""Networks whose batch norms were folded into their convolutions, made trainable again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from plankter._errors import ModelError
from plankter.classify.networks import NEEDS_TORCH
from plankter.classify.networks.layers import Backbone, ConvNorm


def restore_norms(backbone: Backbone, biases: Mapping[ConvNorm, Tensor], vignettes: Tensor) -> None:
    """Gives convolutions that already hold the folded weights their norms back; the network computes the same.

    Mean and variance of each convolution's output over ``vignettes`` become the running statistics, and weight and bias
    of the norm undo them.

    Args:
        backbone: changed in place.
        biases: the folded bias of every `ConvNorm`.
        vignettes: uint8 (n, s, s) or (n, s, s, 3), some hundred of the training images.
    """
    for module, bias in biases.items():
        module.register_forward_hook(_restore_norm(bias))
    backbone.train(False)
    with torch.no_grad():
        backbone(vignettes, torch.zeros(len(vignettes), 3))
    for module in biases:
        module._forward_hooks.clear()


def _restore_norm(folded_bias: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d)
        raw = module.convolve(inputs[0])
        mean, var = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
        norm = module.norm
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.data.copy_((var + norm.eps).sqrt())
        norm.bias.data.copy_(mean + folded_bias)
        return module.activate(norm(raw))

    return hook


def load_from_model(backbone: Backbone, onnx_path: Path, vignettes: Tensor) -> None:
    """Starts a network from the ``backbone.onnx`` of a model that `export_backbone` wrote.

    Args:
        backbone: of the same network, changed in place.
        onnx_path: weights by the names they have here.
        vignettes: as for `restore_norms`.

    Raises:
        ModelError: onnx is not installed, the file is unreadable, or of another network.
    """
    weights = _weights(onnx_path)
    biases: dict[ConvNorm, Tensor] = {}
    own = dict(backbone.named_parameters())
    folded = {name for name, module in backbone.named_modules() if isinstance(module, ConvNorm)}
    for name, module in backbone.named_modules():
        if isinstance(module, ConvNorm):
            own[f"{name}.conv.weight"] = module.conv.weight
            biases[module] = _taken(weights, f"{name}.conv.bias", (module.conv.out_channels,), onnx_path)
    for name, parameter in own.items():
        if any(name.startswith(f"{module}.norm.") for module in folded):
            continue
        parameter.data.copy_(_taken(weights, name, tuple(parameter.shape), onnx_path))
    restore_norms(backbone, biases, vignettes)


def _taken(weights: Mapping[str, Tensor], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    found = weights.get(name)
    if found is None or tuple(found.shape) != shape:
        what = "is missing" if found is None else f"has the shape {tuple(found.shape)}, expected {shape}"
        raise ModelError(f"is of another network: {name} {what}", path=path)
    return found


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper
    except ImportError as error:
        raise ModelError(f"reading a network's weights needs onnx: {error}", hint=NEEDS_TORCH) from error
    try:
        proto = onnx.load(str(path), load_external_data=False)
        arrays = {t.name.removesuffix("_float16"): numpy_helper.to_array(t) for t in proto.graph.initializer}
    except (OSError, ValueError, TypeError, RuntimeError, DecodeError) as error:
        raise ModelError(f"its weights cannot be read: {error}", path=path) from error
    return {name: torch.from_numpy(values.astype("float32")) for name, values in arrays.items()}
