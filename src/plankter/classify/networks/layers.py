"""What the networks share: convolution with norm, and the frame around each of them. Plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plankter._errors import ModelError

SIZE_FEATURES = 32
NORM_MOMENTUM = 0.03
ACTIVATIONS = ("relu6", "relu", "silu", "none")


class _DepthwiseBf16(torch.autograd.Function):
    """A depthwise convolution in bfloat16 whose gradients are computed in float32.

    oneDNN's bfloat16 gradients of depthwise convolutions take up to 8 times as long as the float32 ones, and with 5 x 5
    kernels most of a training step on a processor (``benchmarks/bench_depthwise.py``).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        x = x.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.sides = ((stride, stride), (padding, padding), (1, 1), False, (0, 0), weight.shape[0])
        return torch.ops.aten.convolution(x, weight.bfloat16(), None, *ctx.sides)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(), x.float(), weight.float(), None, *ctx.sides, (True, True, False)
        )
        return of_x.to(x.dtype), of_weight, None, None


class ConvNorm(nn.Module):
    """Convolution, batch norm and activation.

    Args:
        same: TensorFlow's SAME padding, which depends on the side of the map; else half the kernel on every side.
        activation: one of `ACTIVATIONS`.
    """

    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int = 1, *, groups: int = 1, activation: str = "relu6",
        same: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.conv = nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)  # padded by `convolve`
        self.norm: nn.Module = nn.BatchNorm2d(cout, momentum=NORM_MOMENTUM)
        self.kernel, self.stride, self.same, self.activation = kernel, stride, same, activation

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution alone, padded."""
        padding = self.kernel // 2
        if self.same and self.kernel > 1:
            side = int(x.shape[-1])
            total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
            padding = total // 2  # an even one the convolution does by itself, without a copy of the map
            if total % 2:
                x, padding = F.pad(x, (padding, total - padding, padding, total - padding)), 0
        weight, groups = self.conv.weight, self.conv.groups
        if groups > 1 and self.training and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return _DepthwiseBf16.apply(x, weight, self.stride, padding)
        return F.conv2d(x, weight, self.conv.bias, self.stride, padding, 1, groups)

    def activate(self, x: Tensor) -> Tensor:
        """The activation alone, of any shape."""
        if self.activation == "relu6":
            return F.relu6(x)
        if self.activation == "relu":
            return F.relu(x)
        return F.silu(x) if self.activation == "silu" else x

    def forward(self, x: Tensor) -> Tensor:
        """(n, cin, h, w) -> (n, cout, h', w'), smaller by the stride."""
        return self.activate(self.norm(self.convolve(x)))


class Backbone(nn.Module):
    """A network as a backbone: uint8 (n, s, s) vignettes and float (n, 3) sizes -> float (n, dim) embeddings.

    The embedding is the network's last map averaged, then `SIZE_FEATURES` numbers made of the size inputs
    (`plankter.vignettes.letterbox.size_inputs`; three zeros where the size is not known).

    Args:
        layers: (n, channels, s, s) of -1..1 -> (n, features, h, w).
        features: channels of the last map.
        channels: 1 for grey; 3 takes uint8 (n, s, s, 3) and is for comparisons only, no model is exported of it.
    """

    def __init__(self, layers: nn.Sequential, features: int, channels: int = 1) -> None:
        super().__init__()
        self.layers = layers
        self.size = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, SIZE_FEATURES), nn.ReLU())
        self.channels = channels
        self.dim = features + SIZE_FEATURES

    def forward(self, vignettes: Tensor, sizes: Tensor) -> Tensor:
        """uint8 (n, s, s) vignettes and float (n, 3) sizes -> float (n, `dim`) embeddings."""
        x = vignettes.to(sizes.dtype) / 127.5 - 1.0
        x = x.unsqueeze(1) if self.channels == 1 else x.permute(0, 3, 1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        pooled = self.layers(x).mean((2, 3))
        return torch.cat((pooled, self.size(sizes)), 1)


class Classifier(nn.Module):
    """A backbone, dropout and a linear head; with context, its features join before the head.

    The context branch is relu(x @ weight + bias) over the 2c numbers that `ContextEncoder` makes of c columns
    (standardised values, then flags "known"), so that it can be saved as the arrays of a `ContextEncoder`.

    Args:
        context_inputs: 2c, 0 for none.
        context_features: k, the width of the branch.
    """

    def __init__(
        self, backbone: Backbone, classes: int, *, dropout: float = 0.2, context_inputs: int = 0,
        context_features: int = 16,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.context = nn.Linear(context_inputs, context_features) if context_inputs else None
        self.head = nn.Linear(backbone.dim + (context_features if context_inputs else 0), classes)

    def forward(self, vignettes: Tensor, sizes: Tensor, context: Tensor | None = None) -> Tensor:
        """As `Backbone`, and float (n, 2c) context for a network with it -> float (n, classes) logits.

        Raises:
            ValueError: a network with context that was given none.
        """
        embedding = self.backbone(vignettes, sizes)
        if self.context is not None:
            if context is None:
                raise ValueError("this network was built with context, got none; give zeros where it is not known")
            embedding = torch.cat((embedding, F.relu(self.context(context))), 1)
        return self.head(self.dropout(embedding))


def read_tensors(path: Path, expected: str) -> Any:
    """What torch saved in a file: tensors and plain values only, nothing in it is run.

    Args:
        path: of the file.
        expected: what it should be, for the error.

    Raises:
        ModelError: missing, damaged, or holding more than plain values.
    """
    refused = torch.serialization.pickle.UnpicklingError  # what torch raises where a file holds more than plain values
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, refused) as error:
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise ModelError(f"expected {expected}: {first}", path=path) from error
