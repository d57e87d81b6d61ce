"""What a network is shown: classes in balance, shuffled augmented batches. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter.classify.finetune_images import FloatArray, ImageSource, IntArray, UInt8Array, resized
from plankter.classify.selection import RESAMPLE_UP_TO, balance_for
from plankter.vignettes.augment import Augmentation, augment
from plankter.vignettes.letterbox import size_inputs

ContextColumns = tuple[tuple[str, ...], npt.NDArray[np.floating]]  # names of c columns, (n, c) values
EFFECTIVE_BETA = 0.999


@dataclass(frozen=True)
class Balance:
    """How rare classes are helped.

    Attributes:
        method: "none", "resample" or "loss".
        weights: float64 (classes,): of an image in the loss, or of being drawn; their mean over the images is 1.
        reason: one sentence for the report.
    """

    method: str
    weights: npt.NDArray[np.float64]
    reason: str


def choose_balance(counts: npt.ArrayLike, wanted: str = "auto") -> Balance:
    """How an imbalance of classes is met by `balance_for`, and the weights for it.

    "resample" draws an image with a chance of 1 / sqrt(images of its class); "loss" weights it by the inverse of the
    effective number of its class, (1 - beta) / (1 - beta^n) with beta 0.999 (Cui et al. 2019, CVPR).

    Args:
        counts: (classes,) training images; classes without one have weight 0.
        wanted: as in `balance_for`; "auto" resamples small sets and weights large ones.

    Raises:
        ModelError: another word.
    """
    n = np.asarray(counts, dtype=np.float64)
    method, reason = balance_for(n, wanted, resample_up_to=RESAMPLE_UP_TO)
    safe = np.maximum(n, 1)
    if method == "resample":
        weights = 1 / np.sqrt(safe)
    elif method == "loss":
        weights = (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**safe)
    else:
        weights = np.ones(len(n))
    weights = np.where(n > 0, weights, 0.0)
    total = float((weights * n).sum())
    return Balance(method, weights * (n.sum() / total) if total else weights, reason)


@dataclass(frozen=True)
class Batch:
    """uint8 vignettes, float32 (n, 3) size inputs, int64 labels and, with context, float32 (n, 2c)."""

    vignettes: UInt8Array
    sizes: FloatArray
    labels: IntArray
    context: FloatArray | None


@dataclass(frozen=True)
class BatchMaker:
    """Batches of one training; what an epoch shows depends on nothing but the seed and the epoch's number.

    Args:
        data: the images.
        rows: int64, which of them train.
        px: side the network sees.
        batch: images a step; the rest of an epoch that fills no batch is left out.
        context: float32 (n, 2c) for every image of ``data``, or None.
        augmentation: None shows the images as they are.
        size_jitter: spread of the log of a factor that width and height are multiplied by.
        size_hidden: chance that a size is hidden, so that the network can do without.
        context_hidden: chance that the whole context of an image is hidden.
        balance: with "resample" an epoch draws its images with replacement.
    """

    data: ImageSource
    rows: IntArray
    px: int
    batch: int
    seed: int
    balance: Balance
    context: FloatArray | None = None
    augmentation: Augmentation | None = None
    size_hidden: float = 0.0
    size_jitter: float = 0.0
    context_hidden: float = 0.0

    @property
    def steps(self) -> int:
        """Batches of an epoch, at least one."""
        return max(1, len(self.rows) // self.batch)

    def order(self, epoch: int) -> IntArray:
        """The rows of one epoch in the order they are shown."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.balance.method != "resample":
            return rng.permutation(self.rows)
        chance = self.balance.weights[self.data.labels[self.rows]]
        return rng.choice(self.rows, len(self.rows), p=chance / chance.sum())

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``skip`` on, each made while the one before it is used."""
        order = self.order(epoch)
        if skip >= self.steps:
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._make, order, epoch, skip)
            for step in range(skip + 1, self.steps):
                ready, ahead = ahead.result(), pool.submit(self._make, order, epoch, step)
                yield ready
            yield ahead.result()

    def _make(self, order: IntArray, epoch: int, step: int) -> Batch:
        rows = order[step * self.batch : (step + 1) * self.batch]
        rng = np.random.default_rng((self.seed, epoch, step))
        pixels, how = self.data.pixels(rows), self.augmentation
        if how is None:
            pixels = resized(pixels, self.px)
        else:
            pixels = np.stack([augment(square, self.px, rng, how) for square in pixels])
        sizes = self.data.sizes[rows].copy()
        if self.size_jitter:
            sizes *= np.exp(rng.normal(0, self.size_jitter, (len(rows), 1))).astype(np.float32)
        sizes[rng.random(len(rows)) < self.size_hidden] = np.nan
        context = None
        if self.context is not None:
            context = self.context[rows].copy()
            context[rng.random(len(rows)) < self.context_hidden] = 0.0
        return Batch(pixels, size_inputs(sizes[:, 0], sizes[:, 1]), self.data.labels[rows], context)
