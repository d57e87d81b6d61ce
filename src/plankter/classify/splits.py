"""Which images train, which tune and which judge: by name, by group, by chance with a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter.classify.training_set import TrainingSet

Rows = npt.NDArray[np.int64]
PARTS = ("train", "tune", "judge")
SHARES = (0.8, 0.1, 0.1)
FEWEST_GROUPS = 3  # one for each part
NAMED = 5


def judges(file_name: str) -> bool:
    """Whether an image belongs to the judging half of a validation set; the other half fits temperature and thresholds.

    The half is the parity of the first byte of the SHA-256 of the file's name (without folders): it depends on nothing
    but the name, so that no later change of the set moves an image from one half to the other.
    """
    return hashlib.sha256(file_name.encode()).digest()[0] % 2 == 1


@dataclass(frozen=True)
class Split:
    """Rows of a training set by what they are for.

    Attributes:
        train: fit the weights.
        tune: choose settings, calibrate, set thresholds.
        judge: are looked at once, for the figures that are reported.
        grouped_by: what was kept whole, in words; None where the grouping was not known.
        warnings: what the figures do not tell, in words.
    """

    train: Rows
    tune: Rows
    judge: Rows
    grouped_by: str | None = None
    warnings: tuple[str, ...] = ()

    def parts(self) -> dict[str, Rows]:
        """Name of each part -> its rows."""
        return {"train": self.train, "tune": self.tune, "judge": self.judge}


def make_split(
    data: TrainingSet,
    seed: int = 0,
    shares: tuple[float, float, float] = SHARES,
    *,
    grouped_by: str = "group",
) -> Split:
    """Splits a training set; groups stay whole where they are known, classes keep their proportions as far as they can.

    Images of one sample are more alike than those of two, near-duplicates among them: where a sample is in two parts,
    the figures promise too much. Every class is in the training part, if need be in none of the others.

    Args:
        data: the images.
        seed: the same seed splits in the same way.
        shares: of train, tune and judge; they add up to 1.
        grouped_by: what the groups of ``data`` are, in words.

    Raises:
        ValueError: shares that are not 0..1 or do not add up to 1, or a class without images.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[0] <= 0:
        raise ValueError(f"shares of train, tune and judge must add up to 1, got {shares}")
    if len(data) == 0 or (data.counts == 0).any():
        raise ValueError("every class needs an image")
    rng = np.random.default_rng(seed)
    warnings = []
    groups = None if data.groups is None else np.unique(data.groups, return_inverse=True)[1].reshape(-1)
    if groups is not None and groups.max() + 1 < FEWEST_GROUPS:
        warnings.append(
            f"only {groups.max() + 1} group{'s' if groups.max() else ''} ({grouped_by}): too few to keep whole"
        )
        groups = None
    if groups is None:
        warnings.append(
            "the images were split one by one, because it is not known which of them come from one sample, date or "
            "run: images of one sample may stand on both sides, and the figures may be too good"
        )
        part = _by_image(data.labels, rng, shares)
    else:
        part = _by_group(data.labels, groups, len(data.class_ids), rng, shares)
    return _finished(data, part, None if groups is None else grouped_by, warnings)


def given_split(data: TrainingSet, parts: Sequence[str], grouped_by: str | None = None) -> Split:
    """A split that the user made: "train", "tune" or "judge" for each image.

    Raises:
        ValueError: another word, or no image to train on or a class without one.
    """
    words = {word: number for number, word in enumerate(PARTS)} | {"validation": 1, "test": 2}
    unknown = sorted({part for part in parts if part.strip().lower() not in words})
    if unknown or len(parts) != len(data):
        raise ValueError(f"expected train, tune or judge for every image, got {', '.join(map(repr, unknown[:NAMED]))}")
    part = np.array([words[p.strip().lower()] for p in parts], np.int64)
    absent = np.flatnonzero(np.bincount(data.labels[part == 0], minlength=len(data.class_ids)) == 0)
    if len(absent):
        raise ValueError(f"no image of {_names(data, absent)} is in the training part")
    return _finished(data, part, grouped_by, [])


def _finished(data: TrainingSet, part: Rows, grouped_by: str | None, warnings: list[str]) -> Split:
    single = np.flatnonzero(data.counts == 1)
    if len(single):
        warnings.append(f"{_names(data, single)}: one image only, which is learnt from and cannot be judged")
    for number, what in ((1, "tuned on"), (2, "judged")):
        there = np.bincount(data.labels[part == number], minlength=len(data.class_ids)) > 0
        absent = np.setdiff1d(np.flatnonzero(~there), single)
        if len(absent) and there.any():
            warnings.append(f"{_names(data, absent)}: no image left to be {what}")
    if not (part == 2).any():
        warnings.append("no image is left to judge the model by")
    rows = [np.flatnonzero(part == number).astype(np.int64) for number in range(3)]
    return Split(rows[0], rows[1], rows[2], grouped_by, tuple(warnings))


def _names(data: TrainingSet, classes: Rows) -> str:
    named = ", ".join(data.class_ids[c] for c in classes[:NAMED])
    rest = len(classes) - NAMED
    return f"{'class' if len(classes) == 1 else 'classes'} {named}" + (f" and {rest} more" if rest > 0 else "")


def _by_image(labels: Rows, rng: np.random.Generator, shares: tuple[float, float, float]) -> Rows:
    part = np.zeros(len(labels), np.int64)
    for c in range(int(labels.max()) + 1):
        rows = rng.permutation(np.flatnonzero(labels == c))
        n = len(rows)
        judge = min(n - 1, max(1 if shares[2] else 0, round(shares[2] * n)))  # figures first,
        tune = min(n - 1 - judge, max(1 if shares[1] else 0, round(shares[1] * n)))  # then settings
        part[rows[:judge]] = 2
        part[rows[judge : judge + tune]] = 1
    return part


def _by_group(
    labels: Rows, groups: Rows, classes: int, rng: np.random.Generator, shares: tuple[float, float, float]
) -> Rows:
    """Largest group first, each to the part that lacks most of its classes (of their wanted share, rare ones alike)."""
    counts = np.zeros((int(groups.max()) + 1, classes))
    np.add.at(counts, (groups, labels), 1)
    total = counts.sum(axis=0)
    wanted = np.outer(shares, total)
    held = np.zeros((3, classes))
    of_group = np.zeros(len(counts), np.int64)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    open_parts = np.array([share > 0 for share in shares])
    for group in order:
        lack = (wanted - held) / np.maximum(wanted, 1e-9)
        gain = (lack * (counts[group] / total)).sum(axis=1)
        of_group[group] = int(np.argmax(np.where(open_parts, gain, -np.inf)))
        held[of_group[group]] += counts[group]
    # no class is absent from the training part: the group that holds least else moves there
    for c in np.flatnonzero(held[0] == 0):
        if held[0, c]:
            continue
        holding = np.flatnonzero(counts[:, c] > 0)
        moved = holding[np.argmin(counts[holding].sum(axis=1))]
        held[of_group[moved]] -= counts[moved]
        of_group[moved] = 0
        held[0] += counts[moved]
    return np.asarray(of_group[groups])
