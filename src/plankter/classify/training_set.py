"""What a model learns from, without the pixels: names, labels and the group each image came with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TrainingSet:
    """Labelled images by column.

    Attributes:
        class_ids: all classes.
        labels: int64 (n,) positions in ``class_ids``.
        names: (n,) what each image is called: file, or run_id and index.
        groups: (n,) sample, date or run that each image came from, None where the grouping is not known; images of one
            group are more alike than others, so that a split must not part them.

    Raises:
        ValueError: columns of different lengths, labels outside the classes, a class named twice.
    """

    class_ids: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.names)
        if self.labels.shape != (n,) or (self.groups is not None and len(self.groups) != n):
            raise ValueError(f"{n} names, {len(self.labels)} labels and {len(self.groups or ())} groups do not fit")
        if len(set(self.class_ids)) != len(self.class_ids):
            raise ValueError("a class is named twice")
        if n and not (self.labels.min() >= 0 and self.labels.max() < len(self.class_ids)):
            raise ValueError(f"labels must be positions in 0..{len(self.class_ids) - 1}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64 (classes,) images of each class."""
        return np.bincount(self.labels, minlength=len(self.class_ids)).astype(np.int64)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over names and classes in the order of the names."""
        found = hashlib.sha256()
        for name, label in sorted(zip(self.names, self.labels.tolist(), strict=True)):
            found.update(f"{name}\0{self.class_ids[label]}\n".encode())
        return found.hexdigest()[:16]

    def take(self, rows: npt.NDArray[np.integer]) -> TrainingSet:
        """The images at ``rows``."""
        chosen = rows.tolist()
        groups = None if self.groups is None else tuple(self.groups[row] for row in chosen)
        return TrainingSet(self.class_ids, self.labels[rows], tuple(self.names[row] for row in chosen), groups)
