"""How a network is trained, and all that a training needs to go on after a kill."""

from __future__ import annotations

import copy
import hashlib
import pickle
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plankter._errors import ModelError
from plankter.classify.finetune_data import IntArray, UInt8Array
from plankter.classify.networks import NETWORKS, build_backbone
from plankter.classify.networks.layers import Classifier
from plankter.vignettes.augment import Augmentation

DEVICES, PRECISIONS = ("auto", "cpu", "cuda"), ("auto", "f32", "bf16")
CHECKPOINT = "checkpoint.pt"
WARM_UP = 0.15  # share of the steps in which the rate rises
STATISTICS_IMAGES = 512  # shown once, to give folded weights their norms back


@dataclass(frozen=True)
class FinetuneConfig:
    """How a network is trained.

    Args:
        network: a name of `plankter.classify.networks.NETWORKS`.
        start: ImageNet weights (.npz, MobileNetV2 only), a checkpoint (.pt) of the same network, or None for random.
        px: side of the square that the network sees.
        batch: images a step; halved in memory, not in effect, where memory runs out.
        lr: highest rate of the one cycle over all epochs.
        average_decay: of the running average of the weights, which is the result.
        balance: see `plankter.classify.finetune_data.choose_balance`.
        augmentation: None shows the images as they are.
        size_hidden, context_hidden: chance that an image's size or context is hidden in training.
        context_features: width of the context branch.
        patience: epochs without a better top-1 on the tuning part until the training stops; 0 never stops early.
        save_every: steps between checkpoints.
        device: "auto" takes CUDA where there is some.
        precision: "auto" is bf16 on CUDA and where the processor computes in it.
        colour: three channels instead of grey, for comparisons; no model can be exported of it.
    """

    network: str = "mobilenet_v2"
    start: Path | None = None
    px: int = 64
    epochs: int = 20
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    dropout: float = 0.2
    average_decay: float = 0.9985
    seed: int = 1
    balance: str = "auto"
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    size_hidden: float = 0.15
    context_hidden: float = 0.15
    context_features: int = 16
    patience: int = 5
    save_every: int = 100
    device: str = "auto"
    precision: str = "auto"
    colour: bool = False

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ModelError(f"network {self.network!r} is not known; expected one of {', '.join(NETWORKS)}")
        if self.device not in DEVICES or self.precision not in PRECISIONS:
            raise ModelError(
                f"device must be one of {', '.join(DEVICES)} and precision one of {', '.join(PRECISIONS)}, got "
                f"{self.device!r} and {self.precision!r}"
            )
        if min(self.px - 31, self.epochs, self.batch - 1, self.save_every) < 1 or not self.lr > 0:
            raise ModelError("expected at least 32 px, one epoch, a batch of 2, a checkpoint every step and a rate > 0")
        if self.colour and self.augmentation is not None:
            raise ModelError("augmentation works on grey vignettes; a comparison in colour goes without")


def chosen_device(wanted: str) -> torch.device:
    """The device meant by "auto", "cpu" or "cuda".

    Raises:
        ModelError: CUDA is asked for and absent.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device is available", hint="use the device 'auto' or 'cpu'")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def chosen_precision(wanted: str, device: torch.device) -> str:
    """"bf16" or "f32"; emulated, bf16 would be slower than f32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "f32"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "f32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "f32"


def training_identity(config: FinetuneConfig, class_ids: tuple[str, ...], rows: IntArray, columns: tuple[str, ...]) -> str:
    """What must be the same for a checkpoint to be gone on with: 16 hex digits."""
    facts = asdict(replace(config, device="auto", save_every=1))
    digest = hashlib.sha256(repr((sorted(facts.items(), key=lambda item: item[0]), class_ids, columns)).encode())
    digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


@dataclass
class TrainingState:
    """All that a checkpoint holds. ``epoch`` epochs and ``step`` steps of the next are done.

    Attributes:
        in_memory: images that go through the network at once; below ``batch`` after memory ran out.
        best: weights of the average after the epoch that was best on the tuning part.
        history: one row an epoch.
    """

    model: Classifier
    average: Classifier
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    in_memory: int
    identity: str = ""
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_score: float = -1.0
    best_epoch: int = 0
    best: dict[str, Any] | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    PARTS = ("model", "average", "optimiser", "schedule")
    PLAIN = ("in_memory", "identity", "epoch", "step", "loss_sum", "best_score", "best_epoch", "best", "history")

    def save(self, path: Path) -> None:
        """Writes the checkpoint beside itself and renames it: a kill leaves the old one or the new one."""
        state = {name: getattr(self, name).state_dict() for name in self.PARTS}
        state |= {name: getattr(self, name) for name in self.PLAIN}
        partial = path.with_suffix(".new")
        torch.save({**self.facts, **state}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint of the same training.

        Raises:
            ModelError: damaged, or of another training.
        """
        state = read_checkpoint(path)
        if state.get("identity") != self.identity:
            hint = "train into another folder, or remove this file to start anew"
            raise ModelError("belongs to a training with other images or settings", path=path, hint=hint)
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])
        for name in self.PLAIN:
            setattr(self, name, state[name])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint as a dict; weights and plain values only, nothing in it is run.

    Raises:
        ModelError: missing or no checkpoint.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise ModelError(f"expected a checkpoint: {first}", path=path) from error
    if not isinstance(state, dict) or "average" not in state:
        raise ModelError("expected a checkpoint with the weights 'average'", path=path)
    return state


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
    if config.start is not None and config.start.suffix == ".npz":
        if config.network != "mobilenet_v2":
            raise ModelError(f"ImageNet weights are for mobilenet_v2, not for {config.network}", path=config.start)
        from plankter.classify.networks.mobilenet_v2 import load_folded_imagenet

        load_folded_imagenet(model.backbone, config.start, torch.from_numpy(sample[:STATISTICS_IMAGES]))
    elif config.start is not None:
        start_from_checkpoint(model, config.start)
    model = model.to(device=device or torch.device("cpu"), memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=max(2, steps), pct_start=WARM_UP)
    return TrainingState(model, copy.deepcopy(model), optimiser, schedule, in_memory=config.batch)


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
