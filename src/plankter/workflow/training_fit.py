"""The fit itself in each of the three modes; what comes out has one shape, whatever was fitted."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import ImageError, ModelError
from plankter.classify.add_class import Recipe
from plankter.classify.context import ContextEncoder
from plankter.classify.head import Head, save_head
from plankter.classify.lda import LinearFit, Statistics, fit_lda, gather, save_statistics
from plankter.classify.logistic import fit_logistic
from plankter.classify.models import BACKBONE_FILE, HEAD_FILE, STATISTICS_FILE, TRAINABLE_FILE
from plankter.classify.selection import balance_for, class_weights, resampled_rows
from plankter.classify.splits import Split
from plankter.classify.trees import Forest, fit_inputs, save_forest
from plankter.features.backbones import OpenVinoBackbone
from plankter.features.measures_table import MEASURE_NAMES
from plankter.types import Model
from plankter.vignettes.codec import decode_image
from plankter.vignettes.letterbox import letterbox, size_inputs
from plankter.workflow.progress import Progress
from plankter.workflow.training_data import TrainingImages

Float32 = npt.NDArray[np.float32]
Context = tuple[tuple[str, ...], npt.NDArray[np.float64]]
WANTED_SPREAD = 4.0  # of a discriminant's logits over the classes: its own are far too sure of themselves


@dataclass(frozen=True)
class Fitted:
    """A fitted model before it is calibrated.

    Attributes:
        logits: float (n, classes) of every image, NaN where it failed.
        embeddings: float32 (n, dim) of every image.
        write: writes ``backbone.onnx`` and ``head.npz`` into a model's folder.
        setting: what was chosen, in words.
        balance: method and reason.
        facts: more for the report.
        smoothing: of the labels in training.
        discriminant: how an "lda" head came from its statistics; None for other heads.
    """

    logits: npt.NDArray[np.floating]
    embeddings: Float32
    write: Callable[[Path], None]
    head_kind: str
    backbone_name: str
    dim: int
    input_px: int
    inputs: dict[str, tuple[str, ...]]
    setting: str
    balance: tuple[str, str]
    curves: Sequence[Mapping[str, float]] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    smoothing: float = 0.0
    discriminant: Recipe | None = None


def balanced_rows(
    split: Split, labels: npt.NDArray[np.int64], classes: int, wanted: str, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64] | None, tuple[str, str]]:
    """Training rows and their weights under a balance: "resample" changes the rows, "loss" the weights."""
    method, reason = balance_for(np.bincount(labels[split.train], minlength=classes), wanted)
    rows, weights = split.train, None
    if method == "resample":
        rows = split.train[resampled_rows(labels[split.train], classes, seed)]
    elif method == "loss":
        weights = class_weights(labels[split.train], classes)[labels[split.train]]
    return rows, weights, (method, reason)


def fit_head(
    model: Model,
    embeddings: Float32,
    images: TrainingImages,
    split: Split,
    *,
    head: str,
    balance: str,
    seed: int,
    context: Context | None,
    progress: Progress,
) -> Fitted:
    """A linear head over a backbone that stays as it is: "lda" or "logistic".

    The sums of the discriminant are kept with the model, so that a class can join later without the images.
    """
    labels, class_ids = images.data.labels, images.data.class_ids
    rows, weights, how = balanced_rows(split, labels, len(class_ids), balance, seed)
    encoder, columns = None, embeddings
    if context is not None:
        encoder = ContextEncoder.fit(context[0], context[1][split.train])
        columns = np.concatenate([embeddings, encoder.features(context[1], len(embeddings))], axis=1)
    held_out = (columns[split.tune], labels[split.tune])
    found: Statistics | None = None
    recipe: Recipe | None = None
    if head == "lda":
        found = gather(columns[rows], labels[rows], class_ids)
        plain = fit_lda(found, held_out, balanced=how[0] == "loss")
        by = _taming(plain, columns[split.train])
        recipe = Recipe(float(plain.shrinkage or 0.0), how[0] == "loss", by)
        fitted = replace(plain, weight=plain.weight * np.float32(by), bias=plain.bias * np.float32(by))
    else:
        fitted = fit_logistic(
            columns[rows], labels[rows], len(class_ids), held_out=held_out, sample_weights=weights,
            progress=lambda done, total: progress("fitting", done, total),
        )  # fmt: skip
    weight = fitted.weight.astype(np.float16).astype(np.float32)  # as it is kept, so that figures are those of the file

    def write(to: Path) -> None:
        shutil.copyfile(model.folder / BACKBONE_FILE, to / BACKBONE_FILE)
        save_head(to / HEAD_FILE, fitted.weight, fitted.bias, encoder)
        if found is not None:
            save_statistics(to / STATISTICS_FILE, found)

    return Fitted(
        columns @ weight + fitted.bias, embeddings, write, "linear", model.backbone, embeddings.shape[1],
        model.input_px, {"context": encoder.columns} if encoder else {}, f"{head}, {fitted.setting}", how,
        discriminant=recipe,
    )  # fmt: skip


def with_context_verdict(fitted: Fitted, verdict: Mapping[str, Any], words: str) -> Fitted:
    """The same fit with what was found about its context among its facts."""
    return replace(fitted, facts={**fitted.facts, **dict(verdict), "context": words}) if words else fitted


def _taming(fitted: LinearFit, columns: Float32) -> float:
    """What weight and bias are multiplied by, so that logits have a usual size and one temperature can calibrate them."""
    shown = columns[:: max(1, len(columns) // 2_000)]
    spread = float((shown @ fitted.weight + fitted.bias).std(axis=1).mean())
    return WANTED_SPREAD / spread if spread > 0 else 1.0


def fit_classical(
    model: Model,
    embeddings: Float32,
    measures: Float32 | None,
    images: TrainingImages,
    split: Split,
    *,
    classifier: str,
    use_embeddings: bool,
    balance: str,
    seed: int,
    threads: int,
) -> Fitted:
    """Measures, principal components of embeddings, or both, into a random forest or gradient boosting."""
    from plankter.classify.fit_trees import fit_trees

    labels, class_ids = images.data.labels, images.data.class_ids
    rows, weights, how = balanced_rows(split, labels, len(class_ids), balance, seed)
    inputs = fit_inputs(
        embeddings[split.train], None if measures is None else measures[split.train], MEASURE_NAMES,
        components=50 if use_embeddings else 0,
    )  # fmt: skip
    mine = None if measures is None else measures[:, [MEASURE_NAMES.index(name) for name in inputs.measures]]
    columns = inputs.columns(embeddings[rows], None if mine is None else mine[rows])
    trees, words = fit_trees(
        columns, labels[rows], len(class_ids), classifier=classifier, sample_weights=weights, seed=seed, threads=threads
    )
    forest = Forest(inputs, trees)
    logits = np.full((len(labels), len(class_ids)), np.nan)
    good = np.isfinite(embeddings).all(axis=1)
    logits[good] = forest.logits(embeddings[good], None if mine is None else mine[good])

    def write(to: Path) -> None:
        shutil.copyfile(model.folder / BACKBONE_FILE, to / BACKBONE_FILE)
        save_forest(to / HEAD_FILE, forest)

    seen = [f"{inputs.components.shape[1]} components of the embedding"] if use_embeddings else []
    seen += [f"{len(inputs.measures)} measures"] if inputs.measures else []
    return Fitted(
        logits, embeddings, write, "trees", model.backbone, embeddings.shape[1], model.input_px,
        {"measures": inputs.measures} if inputs.measures else {}, f"{words}; sees {' and '.join(seen)}", how,
    )  # fmt: skip


def finetune_unit() -> Any:
    """The part that trains whole networks.

    Raises:
        ModelError: it, or torch, is missing.
    """
    hint = "pip install 'plankter[train]'; --mode head needs neither torch nor a graphics card"
    try:
        importlib.import_module("torch")
        return importlib.import_module("plankter.classify.finetune")
    except ImportError as error:
        raise ModelError(f"fine-tuning needs torch: {error}", hint=hint) from error


def pixels_of(images: TrainingImages, px: int, progress: Progress) -> tuple[Any, Float32, dict[int, str]]:
    """All images letterboxed to ``px``, their sizes, and the failures by row."""
    n = len(images.data)
    array = np.zeros((n, px, px), np.uint8)
    sizes = np.full((n, 2), np.nan, np.float32)
    failures: dict[int, str] = {}
    for done, (row, data) in enumerate(images.read(range(n), failures)):
        try:
            image = decode_image(data, grey=True)
            array[row] = letterbox(image, px)
            sizes[row] = image.shape[1], image.shape[0]
        except (ImageError, ValueError) as error:
            failures[row] = str(error)
        if done % 256 == 0:
            progress("images read", done, n)
    return array, sizes, failures


def fit_network(
    images: TrainingImages,
    split: Split,
    pixels: tuple[Any, Float32, dict[int, str]],
    *,
    config: Any,
    unit: Any,
    context: Context | None,
    folder: Path,
    progress: Progress,
    threads: int,
) -> Fitted:
    """A whole network, trained by `plankter.classify.finetune`; its backbone then runs as every other one does."""
    array, sizes, failures = pixels
    source = unit.ArrayImages(images.data.class_ids, images.data.labels, sizes, array, failures)
    found = unit.finetune(source, split, config, folder=folder, progress=progress, context=context)
    backbone = OpenVinoBackbone(found.onnx_path, precision="auto", threads=threads)
    embeddings = backbone.embed(array, size_inputs(sizes[:, 0], sizes[:, 1])).astype(np.float16).astype(np.float32)
    embeddings[sorted(failures)] = np.nan
    head = Head(found.head_weight.astype(np.float16), found.head_bias, context=found.context)
    values = None if context is None else context[1]

    def write(to: Path) -> None:
        shutil.copyfile(found.onnx_path, to / BACKBONE_FILE)
        save_head(to / HEAD_FILE, found.head_weight, found.head_bias, found.context)

    balance = getattr(found, "balance", None)
    return Fitted(
        head.logits(embeddings, values), embeddings, write, "linear", config.network, found.dim, found.input_px,
        {"context": found.context.columns} if found.context else {}, f"fine-tuned {config.network}, {_start_words(config.start)}",
        (balance.method, balance.reason) if balance else (config.balance, "as asked"), found.curves,
        dict(getattr(found, "facts", {})), config.label_smoothing,
    )  # fmt: skip


def _start_words(start: Path | None) -> str:
    """Without the folder, which is none of a reader's business; every model's network has the same file name."""
    if start is None:
        return "from chance"
    return "from the base model's network" if start.name in (BACKBONE_FILE, TRAINABLE_FILE) else f"from {start.name}"
