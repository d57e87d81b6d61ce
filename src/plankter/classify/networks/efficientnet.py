"""EfficientNet-B0 (Tan & Le 2019, ICML) in plain torch; trained from scratch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plankter.classify.networks.layers import Backbone, ConvNorm

FEATURES = 1280
# expansion, kernel, stride of the first block, output channels, blocks
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip


class SqueezeExcite(nn.Module):
    """Every channel scaled by a gate made of the average of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same shape, each channel times its gate of 0..1."""
        gate = self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class MbConv(nn.Module):
    """Inverted residual with squeeze and excitation; the squeezed width is a quarter of the block's input."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = cin * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [ConvNorm(cin, wide, 1, activation="silu")]
        layers.append(ConvNorm(wide, wide, kernel, stride, groups=wide, activation="silu"))
        layers.append(SqueezeExcite(wide, max(1, cin // 4)))
        layers.append(ConvNorm(wide, cout, 1, activation="none"))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(n, cin, h, w) -> (n, cout, h', w'), smaller by the stride."""
        return x + self.body(x) if self.residual else self.body(x)


def efficientnet_b0(channels: int = 1) -> Backbone:
    """1,280 image features, silu; without the paper's stochastic depth."""
    layers: list[nn.Module] = [ConvNorm(channels, 32, 3, 2, activation="silu")]
    cin = 32
    for expansion, kernel, stride, cout, blocks in STAGES:
        for block in range(blocks):
            layers.append(MbConv(cin, cout, kernel, stride if block == 0 else 1, expansion))
            cin = cout
    layers.append(ConvNorm(cin, FEATURES, 1, activation="silu"))
    return Backbone(nn.Sequential(*layers), FEATURES, channels)
