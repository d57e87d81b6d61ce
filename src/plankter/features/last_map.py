"""A network's last map, before it is averaged into the embedding: what a class activation map is read from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.features.backbones import import_openvino
from plankter.features.onnx_check import check_network_file

HINT = "use the method occlusion or rise, which need nothing of the network but its scores"


class LastMap:
    """The last map of an ONNX network as `OpenVinoBackbone` takes them, whose embedding holds its mean over all places.

    It computes in float32. Columns ``first`` to ``first + features`` of the embedding are the means of the map.

    Args:
        onnx_path: the network.

    Raises:
        ModelError: not a network of this kind, or one that does not average a map at its end.
    """

    def __init__(self, onnx_path: Path) -> None:
        check_network_file(onnx_path)
        openvino = import_openvino()
        core = openvino.Core()
        try:
            model = core.read_model(str(onnx_path))
            side = int(model.input("vignettes").partial_shape[1].get_length())
            model.reshape({"vignettes": [1, side, side], "sizes": [1, 3]})
            found = _averaged(model.outputs[0].get_node().input_value(0), 0)
            if found is None:
                raise ModelError("the network does not average a last map", path=onnx_path, hint=HINT)
            source, self.first = found
            model.add_outputs([source])
            self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            first = (str(error).strip().splitlines() or ["unknown reason"])[-1]
            raise ModelError(f"OpenVINO cannot load the network: {first}", path=onnx_path) from error
        self.input_px = side
        self.features = int(source.get_shape()[1])

    def read(self, vignette: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """uint8 (s, s) letterboxed vignette and float32 (1, 3) sizes -> float32 (features, h, w)."""
        found = self._compiled({"vignettes": vignette[None], "sizes": sizes})
        return np.array(found[self._compiled.outputs[1]][0], np.float32)


def _averaged(value: Any, first: int) -> tuple[Any, int] | None:
    """The map that is averaged over its places, and the column where its means begin, seen from the embedding; None where
    there is none, or where more of the embedding comes from the image than its mean."""
    node = value.get_node()
    kind = node.get_type_name()
    if kind == "ReduceMean":
        source = node.input_value(0)
        shape, means = list(source.get_shape()), int(np.prod(value.get_shape()))
        return (source, first) if len(shape) == 4 and means == shape[1] else None
    if kind == "Concat":
        parts = [node.input_value(number) for number in range(node.get_input_size())]
        seeing = [number for number, part in enumerate(parts) if _sees(part)]
        if len(seeing) != 1:
            return None
        first += sum(int(np.prod(part.get_shape()[1:])) for part in parts[: seeing[0]])
        return _averaged(parts[seeing[0]], first)
    if kind in ("Convert", "Reshape", "Squeeze"):  # the same numbers in another form
        return _averaged(node.input_value(0), first)
    return None


def _sees(value: Any) -> bool:
    """Whether the vignette is among what a value is computed from."""
    waiting, seen = [value.get_node()], set[str]()
    while waiting:
        node = waiting.pop()
        name = node.get_name()
        if name in seen:
            continue
        seen.add(name)
        if node.get_type_name() == "Parameter" and "vignettes" in node.output(0).get_names():
            return True
        waiting += [node.input_value(number).get_node() for number in range(node.get_input_size())]
    return False
