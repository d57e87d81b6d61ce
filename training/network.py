"""MobileNetV2 1.0 (Sandler et al. 2018) for grey vignettes with an optional size input, in plain torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# expansion, output channels, blocks, stride of the first block
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
SIZE_FEATURES = 32


class ConvNorm(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm and, unless linear, relu6."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, groups: int = 1, linear: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, momentum=0.03)
        self.kernel, self.stride, self.linear = kernel, stride, linear

    def pad(self, x: Tensor) -> Tensor:
        if self.kernel == 1:
            return x
        side = int(x.shape[-1])
        total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
        return F.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(self.pad(x)))
        return y if self.linear else F.relu6(y)


class Bottleneck(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = cin * expansion
        layers = [] if expansion == 1 else [ConvNorm(cin, wide, 1, 1)]
        layers += [ConvNorm(wide, wide, 3, stride, groups=wide), ConvNorm(wide, cout, 1, 1, linear=True)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class Backbone(nn.Module):
    """uint8 (n, s, s) vignettes and float (n, 3) sizes -> float (n, 1312) embeddings."""

    dim = 1280 + SIZE_FEATURES

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNorm(1, 32, 3, 2)]
        channels = 32
        for expansion, cout, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(Bottleneck(channels, cout, stride if block == 0 else 1, expansion))
                channels = cout
        layers.append(ConvNorm(channels, 1280, 1, 1))
        self.layers = nn.Sequential(*layers)
        self.size = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, SIZE_FEATURES), nn.ReLU())

    def forward(self, vignettes: Tensor, sizes: Tensor) -> Tensor:
        x = (vignettes.to(self.size[0].weight.dtype) / 127.5 - 1.0).unsqueeze(1)
        x = x.contiguous(memory_format=torch.channels_last)
        pooled = self.layers(x).mean((2, 3))
        return torch.cat((pooled, self.size(sizes)), 1)


class Classifier(nn.Module):
    def __init__(self, classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(Backbone.dim, classes)

    def forward(self, vignettes: Tensor, sizes: Tensor) -> Tensor:
        return self.head(self.dropout(self.backbone(vignettes, sizes)))


def load_folded_imagenet(backbone: Backbone, npz: Path, vignettes: Tensor) -> None:
    """Start from ImageNet weights whose batch norms were folded into biases.

    Each convolution gets its norm back: mean and variance of its output over ``vignettes`` become the running
    statistics, and weight and bias of the norm are set so that the network computes what it computed before.
    The first convolution's three colour inputs are summed: a grey image repeated three times gives the same output.
    """
    arrays = np.load(npz)
    names = sorted(k[:-2] for k in arrays.files if k.endswith("_w"))
    convs = [m for m in backbone.modules() if isinstance(m, ConvNorm)]
    if len(names) - 1 != len(convs):
        raise ValueError(f"{npz}: {len(names) - 1} convolutions, expected {len(convs)}")
    for name, module in zip(names, convs, strict=False):
        w = torch.from_numpy(arrays[name + "_w"])
        w = w.permute(3, 0, 1, 2) if "depthwise" in name else w.permute(0, 3, 1, 2)
        if module is convs[0]:
            w = w.sum(1, keepdim=True)
        module.conv.weight.data.copy_(w)
        folded_bias = torch.from_numpy(arrays[name + "_b"])
        module.register_forward_hook(_restore_norm(folded_bias))
    backbone.train(False)
    with torch.no_grad():
        backbone(vignettes, torch.zeros(len(vignettes), 3))
    for module in convs:
        module._forward_hooks.clear()


def _restore_norm(folded_bias: Tensor):
    def hook(module: ConvNorm, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        raw = module.conv(module.pad(inputs[0]))
        mean, var = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
        norm = module.norm
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.data.copy_((var + norm.eps).sqrt())
        norm.bias.data.copy_(mean + folded_bias)
        out = norm(raw)
        return out if module.linear else F.relu6(out)

    return hook
