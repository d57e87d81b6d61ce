"""Networks that turn letterboxed vignettes into embeddings, run by OpenVINO on the CPU."""

from __future__ import annotations

import os
import queue
import sys
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.features.onnx_check import check_network_file

BATCH = 32  # a fixed batch lets OpenVINO plan once; larger ones are not faster for small networks
PRECISIONS = ("auto", "f32", "bf16")
TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """OpenVINO without its telemetry.

    ``import openvino`` reports every import to its maker over the network and writes an identity into the home folder.
    With the telemetry package hidden during the import it falls back to its own stub, which does neither.
    """
    hide = "openvino" not in sys.modules and TELEMETRY not in sys.modules
    if hide:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        import openvino
    finally:
        if hide:
            del sys.modules[TELEMETRY]
    return openvino


def _cpu_flags() -> set[str] | None:
    """What the processor can do, None where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return None


def native_bf16(flags: set[str] | None, capabilities: list[str]) -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated it would be slower than float32.

    Args:
        flags: of the processor, None where unknown.
        capabilities: what OpenVINO says it can do here.
    """
    return "BF16" in capabilities and (flags is None or bool(flags & {"avx512_bf16", "amx_bf16"}))


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


class OpenVinoBackbone:
    """An ONNX network with inputs ``vignettes`` uint8 (n, s, s), ``sizes`` float32 (n, 3) and one output (n, dim).

    ``embed`` may be called from several threads at once: each call takes a free inference request, and each request
    runs on one core. The same pixels at the same place of a batch give the same numbers.

    Args:
        onnx_path: the network; one whose tensors lie in other files is refused.
        precision: "f32", "bf16", or "auto": bf16 where the processor computes in it.
        threads: cores to use; None takes all that this process may use.
        batch: vignettes that are computed at once, fewer cost as much. Half of `BATCH` is as fast on small networks and gives
            the same numbers, a quarter does not.

    Raises:
        ModelError: not a network of this kind, or an unknown precision.
    """

    thread_safe = True

    def __init__(
        self, onnx_path: Path, *, precision: str = "auto", threads: int | None = None, batch: int = BATCH
    ) -> None:  # fmt: skip
        if precision not in PRECISIONS:
            raise ModelError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.batch = batch
        openvino = import_openvino()
        core = openvino.Core()
        if precision == "auto":
            capabilities = list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
            precision = "bf16" if native_bf16(_cpu_flags(), capabilities) else "f32"
        self.precision = precision
        self.threads = max(1, threads or available_cores())
        if not onnx_path.is_file():
            raise ModelError("the network is missing", path=onnx_path, hint="copy the model's folder again")
        if onnx_path.suffix != ".xml":  # OpenVINO's own format, for those who use this class alone
            check_network_file(onnx_path)
        try:
            compiled = self._compile(core, onnx_path)
            requests = [compiled.create_infer_request() for _ in range(self.threads)]
            # the binding fills a table at the first look at a tensor's data; two threads doing so at once wait for each
            # other for ever: one for the interpreter, which the other holds, the other for the table
            _ = requests[0].get_tensor("vignettes").data
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            first = (str(error).strip().splitlines() or ["unknown reason"])[-1]
            raise ModelError(f"OpenVINO cannot load the network: {first}", path=onnx_path) from error
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in requests:
            self._free.put(request)

    def _compile(self, core: Any, onnx_path: Path) -> Any:
        model = core.read_model(str(onnx_path))
        names = {name for port in model.inputs for name in port.get_names()}
        if not {"vignettes", "sizes"} <= names or len(model.inputs) != 2 or len(model.outputs) != 1:
            raise ValueError(f"expected inputs 'vignettes' and 'sizes' and one output, got {sorted(names)}")
        side = model.input("vignettes").partial_shape[1].get_length()
        model.reshape({"vignettes": [self.batch, side, side], "sizes": [self.batch, 3]})
        self.input_px, self.dim = int(side), int(model.outputs[0].shape[1])
        return core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": self.precision,
                "INFERENCE_NUM_THREADS": self.threads,
                "NUM_STREAMS": self.threads,
                "ENABLE_CPU_PINNING": False,  # a shared machine: the system knows better which core is free
            },
        )

    def embed(self, vignettes: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """uint8 (n, s, s) letterboxed vignettes and float32 (n, 3) sizes -> float32 (n, dim) embeddings.

        Raises:
            ValueError: another shape or type than the network takes.
        """
        n, side = len(vignettes), self.input_px
        if vignettes.shape != (n, side, side) or vignettes.dtype != np.uint8 or sizes.shape != (n, 3):
            raise ValueError(
                f"expected uint8 (n, {side}, {side}) and (n, 3), got {vignettes.dtype} {vignettes.shape}, {sizes.shape}"
            )
        out = np.empty((n, self.dim), np.float32)
        running: deque[tuple[Any, int]] = deque()
        try:
            for start in range(0, n, self.batch):
                request = self._take(running, out)
                self._fill(request, vignettes[start : start + self.batch], sizes[start : start + self.batch])
                request.start_async()
                running.append((request, start))
        finally:
            while running:
                self._free.put(self._finish(*running.popleft(), out))
        return out

    def _take(self, running: deque[tuple[Any, int]], out: npt.NDArray[np.float32]) -> Any:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return self._finish(*running.popleft(), out) if running else self._free.get()

    @staticmethod
    def _fill(request: Any, vignettes: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> None:
        n = len(vignettes)
        pixels, numbers = request.get_tensor("vignettes").data, request.get_tensor("sizes").data
        pixels[:n], numbers[:n] = vignettes, sizes
        pixels[n:], numbers[n:] = 0, 0

    def _finish(self, request: Any, start: int, out: npt.NDArray[np.float32]) -> Any:
        request.wait()
        out[start : start + self.batch] = request.get_output_tensor(0).data[: len(out) - start]
        return request
