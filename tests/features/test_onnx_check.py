"""A network's file must stand alone, however its bytes are arranged."""

from __future__ import annotations

from pathlib import Path

import pytest

from plankter._errors import ModelError
from plankter.classify.models import built_in_models
from plankter.features.onnx_check import check_network_file


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protocol buffer, as the specification of the encoding says."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


WHOLE = field(8, b"weight") + field(2, 1) + field(1, 4) + field(9, b"\x00" * 16)
ELSEWHERE = field(8, b"weight") + field(14, 1) + field(13, field(1, b"location") + field(2, b"../../etc/passwd"))
PATH_ONLY = field(13, field(1, b"location") + field(2, b"weights.bin"))
PLACE_ONLY = field(14, 1)


def graph_of(tensor: bytes) -> bytes:
    return field(2, b"main") + field(5, tensor)


def model_of(graph: bytes) -> bytes:
    return field(1, 8) + field(2, b"made here") + field(7, graph)


def in_attribute(content: bytes) -> bytes:
    return model_of(field(1, field(4, b"Constant") + field(5, field(1, b"value") + content)))


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "backbone.onnx"
    path.write_bytes(data)
    return path


def test_networks_that_hold_their_tensors_pass(tmp_path: Path) -> None:
    check_network_file(write(tmp_path, model_of(graph_of(WHOLE))))
    check_network_file(write(tmp_path, model_of(graph_of(WHOLE + field(14, 0)))))
    check_network_file(write(tmp_path, in_attribute(field(5, WHOLE))))
    for folder in built_in_models().values():
        check_network_file(folder / "backbone.onnx")


@pytest.mark.parametrize("tensor", [ELSEWHERE, PATH_ONLY, PLACE_ONLY], ids=["both", "path", "place"])
@pytest.mark.parametrize(
    "holder",
    [
        lambda tensor: model_of(graph_of(tensor)),
        lambda tensor: model_of(graph_of(WHOLE)) + field(7, graph_of(tensor)),
        lambda tensor: model_of(field(15, field(1, tensor))),
        lambda tensor: model_of(field(15, field(2, tensor))),
        lambda tensor: in_attribute(field(5, tensor)),
        lambda tensor: in_attribute(field(10, WHOLE) + field(10, tensor)),
        lambda tensor: in_attribute(field(6, graph_of(tensor))),
        lambda tensor: in_attribute(field(11, graph_of(tensor))),
        lambda tensor: in_attribute(field(22, field(1, tensor))),
        lambda tensor: model_of(graph_of(WHOLE)) + field(25, field(7, field(5, field(5, tensor)))),
        lambda tensor: model_of(graph_of(WHOLE)) + field(20, field(1, graph_of(tensor))),
    ],
    ids=["graph", "second graph", "sparse", "sparse indices", "constant", "tensors", "branch", "branches",
         "sparse constant", "function", "training"],
)  # fmt: skip
def test_tensors_in_other_files_are_refused_wherever_they_stand(tmp_path: Path, tensor: bytes, holder) -> None:
    with pytest.raises(ModelError, match="lies in another file"):
        check_network_file(write(tmp_path, holder(tensor)))


def test_a_length_written_longer_than_needed_hides_nothing(tmp_path: Path) -> None:
    inner = ELSEWHERE
    padded = varint(5 << 3 | 2) + bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7 | 0x80, 0]) + inner
    with pytest.raises(ModelError, match="lies in another file"):
        check_network_file(write(tmp_path, model_of(padded)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"\x00", "expected an ONNX network"),
        (b"PK\x03\x04 a zip", "expected an ONNX network"),
        (b"\x80\x04\x95 a pickle", "expected an ONNX network"),
        (field(1, 8), "no graph"),
        (model_of(graph_of(WHOLE))[:-1], "longer than its message"),
        (field(7, 3), "of another kind"),
        (b"\xff" * 12, "no number"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_network_file(write(tmp_path, data))
    with pytest.raises(ModelError, match="cannot be read"):
        check_network_file(tmp_path / "missing.onnx")


def test_graphs_within_graphs_end_somewhere(tmp_path: Path) -> None:
    graph = graph_of(WHOLE)
    for _ in range(40):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ModelError, match="levels"):
        check_network_file(write(tmp_path, model_of(graph)))


def test_the_official_library_writes_what_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'plankter[train]'")
    helper = onnx.helper
    values = onnx.numpy_helper.from_array(__import__("numpy").ones((64, 64), "float32"), "w")
    wanted = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 64])
    given = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [wanted], [given], [values])
    onnx.save(helper.make_model(graph), tmp_path / "whole.onnx")
    check_network_file(tmp_path / "whole.onnx")
    outside = tmp_path / "outside.onnx"
    onnx.save(helper.make_model(graph), outside, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelError, match="lies in another file"):
        check_network_file(outside)
