"""Labelled images -> a network that names them: the whole network is trained, context joins before the head."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plankter.classify.context import ContextEncoder
from plankter.classify.finetune_config import FinetuneConfig
from plankter.classify.finetune_data import Balance, ContextColumns
from plankter.classify.finetune_images import (
    ArrayImages,
    FloatArray,
    ImageSource,
    IntArray,
    Progress,
    Split,
    decode_images,
    read_images,
)
from plankter.classify.models import BACKBONE_FILE
from plankter.classify.networks import import_torch

if TYPE_CHECKING:
    from plankter.classify.finetune_loop import StepReport, Trainer

__all__ = [
    "ArrayImages",
    "FinetuneConfig",
    "Fitted",
    "ImageSource",
    "decode_images",
    "estimate",
    "finetune",
    "read_images",
]
ESTIMATE_STEPS = 4
JUDGING_COST = 1 / 3  # of an image that is only looked at, beside one that trains


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
        facts: network, device, precision, images_at_once (below the batch where memory ran out), epochs_done,
            best_epoch, stopped_early, resumed_from_epoch, seconds, images_left_out.
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


def finetune(
    data: ImageSource, split: Split, config: FinetuneConfig, *, folder: Path, progress: Progress | None = None,
    context: ContextColumns | None = None, report: Callable[[StepReport], None] | None = None,
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
    torch = import_torch()
    from plankter.classify.export_onnx import export_backbone
    from plankter.classify.finetune_setup import prepare

    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        trainer, tune, encoder = prepare(data, split, config, context=context)
        resumed = trainer.resume(folder)
        trainer.settle_precision()
        _train(trainer, tune, folder, progress, report)
    model, state = trainer.result(), trainer.state
    onnx_path = folder / BACKBONE_FILE
    export_backbone(model.backbone, config.px, onnx_path)
    arrays = {name: value.detach().numpy().astype(np.float32) for name, value in model.state_dict().items()}
    if encoder is not None:
        weight, bias = arrays["context.weight"].T.copy(), arrays["context.bias"]
        encoder = ContextEncoder(encoder.columns, encoder.mean, encoder.sd, weight, bias)
    facts = {
        "network": config.network, "device": trainer.device.type, "precision": "bf16" if state.bf16 else "f32",
        "images_at_once": state.in_memory, "epochs_done": state.epoch, "best_epoch": state.best_epoch or state.epoch,
        "stopped_early": state.epoch < config.epochs, "resumed_from_epoch": resumed,
        "seconds": time.monotonic() - started, "images_left_out": len(data.failures),
    }  # fmt: skip
    return Fitted(
        onnx_path, arrays["head.weight"].T.copy(), arrays["head.bias"], encoder, model.backbone.dim, config.px,
        state.history, trainer.batches.balance, facts,
    )  # fmt: skip


def _train(
    trainer: Trainer, tune: IntArray, folder: Path, progress: Progress | None,
    report: Callable[[StepReport], None] | None,
) -> None:  # fmt: skip
    balance, state = trainer.batches.balance, trainer.state
    log = _log_to(folder / "log.txt")
    log(
        f"{len(trainer.batches.rows):,} images train, {len(tune):,} tune; balance {balance.method} ({balance.reason}); "
        f"{trainer.device.type}, {'bf16' if state.bf16 else 'f32'}; from epoch {state.epoch + 1}, step {state.step + 1}"
    )

    def tell(step: StepReport) -> None:
        if progress is not None:
            progress("training", (step.epoch - 1) * step.steps + step.step, step.epochs * step.steps)
        if report is not None:
            report(step)

    def epoch_done(text: str) -> None:
        log(text)
        _write_curves(folder / "curves.csv", state.history)

    trainer.run(folder, tune, tell, epoch_done)
    if state.in_memory < trainer.batches.batch:
        log(
            f"memory ran out: {state.in_memory} images at once instead of {trainer.batches.batch}; same batch, same rate"
        )
    if state.epoch < trainer.config.epochs:
        log(f"stopped after epoch {state.epoch}: not better on the tuning part since epoch {state.best_epoch}")


def estimate(config: FinetuneConfig, n_images: int, *, classes: int = 50, tune_images: int = 0) -> float:
    """Seconds that a training will take here, measured by a few steps on made-up images before it starts.

    Decoding the images is not included; early stopping may end the training before.

    Args:
        n_images: that train.
        tune_images: that are judged after every epoch.

    Raises:
        ModelError: torch is missing, or the device.
    """
    torch = import_torch()
    from plankter.classify.finetune_setup import prepare

    batch = max(2, min(config.batch, n_images))
    rng, n = np.random.default_rng(0), batch * (ESTIMATE_STEPS + 1)
    shape = (n, config.px, config.px) + ((3,) if config.colour else ())
    data = ArrayImages(
        tuple(str(c) for c in range(classes)), rng.integers(0, classes, n), np.full((n, 2), 50, np.float32),
        rng.integers(0, 255, shape, dtype=np.uint8),
    )  # fmt: skip
    with torch.random.fork_rng():
        trainer, _, _ = prepare(data, _Rows(np.arange(n), np.zeros(0, np.int64)), config)
        trainer.settle_precision()
        marks = []
        for made in trainer.batches.epoch(0):
            trainer.step(made)
            marks.append(time.monotonic())
    a_step = (marks[-1] - marks[0]) / (len(marks) - 1)  # the first step also plans and allocates
    return config.epochs * a_step * (max(1, n_images // batch) + tune_images / batch * JUDGING_COST)


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
