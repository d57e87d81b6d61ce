"""How a network is trained; no torch here, so that settings can be read and refused without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from plankter._errors import ModelError
from plankter.classify.networks import NETWORKS
from plankter.vignettes.augment import Augmentation

DEVICES, PRECISIONS = ("auto", "cpu", "cuda"), ("auto", "f32", "bf16")


@dataclass(frozen=True)
class FinetuneConfig:
    """How a network is trained.

    Args:
        network: a name of `plankter.classify.networks.NETWORKS`.
        start: ImageNet weights (.npz of MobileNetV2, .pth of EfficientNet-Lite), a checkpoint (.pt) or a model's
            backbone.onnx of the same network, or None for random.
        px: side of the square that the network sees.
        batch: images a step; halved in memory, not in effect, where memory runs out.
        lr: highest rate of the one cycle over all epochs.
        average_decay: of the running average of the weights, which is the result.
        balance: see `plankter.classify.finetune_data.choose_balance`.
        augmentation: None shows the images as they are.
        size_hidden, context_hidden: chance that an image's size or context is hidden in training.
        size_jitter: spread (log) by which a size is changed in training: for images of other magnifications.
        context_features: width of the context branch.
        patience: epochs without a better top-1 on the tuning part until the training stops; 0 never stops early.
        save_every: steps between checkpoints.
        device: "auto" takes CUDA where there is some.
        precision: "auto" is bf16 on CUDA and, where a processor computes in it, what a short measurement finds quicker.
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
    size_jitter: float = 0.0
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
