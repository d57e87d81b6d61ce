"""A trained network as the files of a model: ONNX with float16 weights, batch norms folded into convolutions."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from plankter._errors import ModelError
from plankter.classify.networks import NEEDS_TORCH
from plankter.classify.networks.layers import Backbone, ConvNorm

FLOAT16_FROM_VALUES = 16  # smaller constants stay float32: they cost nothing
OPSET = 17


def fold_norms(model: nn.Module) -> None:
    """Every batch norm becomes weight and bias of its convolution; the network computes the same."""
    for module in model.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()


def float16_weights(graph: Any) -> None:
    """Initialisers stored as float16 and cast to float32 where they are used: half the size, the same arithmetic.

    Raises:
        ModelError: a weight too large for float16.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < FLOAT16_FROM_VALUES:
            continue
        if not np.abs(values).max() <= np.finfo(np.float16).max:
            raise ModelError(f"{name}: a weight of {np.abs(values).max()} does not fit float16")
        stored = name + "_float16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=stored + "_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def export_backbone(backbone: Backbone, px: int, to: Path) -> None:
    """Writes inputs ``vignettes`` uint8 (n, px, px), ``sizes`` float32 (n, 3) -> ``embedding`` float32 (n, dim).

    The backbone's norms are folded in place, so that it cannot be trained on.

    Raises:
        ModelError: a colour network, onnx is not installed, or a weight too large for float16.
    """
    if backbone.channels != 1:
        raise ModelError("models see grey vignettes; a network trained in colour is for comparisons only")
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"writing a network needs onnx: {error}", hint=NEEDS_TORCH) from error
    backbone.train(False)
    fold_norms(backbone)
    example = (torch.zeros(2, px, px, dtype=torch.uint8), torch.zeros(2, 3))
    buffer = io.BytesIO()
    axes = {name: {0: "n"} for name in ("vignettes", "sizes", "embedding")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the side of a feature map is fixed on purpose
        torch.onnx.export(
            backbone, example, buffer, input_names=["vignettes", "sizes"], output_names=["embedding"],
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    proto = onnx.load_from_string(buffer.getvalue())
    float16_weights(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    partial = to.with_suffix(".partial")
    partial.write_bytes(proto.SerializeToString())
    partial.replace(to)
