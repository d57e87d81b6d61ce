"""A training at its start: network, starting weights, optimiser, schedule, device, batches."""

from __future__ import annotations

import copy
import ctypes
import sys
from pathlib import Path

import numpy as np
import torch

from plankter._errors import ModelError
from plankter.classify.context import ContextEncoder
from plankter.classify.finetune_config import FinetuneConfig
from plankter.classify.finetune_data import BatchMaker, ContextColumns, choose_balance
from plankter.classify.finetune_images import ImageSource, IntArray, Split, UInt8Array, resized
from plankter.classify.finetune_loop import Trainer
from plankter.classify.finetune_state import TrainingState, read_checkpoint, training_identity
from plankter.classify.networks import build_backbone
from plankter.classify.networks.layers import Classifier

WARM_UP = 0.15  # share of the steps in which the rate rises
STATISTICS_IMAGES = 512  # shown once, to give folded weights their norms back

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def prepare(
    data: ImageSource, split: Split, config: FinetuneConfig, *,
    context: ContextColumns | None = None,
) -> tuple[Trainer, IntArray, ContextEncoder | None]:  # fmt: skip
    """A training at its start, the rows that tune, and the standardisation of the context.

    Raises:
        ModelError: fewer than two readable training images, or weights that do not fit.
    """
    failed = np.array(sorted(data.failures), np.int64)
    train, tune = np.setdiff1d(split.train, failed), np.setdiff1d(split.tune, failed)
    if len(train) < 2:
        raise ModelError(f"{len(train)} readable training images, expected at least two", hint="check the images")
    encoder = ContextEncoder.fit(context[0], context[1][train]) if context is not None else None
    features = None if encoder is None or context is None else encoder.standardised(context[1], len(data.labels))
    balance = choose_balance(np.bincount(data.labels[train], minlength=len(data.class_ids)), config.balance)
    batches = BatchMaker(
        data, train, config.px, min(config.batch, len(train)), config.seed, balance, features, config.augmentation,
        size_hidden=config.size_hidden, size_jitter=config.size_jitter, context_hidden=config.context_hidden,
    )  # fmt: skip
    device = chosen_device(config.device)
    if device.type == "cpu":
        keep_freed_memory()
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
    state.bf16 = chosen_precision(config.precision, device) == "bf16"
    return Trainer(config, batches, state, device), tune, encoder


def keep_freed_memory() -> None:
    """Has the C library keep the blocks that a training step frees, for the next step asks for the same again.

    glibc gives every block of more than 32 MB back to the system at once; fetching and clearing the pages again took a quarter
    of the processor time of a training (``benchmarks/bench_depthwise.py``). Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1)):
        mallopt(parameter, value)


def chosen_device(wanted: str) -> torch.device:
    """The device meant by "auto", "cpu" or "cuda".

    Raises:
        ModelError: CUDA is asked for and absent.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device is available", hint="use the device 'auto' or 'cpu'")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def chosen_precision(wanted: str, device: torch.device) -> str:
    """ "bf16" or "f32"; emulated, bf16 would be slower than f32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "f32"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "f32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "f32"


def new_state(
    config: FinetuneConfig, classes: int, steps: int, sample: UInt8Array, *, context_inputs: int = 0,
    device: torch.device | None = None,
) -> TrainingState:  # fmt: skip
    """A network at its start, its optimiser and one learning-rate cycle.

    Args:
        steps: of the whole training.
        sample: uint8 vignettes to give folded weights their norms back; not used for other starts.

    Raises:
        ModelError: weights of another network, or unreadable.
    """
    model = Classifier(
        build_backbone(config.network, 3 if config.colour else 1), classes, dropout=config.dropout,
        context_inputs=context_inputs, context_features=config.context_features,
    )  # fmt: skip
    if config.start is not None:
        load_start(model, config.network, config.start, sample)
    model = model.to(device=device or torch.device("cpu"), memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=max(2, steps), pct_start=WARM_UP)
    return TrainingState(model, copy.deepcopy(model), optimiser, schedule, in_memory=config.batch)


def load_start(model: Classifier, network: str, start: Path, sample: UInt8Array) -> None:
    """Weights that a training starts from, by the ending of their file.

    Args:
        model: changed in place.
        network: its name.
        start: .npz (ImageNet, MobileNetV2) or .pth (ImageNet, EfficientNet-Lite), a model's .onnx, else a checkpoint.
        sample: uint8 vignettes to give folded weights their norms back.

    Raises:
        ModelError: weights of another network, or unreadable.
    """
    kind, backbone, shown = start.suffix.lower(), model.backbone, torch.from_numpy(sample[:STATISTICS_IMAGES])
    if kind == ".npz":
        if network != "mobilenet_v2":
            raise ModelError(f"ImageNet weights as npz are for mobilenet_v2, not for {network}", path=start)
        from plankter.classify.networks.mobilenet_v2 import load_folded_imagenet

        load_folded_imagenet(backbone, start, shown)
    elif kind == ".pth":
        if not network.startswith("efficientnet_lite"):
            raise ModelError(f"ImageNet weights as pth are for efficientnet_lite0 to 2, not for {network}", path=start)
        from plankter.classify.networks.efficientnet_lite import load_imagenet

        load_imagenet(backbone, start)
    elif kind == ".onnx":
        from plankter.classify.networks.folded import load_from_model

        load_from_model(backbone, start, shown)
    else:
        start_from_checkpoint(model, start)


def start_from_checkpoint(model: Classifier, path: Path) -> None:
    """Takes the averaged backbone of a checkpoint, and its head where it has the same shape.

    Raises:
        ModelError: a checkpoint of another network.
    """
    weights = read_checkpoint(path)["average"]
    own = model.state_dict()
    backbone = {name for name in own if name.startswith("backbone.")}
    if missing := sorted(n for n in backbone if n not in weights or weights[n].shape != own[n].shape):
        raise ModelError(f"is of another network: {missing[0]} is missing or has another shape", path=path)
    head = {n for n in own if n.startswith("head.") and n in weights and weights[n].shape == own[n].shape}
    keep = backbone | (head if len(head) == 2 else set())
    model.load_state_dict({name: weights[name] if name in keep else own[name] for name in own})
