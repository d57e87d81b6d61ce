"""The last layer: embeddings -> class scores."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.models import HEAD_FILE, read_model_json

FloatArray = npt.NDArray[np.float32]
MAX_HEAD_BYTES = 512_000_000
ROWS = 32
SINGLE_THREADED = 250_000  # OpenBLAS spreads products of more multiplications than about this over threads


class Head:
    """A linear layer with a temperature: scores are softmax((embeddings @ weight + bias) / temperature).

    Temperature scaling is that of Guo et al. 2017 (ICML): it moves the scores, never their order.

    Args:
        weight: (dim, classes), kept as float32 whatever it is stored as.
        bias: (classes,).
        temperature: above 0.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a temperature not above 0.
    """

    def __init__(self, weight: npt.ArrayLike, bias: npt.ArrayLike, temperature: float = 1.0) -> None:
        self.weight = np.ascontiguousarray(weight, dtype=np.float32)
        self.bias = np.ascontiguousarray(bias, dtype=np.float32)
        self.temperature = float(temperature)
        if self.weight.ndim != 2 or self.bias.shape != (self.weight.shape[1],) or self.weight.size == 0:
            raise ValueError(f"weight {self.weight.shape} and bias {self.bias.shape} do not fit")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ValueError("weight and bias must be finite")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be above 0, got {temperature}")

    @property
    def dim(self) -> int:
        return int(self.weight.shape[0])

    @property
    def classes(self) -> int:
        return int(self.weight.shape[1])

    def scores(self, embeddings: npt.NDArray[np.floating]) -> FloatArray:
        """float (n, dim) embeddings -> float32 (n, classes) scores; each row adds up to 1."""
        logits = self._linear(embeddings.astype(np.float32, copy=False)) / np.float32(self.temperature)
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return np.asarray(logits, dtype=np.float32)

    def _linear(self, embeddings: FloatArray) -> FloatArray:
        # In small blocks, so that no product is spread over threads: where all cores are busy with other workers,
        # waiting for a second thread makes one of them 100 times slower.
        out = np.tile(self.bias, (len(embeddings), 1))
        step = max(8, SINGLE_THREADED // (ROWS * self.classes))
        for row in range(0, len(embeddings), ROWS):
            for start in range(0, self.dim, step):
                part = slice(start, start + step)
                out[row : row + ROWS] += embeddings[row : row + ROWS, part] @ self.weight[part]
        return out

    def top(self, embeddings: npt.NDArray[np.floating], k: int = 5) -> tuple[npt.NDArray[np.int16], FloatArray]:
        """The k best classes, best first; of equal scores the earlier class comes first.

        Returns:
            int16 (n, min(k, classes)) positions and float32 scores of the same shape.
        """
        scores = self.scores(embeddings)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return best.astype(np.int16), np.take_along_axis(scores, best, axis=1)


def load_head(folder: Path) -> Head:
    """The head of the model in ``folder``.

    Raises:
        ModelError: missing, damaged, or not fitting the classes and the backbone that ``model.json`` names.
    """
    facts = read_model_json(folder)
    path = folder / HEAD_FILE
    try:
        with zipfile.ZipFile(path) as archive:  # sizes are judged before anything is unpacked
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_HEAD_BYTES:
            raise ModelError(f"{unpacked:,} bytes unpacked are over the limit of {MAX_HEAD_BYTES:,}", path=path)
        with np.load(path, allow_pickle=False) as arrays:
            head = Head(arrays["weight"], arrays["bias"], facts.get("temperature", 1.0))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected arrays 'weight' and 'bias': {error}", path=path) from error
    backbone = facts.get("backbone")
    dim = backbone.get("dim") if isinstance(backbone, dict) else None
    classes = len(facts.get("class_ids") or ())
    if (head.dim, head.classes) != (dim, classes):
        raise ModelError(
            f"fits {head.dim} numbers and {head.classes} classes, model.json says {dim} and {classes}", path=path
        )
    return head


def save_head(path: Path, weight: npt.NDArray[np.floating], bias: npt.NDArray[np.floating]) -> None:
    """Writes a head as ``load_head`` reads it: weight as float16, bias as float32."""
    np.savez_compressed(path, weight=weight.astype(np.float16), bias=bias.astype(np.float32))
