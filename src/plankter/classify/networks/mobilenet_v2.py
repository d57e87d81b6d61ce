"""MobileNetV2 1.0 (Sandler et al. 2018, CVPR) in plain torch, and its start from ImageNet weights."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plankter._errors import ModelError
from plankter.classify.networks.folded import restore_norms
from plankter.classify.networks.layers import Backbone, ConvNorm

# expansion, output channels, blocks, stride of the first block
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FEATURES = 1280
MAX_WEIGHTS_BYTES = 200_000_000


class Bottleneck(nn.Module):
    """Inverted residual: widen by 1 x 1, one 3 x 3 a channel, narrow by 1 x 1 without activation."""

    def __init__(self, cin: int, cout: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = cin * expansion
        layers = [] if expansion == 1 else [ConvNorm(cin, wide, 1, same=True)]
        layers.append(ConvNorm(wide, wide, 3, stride, groups=wide, same=True))
        layers.append(ConvNorm(wide, cout, 1, activation="none", same=True))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(n, cin, h, w) -> (n, cout, h', w'), smaller by the stride."""
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2(channels: int = 1) -> Backbone:
    """The backbone of ``flowcam``: 1,280 image features, relu6, TensorFlow's SAME padding."""
    layers: list[nn.Module] = [ConvNorm(channels, 32, 3, 2, same=True)]
    cin = 32
    for expansion, cout, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(Bottleneck(cin, cout, stride if block == 0 else 1, expansion))
            cin = cout
    layers.append(ConvNorm(cin, FEATURES, 1, same=True))
    return Backbone(nn.Sequential(*layers), FEATURES, channels)


def load_folded_imagenet(backbone: Backbone, npz: Path, vignettes: Tensor) -> None:
    """Starts a MobileNetV2 from ImageNet weights whose batch norms were folded into biases.

    The norms come back by `restore_norms`. For grey the first convolution's three colour inputs are summed: a grey image repeated three times gives the same.

    Args:
        backbone: as `mobilenet_v2` builds it, changed in place.
        npz: TensorFlow Lite's order: ``<layer>_w`` (out, h, w, in), depthwise (1, h, w, channels), and ``<layer>_b``.
        vignettes: uint8 (n, s, s) or (n, s, s, 3), some hundred of the training images.

    Raises:
        ModelError: missing, damaged, or weights of another network.
    """
    convs = [m for m in backbone.modules() if isinstance(m, ConvNorm)]
    arrays = _read(npz)
    names = sorted(k[:-2] for k in arrays if k.endswith("_w"))
    if len(names) - 1 != len(convs):  # the last one is ImageNet's own classifier
        raise ModelError(f"{len(names)} layers with weights, expected {len(convs) + 1} of a MobileNetV2", path=npz)
    biases = {}
    for name, module in zip(names, convs, strict=False):
        weight = torch.from_numpy(arrays[name + "_w"])
        weight = weight.permute(3, 0, 1, 2) if "depthwise" in name else weight.permute(0, 3, 1, 2)
        if module is convs[0]:  # ImageNet's order is red, green, blue; OpenCV's is blue, green, red
            weight = weight.sum(1, keepdim=True) if backbone.channels == 1 else weight.flip(1)
        if weight.shape != module.conv.weight.shape or name + "_b" not in arrays:
            raise ModelError(
                f"{name}: expected weights of shape {tuple(module.conv.weight.shape)} and a bias, got "
                f"{tuple(weight.shape)}", path=npz,
            )  # fmt: skip
        module.conv.weight.data.copy_(weight)
        biases[module] = torch.from_numpy(arrays[name + "_b"])
    restore_norms(backbone, biases, vignettes)


def _read(npz: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(npz) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_WEIGHTS_BYTES:
            raise ModelError(f"{unpacked:,} bytes unpacked are over the limit of {MAX_WEIGHTS_BYTES:,}", path=npz)
        with np.load(npz, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected weights as npz: {error}", path=npz) from error
