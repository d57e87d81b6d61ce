"""How `plankter train --finetune` calls the part that trains networks, and what it makes of the answer; no torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from plankter.classify.models import load_model
from plankter.features.backbones import OpenVinoBackbone
from plankter.vignettes.augment import Augmentation
from plankter.vignettes.letterbox import size_inputs
from plankter.workflow import train as train_module
from plankter.workflow.evaluate import evaluate
from plankter.workflow.train import pace_for, train
from plankter.workflow.training_config import TrainConfig

TINY = Path(__file__).with_name("tiny_backbone.onnx")


@dataclass
class Config:
    network: str = "tiny"
    start: Path | None = None
    px: int = 32
    epochs: int = 1
    balance: str = "auto"
    seed: int = 0
    label_smoothing: float = 0.05
    batch: int = 128
    average_decay: float = 0.9985
    patience: int = 5
    augmentation: Augmentation | None = None


@dataclass
class Images:
    class_ids: tuple[str, ...]
    labels: np.ndarray
    sizes: np.ndarray
    array: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)


def trainer(seen: dict[str, Any]) -> Callable[..., Any]:
    """A training that takes class means as its head and changes no network."""

    def finetune(data: Images, split: Any, config: Config, *, folder: Path, progress: Any, context: Any) -> Any:
        seen.update(config=config, train=split.train, tune=split.tune, failures=data.failures, context=context)
        progress("training", 1, 1)
        shutil.copy(TINY, folder / "backbone.onnx")
        backbone = OpenVinoBackbone(folder / "backbone.onnx", precision="f32", threads=1)
        embeddings = backbone.embed(data.array[split.train], size_inputs(*data.sizes[split.train].T))
        labels = data.labels[split.train]
        means = np.stack([embeddings[labels == c].mean(axis=0) for c in range(len(data.class_ids))])
        bias = -0.5 * (means**2).sum(axis=1)
        return SimpleNamespace(
            onnx_path=folder / "backbone.onnx", head_weight=means.T, head_bias=bias, context=None, dim=35, input_px=32,
            curves=[{"epoch": 1, "loss": 0.5, "top1": 0.9}], facts={"epochs_done": 1, "odd": object()},
            balance=SimpleNamespace(method="none", weights=None, reason="even"),
        )  # fmt: skip

    return finetune


def test_the_network_becomes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "in"
    for number, name in enumerate(("thin", "thick")):
        (root / name).mkdir(parents=True)
        for k in range(20):
            image = np.full((40, 48), 200, np.uint8)
            cv2.line(image, (5, 5 + k % 7), (42, 34 - k % 5), 40 + k, 2 + 9 * number)
            cv2.imwrite(str(root / name / f"{k}.png"), image)
    (root / "thin" / "3.png").write_bytes(b"damaged")
    seen: dict[str, Any] = {}
    unit = SimpleNamespace(
        ArrayImages=Images, FinetuneConfig=Config, finetune=trainer(seen), estimate=lambda *a, **k: 12.5
    )
    monkeypatch.setattr(train_module, "finetune_unit", lambda: unit)
    config = TrainConfig(
        mode="finetune", network="tiny", epochs=4, px=32, seed=9, name="tuned", augmentation="scale=0.1"
    )
    assert train(config, folder=root, out=tmp_path / "o", estimate_only=True)["estimate_s"] == 12.5
    found = train(config, folder=root, out=tmp_path / "o")
    assert (seen["config"].epochs, seen["config"].seed, seen["config"].balance) == (4, 9, "auto")
    assert seen["config"].augmentation == Augmentation(scale=0.1)
    assert len(seen["failures"]) == 1 and not set(seen["failures"]) & set(seen["train"])
    assert len(seen["train"]) == found["split"]["train"] and seen["context"] is None
    assert found["mode"] == "finetune" and found["facts"] == {"epochs_done": 1}
    assert found["balance"] == {"method": "none", "reason": "even"}
    assert found["problems"][0]["names"] == ["thin/3.png"]
    assert (Path(found["folder"]) / "curves.csv").read_text(encoding="utf-8-sig").split()[0] == "epoch,loss,top1"
    model = load_model(Path(found["model"]))
    assert model.backbone == "tiny" and model.input_px == 32
    assert evaluate(root, model=found["model"])["top1"] > 0.8


@pytest.mark.parametrize(
    ("images", "epochs", "batch", "decay", "tuning", "patience"),
    [(320, 60, 20, 0.98958, 20, 0), (40, 5, 16, 0.9, 199, 0), (150_000, 20, 128, 0.9985, 200, 5)],
)
def test_few_images_get_small_batches_and_are_not_stopped_by_a_few(
    images: int, epochs: int, batch: int, decay: float, tuning: int, patience: int
) -> None:
    assert pace_for(images, epochs, tuning) == {"batch": batch, "average_decay": decay, "patience": patience}
