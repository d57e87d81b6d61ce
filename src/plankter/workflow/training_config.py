"""What is asked of a training, refused at once where no training could use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plankter._errors import SettingsError
from plankter.classify.selection import BALANCES
from plankter.vignettes.augment import augmentation_of

MODES = ("head", "finetune", "classical")
HEADS = ("lda", "logistic")
CLASSIFIERS = ("forest", "boosting")
FEATURES = ("embeddings", "measures", "both")


@dataclass(frozen=True)
class TrainConfig:
    """What is asked of a training; ``model`` names the model whose backbone is used. See ``plankter train --help``."""

    mode: str = "head"
    head: str = "lda"
    classifier: str = "forest"
    features: str = "both"
    model: str = "flowcam"
    balance: str = "auto"
    seed: int = 0
    name: str | None = None
    imported: bool = False
    network: str = "efficientnet_lite0"
    epochs: int = 20
    px: int = 64
    start: Path | None = None
    force_context: bool = False
    augmentation: str = "normal"

    def __post_init__(self) -> None:
        """Refuses what no training could use.

        Raises:
            SettingsError: a value of the wrong kind, outside its limits, or not among those known.
        """
        self._check_kinds()
        for word, known in (
            ("mode", MODES), ("head", HEADS), ("classifier", CLASSIFIERS), ("features", FEATURES),
            ("balance", BALANCES),
        ):  # fmt: skip
            if getattr(self, word) not in known:
                raise SettingsError(f"{word} must be one of {', '.join(known)}, got {getattr(self, word)!r}")
        try:
            augmentation_of(self.augmentation)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def _check_kinds(self) -> None:
        for name in ("model", "network", "augmentation", *(("name",) if self.name is not None else ())):
            if not isinstance(getattr(self, name), str):
                raise SettingsError(f"{name}: expected text, got {getattr(self, name)!r}")
        for name, low, high in (("seed", 0, 2**32 - 1), ("epochs", 1, 10_000), ("px", 32, 1_024)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise SettingsError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
        for name in ("imported", "force_context"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name}: expected true or false, got {getattr(self, name)!r}")
