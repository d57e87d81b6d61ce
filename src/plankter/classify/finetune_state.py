"""All that a training needs to go on after a kill."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plankter._errors import ModelError
from plankter.classify.finetune_config import FinetuneConfig
from plankter.classify.finetune_images import IntArray
from plankter.classify.networks.layers import Classifier, read_tensors

CHECKPOINT = "checkpoint.pt"


def training_identity(
    config: FinetuneConfig, class_ids: tuple[str, ...], rows: IntArray, columns: tuple[str, ...]
) -> str:
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
        bf16: whether products are computed in bfloat16; weights and sums stay float32.
        best: weights of the average after the epoch that was best on the tuning part.
        history: one row an epoch.
    """

    model: Classifier
    average: Classifier
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    in_memory: int
    bf16: bool = False
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
    PLAIN = (
        "in_memory",
        "bf16",
        "identity",
        "epoch",
        "step",
        "loss_sum",
        "best_score",
        "best_epoch",
        "best",
        "history",
    )

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
    state = read_tensors(path, "a checkpoint")
    if not isinstance(state, dict) or "average" not in state:
        raise ModelError("expected a checkpoint with the weights 'average'", path=path)
    return state
