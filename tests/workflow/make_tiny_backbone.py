"""Writes tiny_backbone.onnx beside it: two layers of random filters, 32 px, 35 numbers. Needs onnx, which tests do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
constants = {
    "scale": np.array(1 / 128, np.float32),
    "axis": np.array([1], np.int64),
    "w1": (rng.normal(size=(12, 1, 5, 5)) / 5).astype(np.float32),
    "w2": (rng.normal(size=(16, 12, 3, 3)) / 10).astype(np.float32),
}
nodes = [
    helper.make_node("Cast", ["vignettes"], ["f"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["f", "scale"], ["g"]),
    helper.make_node("Unsqueeze", ["g", "axis"], ["x"]),
    helper.make_node("Conv", ["x", "w1"], ["c1"], strides=[2, 2]),
    helper.make_node("Relu", ["c1"], ["r1"]),
    helper.make_node("Conv", ["r1", "w2"], ["c2"], strides=[2, 2]),
    helper.make_node("Relu", ["c2"], ["r2"]),
    helper.make_node("GlobalAveragePool", ["r2"], ["mean"]),
    helper.make_node("GlobalMaxPool", ["r2"], ["max"]),
    helper.make_node("Concat", ["mean", "max"], ["both"], axis=1),
    helper.make_node("Flatten", ["both"], ["flat"]),
    helper.make_node("Concat", ["flat", "sizes"], ["embedding"], axis=1),
]
graph = helper.make_graph(
    nodes,
    "tiny",
    [
        helper.make_tensor_value_info("vignettes", TensorProto.UINT8, ["n", 32, 32]),
        helper.make_tensor_value_info("sizes", TensorProto.FLOAT, ["n", 3]),
    ],
    [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 35])],
    [numpy_helper.from_array(value, name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, Path(__file__).with_name("tiny_backbone.onnx"))
