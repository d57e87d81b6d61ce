"""What a feature set and a backbone are: vignettes -> numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class FeatureTable:
    """One run's numbers: float32 (n, k), a NaN row for a particle without a usable vignette."""

    name: str
    version: str
    columns: tuple[str, ...]
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            raise ValueError(f"values must have {len(self.columns)} columns, got shape {self.values.shape}")

    def column(self, name: str) -> npt.NDArray[np.float32]:
        """One column by its name, (n,).

        Raises:
            ValueError: no such column.
        """
        return self.values[:, self.columns.index(name)]


class Backbone(Protocol):
    """An entry point of ``plankter.backbones``."""

    dim: int
    precision: str

    def embed(self, vignettes: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """uint8 (n, s, s) letterboxed vignettes and float32 (n, 3) sizes -> float32 (n, dim) embeddings."""
        ...
