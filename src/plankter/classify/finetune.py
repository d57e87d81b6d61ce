"""Labelled images -> a network that names them: the whole network is trained, context joins before the head."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from plankter._errors import ModelError
from plankter.classify.context import ContextEncoder
from plankter.classify.export_onnx import export_backbone
from plankter.classify.finetune_data import (
    ArrayImages,
    Balance,
    BatchMaker,
    FloatArray,
    ImageSource,
    IntArray,
    choose_balance,
)
from plankter.classify.finetune_loop import StepReport, Trainer
from plankter.classify.finetune_state import (
    CHECKPOINT,
    STATISTICS_IMAGES,
    FinetuneConfig,
    chosen_device,
    chosen_precision,
    new_state,
    training_identity,
)
from plankter.classify.finetune_data import resized
from plankter.classify.models import BACKBONE_FILE

__all__ = ["FinetuneConfig", "Fitted", "estimate", "finetune", "prepare"]
ESTIMATE_STEPS = 3
Progress = Callable[[str, int, int | None], None]


class Split(Protocol):
    """The part of a split that training uses; `plankter.classify.splits.Split` is one."""

    @property
    def train(self) -> IntArray: ...
    @property
    def tune(self) -> IntArray: ...


@dataclass(frozen=True)
class Fitted:
    """What a training gave.

    Attributes:
        onnx_path: the backbone.
        head_weight: float32 (dim + k, classes), k being the features of the context branch.
        head_bias: float32 (classes,).
        context: standardisation and weights of the context branch, or None.
        curves: one row an epoch: epoch, loss, lr, seconds and, where a part tunes, top1, macro_f1, log_loss.
        balance: method, weights and reason.
        facts: device, precision, images_at_once, best_epoch, stopped_early, resumed_from_epoch, seconds, ...
    """

    onnx_path: Path
    head_weight: FloatArray
    head_bias: FloatArray
    context: ContextEncoder | None
    dim: int
    input_px: int
    curves: list[dict[str, float]]
    balance: Balance
    facts: dict[str, Any] = field(default_factory=dict)


def fit_context(columns: tuple[str, ...], values: npt.NDArray[np.floating], rows: IntArray) -> ContextEncoder:
    """The standardisation of context columns over the training rows; a column never known there gets mean 0, sd 1."""
    known = np.isfinite(values[rows])
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values[rows], 0.0).sum(0) / count
    sd = np.sqrt(np.where(known, (values[rows] - mean) ** 2, 0.0).sum(0) / count)
    return ContextEncoder(columns, mean.astype(np.float32), np.where(sd > 0, sd, 1.0).astype(np.float32))


def prepare(
    data: ImageSource, split: Split, config: FinetuneConfig, *,
    context: tuple[tuple[str, ...], npt.NDArray[np.floating]] | None = None,
) -> tuple[Trainer, IntArray, ContextEncoder | None]:  # fmt: skip
    """A training at its start, the rows that tune, and the standardisation of the context.

    Raises:
        ModelError: fewer than two readable training images, or weights that do not fit.
    """
    failed = np.array(sorted(data.failures), np.int64)
    train, tune = np.setdiff1d(split.train, failed), np.setdiff1d(split.tune, failed)
    if len(train) < 2:
        raise ModelError(f"{len(train)} readable training images, expected at least two", hint="check the images")
    encoder = fit_context(context[0], context[1], train) if context is not None else None
    features = encoder.features(context[1]) if encoder is not None and context is not None else None
    balance = choose_balance(np.bincount(data.labels[train], minlength=len(data.class_ids)), config.balance)
    batches = BatchMaker(
        data, train, config.px, min(config.batch, len(train)), config.seed, balance, features, config.augmentation,
        config.size_hidden, config.context_hidden,
    )  # fmt: skip
    device = chosen_device(config.device)
    sample = np.random.default_rng(config.seed).permutation(train)[:STATISTICS_IMAGES]
    torch.manual_seed(config.seed)
    state = new_state(
        config, len(data.class_ids), batches.steps * config.epochs, resized(data.pixels(np.sort(sample)), config.px),
        context_inputs=0 if features is None else features.shape[1], device=device,
    )  # fmt: skip
    state.identity = training_identity(config, data.class_ids, train, () if encoder is None else encoder.columns)
    state.facts = {
        "network": config.network, "px": config.px, "classes": list(data.class_ids),
        "class_counts": np.bincount(data.labels[train], minlength=len(data.class_ids)).tolist(),
    }  # fmt: skip
    bf16 = chosen_precision(config.precision, device) == "bf16"
    return Trainer(config, batches, state, device, bf16), tune, encoder


def finetune(
    data: ImageSource, split: Split, config: FinetuneConfig, *, folder: Path, progress: Progress | None = None,
    context: tuple[tuple[str, ...], npt.NDArray[np.floating]] | None = None,
    report: Callable[[StepReport], None] | None = None,
) -> Fitted:  # fmt: skip
    """Trains a network and exports its backbone; goes on from ``folder/checkpoint.pt`` where there is one.

    A training that was killed and started again with the same images and settings ends with the same weights as one
    that was not: what a step sees depends on the seed, the epoch and the step alone, and the checkpoint keeps the rest.

    Args:
        data: images, labels, classes.
        split: rows that train, and rows that tune (early stop, best epoch); no others are touched.
        folder: gets ``checkpoint.pt``, ``curves.csv``, ``log.txt`` and ``backbone.onnx``.
        progress: called with "training", steps done and steps in all.
        context: names of c columns and float (n, c) values for every image of ``data``, NaN where missing.
        report: told of each step, with the seconds left.

    Returns:
        What a model's folder is made of.

    Raises:
        ModelError: torch or onnx is missing, weights or a checkpoint do not fit, memory does not do for two images.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        trainer, tune, encoder = prepare(data, split, config, context=context)
        state, checkpoint = trainer.state, folder / CHECKPOINT
        if checkpoint.is_file():
            state.load(checkpoint)
        resumed = state.epoch
        log = _log_to(folder / "log.txt")
        log(f"{len(trainer.batches.rows):,} images train, {len(tune):,} tune; balance {trainer.batches.balance.method}: "
            f"{trainer.batches.balance.reason}; {trainer.device.type}, {'bf16' if trainer.bf16 else 'f32'}")  # fmt: skip

        def tell(step: StepReport) -> None:
            if progress is not None:
                progress("training", (step.epoch - 1) * step.steps + step.step, step.epochs * step.steps)
            if report is not None:
                report(step)

        def epoch_done(text: str) -> None:
            log(text)
            _write_curves(folder / "curves.csv", state.history)

        trainer.run(folder, tune, tell, epoch_done)
    model = trainer.result()
    onnx_path = folder / BACKBONE_FILE
    export_backbone(model.backbone, config.px, onnx_path)
    if encoder is not None and model.context is not None:
        encoder = ContextEncoder(
            encoder.columns, encoder.mean, encoder.sd, model.context.weight.detach().numpy().T.copy(),
            model.context.bias.detach().numpy().copy(),
        )  # fmt: skip
    facts = {
        "network": config.network, "device": trainer.device.type, "precision": "bf16" if trainer.bf16 else "f32",
        "images_at_once": state.in_memory, "epochs_done": state.epoch, "best_epoch": state.best_epoch or state.epoch,
        "stopped_early": trainer.stopped, "resumed_from_epoch": resumed, "seconds": time.monotonic() - started,
        "images_left_out": len(data.failures),
    }  # fmt: skip
    return Fitted(
        onnx_path, model.head.weight.detach().numpy().T.copy(), model.head.bias.detach().numpy().copy(), encoder,
        model.backbone.dim, config.px, state.history, trainer.batches.balance, facts,
    )  # fmt: skip


def estimate(config: FinetuneConfig, n_images: int, *, classes: int = 50, tune_images: int = 0) -> float:
    """Seconds that a training will take here, measured by a few steps on made-up images.

    Decoding the images is not included; early stopping may end the training before.

    Args:
        n_images: that train.
        tune_images: judged after every epoch, at about a third of the cost of training.

    Raises:
        ModelError: torch is missing, or the device.
    """
    rng = np.random.default_rng(0)
    n = config.batch * (ESTIMATE_STEPS + 1)
    shape = (n, config.px, config.px) + ((3,) if config.colour else ())
    data = ArrayImages(
        tuple(str(c) for c in range(classes)), rng.integers(0, classes, n), np.full((n, 2), 50, np.float32),
        rng.integers(0, 255, shape, dtype=np.uint8),
    )  # fmt: skip
    rows = _Rows(np.arange(n), np.zeros(0, np.int64))
    with torch.random.fork_rng():
        trainer, _, _ = prepare(data, rows, config)
        marks = [time.monotonic()]
        for batch in trainer.batches.epoch(0):
            trainer.step(batch)
            marks.append(time.monotonic())
    a_step = (marks[-1] - marks[1]) / max(1, len(marks) - 2)  # the first step also plans and allocates
    steps = max(1, n_images // config.batch)
    return config.epochs * a_step * (steps + tune_images / config.batch / 3)


@dataclass(frozen=True)
class _Rows:
    train: IntArray
    tune: IntArray


def _log_to(path: Path) -> Callable[[str], None]:
    def log(text: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    return log


def _write_curves(path: Path, history: list[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
