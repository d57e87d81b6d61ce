"""The last layer: embeddings -> class scores."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.calibrate import unsmoothed
from plankter.classify.context import ContextEncoder
from plankter.classify.models import HEAD_FILE, read_model_json
from plankter.classify.products import product

FloatArray = npt.NDArray[np.float32]
MAX_HEAD_BYTES = 512_000_000


class Head:
    """A linear layer with a temperature: scores are softmax((features @ weight + bias + class_bias) / temperature).

    Features are the embeddings, joined by those of the context where the head knows any. Temperature scaling is that
    of Guo et al. 2017 (ICML): it moves the scores, never their order; with ``class_bias`` it is the bias-corrected
    temperature scaling of Alexandari et al. 2020 (ICML).

    Args:
        weight: (dim + context, classes), kept as float32 whatever it is stored as.
        bias: (classes,).
        temperature: above 0.
        context: what turns columns of context into features; their weights are the last rows of ``weight``.
        class_bias: (classes,) found in calibration.
        smoothing: of the labels in training, undone first, see `unsmoothed`.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a temperature not above 0.
    """

    def __init__(
        self,
        weight: npt.ArrayLike,
        bias: npt.ArrayLike,
        temperature: float = 1.0,
        *,
        context: ContextEncoder | None = None,
        class_bias: npt.ArrayLike | None = None,
        smoothing: float = 0.0,
    ) -> None:
        self.weight = np.ascontiguousarray(weight, dtype=np.float32)
        self.bias = np.ascontiguousarray(bias, dtype=np.float32)
        self.temperature = float(temperature)
        self.context = context
        self.smoothing, self.class_bias = float(smoothing), None
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"label smoothing must be from 0 to below 1, got {smoothing}")
        if class_bias is not None:
            moved = np.asarray(class_bias, np.float32)
            if moved.shape != self.bias.shape:
                raise ValueError(f"class_bias {moved.shape} does not fit {len(self.bias)} classes")
            self.class_bias = moved
        if self.weight.ndim != 2 or self.bias.shape != (self.weight.shape[1],) or self.weight.size == 0:
            raise ValueError(f"weight {self.weight.shape} and bias {self.bias.shape} do not fit")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ValueError("weight and bias must be finite")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if self.dim <= 0:
            raise ValueError(f"{len(self.weight)} rows of weight leave none for the embedding")

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return len(self.weight) - (self.context.dim if self.context else 0)

    @property
    def classes(self) -> int:
        """How many classes it scores."""
        return int(self.weight.shape[1])

    def logits(
        self, embeddings: npt.NDArray[np.floating], context: npt.NDArray[np.floating] | None = None
    ) -> FloatArray:
        """float (n, dim) embeddings, context (n, columns) with NaN where missing -> float32 (n, classes), calibrated:
        the scores are their softmax."""
        found = self._linear(embeddings.astype(np.float32, copy=False))
        if self.context is not None:
            found += self.context.features(context, len(embeddings)) @ self.weight[self.dim :]
        if self.smoothing:
            found = unsmoothed(found, self.smoothing)
        if self.class_bias is not None:
            found += self.class_bias
        found /= np.float32(self.temperature)
        return found

    def scores(
        self, embeddings: npt.NDArray[np.floating], context: npt.NDArray[np.floating] | None = None
    ) -> FloatArray:
        """As `logits`, but scores: each row adds up to 1."""
        return softmax(self.logits(embeddings, context))

    def _linear(self, embeddings: FloatArray) -> FloatArray:
        return product(embeddings, self.weight[: self.dim]) + self.bias


def softmax(logits: FloatArray) -> FloatArray:
    """float32 (n, classes) -> the same shape, each row adding up to 1; the argument is overwritten."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return np.asarray(logits, dtype=np.float32)


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
        calibration = facts.get("calibration") or {}
        with np.load(path, allow_pickle=False) as arrays:
            context = _load_context(arrays, facts)
            head = Head(
                arrays["weight"], arrays["bias"], calibration.get("temperature", facts.get("temperature", 1.0)),
                context=context, class_bias=calibration.get("bias"),
                smoothing=calibration.get("smoothing", 0.0),
            )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"expected arrays 'weight' and 'bias': {error}", path=path) from error
    backbone = facts.get("backbone")
    dim = backbone.get("dim") if isinstance(backbone, dict) else None
    classes = len(facts.get("class_ids") or ())
    if (head.dim, head.classes) != (dim, classes):
        raise ModelError(
            f"fits {head.dim} numbers and {head.classes} classes, model.json says {dim} and {classes}", path=path
        )
    return head


def _load_context(arrays: Mapping[str, npt.NDArray[np.floating]], facts: Mapping[str, Any]) -> ContextEncoder | None:
    if "context_mean" not in arrays:
        return None
    layer = (arrays["context_weight"], arrays["context_bias"]) if "context_weight" in arrays else (None, None)
    return ContextEncoder(facts["inputs"]["context"], arrays["context_mean"], arrays["context_sd"], *layer)


def save_head(
    path: Path,
    weight: npt.NDArray[np.floating],
    bias: npt.NDArray[np.floating],
    context: ContextEncoder | None = None,
) -> None:
    """Writes a head as `load_head` reads it: weight as float16, all else as float32. The context's column names stand in
    ``model.json``.

    Raises:
        ValueError: a weight too large for float16.
    """
    if np.abs(weight).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError(f"a weight of {np.abs(weight).max():.3g} does not fit float16")
    arrays = {"weight": weight.astype(np.float16), "bias": bias.astype(np.float32)}
    if context is not None:
        arrays |= {"context_mean": context.mean.astype(np.float32), "context_sd": context.sd.astype(np.float32)}
        if context.weight is not None and context.bias is not None:
            arrays |= {"context_weight": context.weight, "context_bias": context.bias}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
