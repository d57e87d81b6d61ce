"""What a model costs: parameters, megabytes, images a second, memory."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from plankter.classify.models import BACKBONE_FILE, HEAD_FILE, load_model
from plankter.features.backbones import import_openvino
from plankter.vignettes.codec import encode_vignette
from plankter.workflow.engine import Engine, load_engine

REPEATS = 3
MADE_UP = 64


def parameters_of(folder: Path) -> int:
    """Numbers that were learnt: those of the network and those of the head."""
    network = import_openvino().Core().read_model(str(folder / BACKBONE_FILE))
    count = 0
    for node in network.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().is_real():
            count += math.prod(node.output(0).get_shape())
    with np.load(folder / HEAD_FILE, allow_pickle=False) as arrays:
        return count + sum(int(arrays[name].size) for name in arrays.files)


def images_per_second(engine: Engine, encoded: Sequence[bytes]) -> float:
    """Encoded images to predictions, the best of some repeats: another process's work only slows it down."""
    best = 0.0
    for _ in range(REPEATS):
        started = time.perf_counter()
        engine.run(enumerate(encoded), len(encoded), keep_embeddings=False)
        best = max(best, len(encoded) / (time.perf_counter() - started))
    return best


def memory_mb(folder: Path) -> float | None:
    """Largest memory of a process of its own that loads the model and predicts, MB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_mb, str(folder)).result()


def _peak_mb(folder: str) -> float:
    import resource

    engine = load_engine(load_model(Path(folder)))
    rng = np.random.default_rng(0)
    encoded = [encode_vignette(rng.integers(0, 255, (60, 80), np.uint8)) for _ in range(MADE_UP)]
    engine.run(enumerate(encoded), len(encoded), keep_embeddings=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
