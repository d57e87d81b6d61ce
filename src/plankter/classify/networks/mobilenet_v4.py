"""MobileNetV4-Conv-Small (Qin et al. 2024, ECCV) in plain torch; trained from scratch."""

from __future__ import annotations

from torch import Tensor, nn

from plankter.classify.networks.layers import Backbone, ConvNorm

FEATURES = 960
# of each universal inverted bottleneck: first depthwise kernel (0 none), middle depthwise kernel (0 none), stride,
# expansion, output channels; table 9 of the paper
BLOCKS = (
    (5, 5, 2, 3, 96), (0, 3, 1, 2, 96), (0, 3, 1, 2, 96), (0, 3, 1, 2, 96), (0, 3, 1, 2, 96), (3, 0, 1, 4, 96),
    (3, 3, 2, 6, 128), (5, 5, 1, 4, 128), (0, 5, 1, 4, 128), (0, 5, 1, 3, 128), (0, 3, 1, 4, 128), (0, 3, 1, 4, 128),
)  # fmt: skip


class UniversalBottleneck(nn.Module):
    """Inverted bottleneck with optional depthwise convolutions before and after it widens."""

    def __init__(self, cin: int, cout: int, first: int, middle: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = cin * expansion
        layers: list[nn.Module] = []
        if first:
            layers.append(ConvNorm(cin, cin, first, 1 if middle else stride, groups=cin, activation="none"))
        layers.append(ConvNorm(cin, wide, 1, activation="relu"))
        if middle:
            layers.append(ConvNorm(wide, wide, middle, stride, groups=wide, activation="relu"))
        layers.append(ConvNorm(wide, cout, 1, activation="none"))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(n, cin, h, w) -> (n, cout, h', w'), smaller by the stride."""
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v4_small(channels: int = 1) -> Backbone:
    """960 image features; the paper's further layer of 1,280 after the average is left to the head."""
    layers: list[nn.Module] = [
        ConvNorm(channels, 32, 3, 2, activation="relu"),
        ConvNorm(32, 32, 3, 2, activation="relu"), ConvNorm(32, 32, 1, activation="relu"),
        ConvNorm(32, 96, 3, 2, activation="relu"), ConvNorm(96, 64, 1, activation="relu"),
    ]  # fmt: skip
    cin = 64
    for first, middle, stride, expansion, cout in BLOCKS:
        layers.append(UniversalBottleneck(cin, cout, first, middle, stride, expansion))
        cin = cout
    layers.append(ConvNorm(cin, FEATURES, 1, activation="relu"))
    return Backbone(nn.Sequential(*layers), FEATURES, channels)
