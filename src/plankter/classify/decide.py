"""From scores to what is said: a class, a wider group, or that it is unknown; and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

DEFAULT_GROUP_SCORE = 0.9


class Reason(StrEnum):
    """Why a decision is what it is; the text stands in tables for users."""

    HIGHEST = "highest score"
    GROUP = "the class is uncertain, its group is not"
    UNCERTAIN = "no class or group is certain enough"
    NOVEL = "unlike the images the model learnt from"
    NO_IMAGE = ""


REASONS = tuple(Reason)


@dataclass(frozen=True)
class Thresholds:
    """From where on something is said.

    Attributes:
        by_class: class_id -> lowest score; a class that is not named needs none.
        group: lowest summed score of a wider group.
        distance: largest distance to the training images, None where novelty is not judged.
    """

    by_class: Mapping[str, float] = field(default_factory=dict)
    group: float = DEFAULT_GROUP_SCORE
    distance: float | None = None


@dataclass(frozen=True)
class Taxonomy:
    """The model's classes and the wider groups above them.

    Attributes:
        outcomes: every class of the model in its order, then every group above that holds two of them or more.
        members: bool (outcomes, classes): which classes an outcome stands for.
        above: for each class the positions of the groups above it, nearest first.
    """

    outcomes: tuple[str, ...]
    members: npt.NDArray[np.bool_]
    above: tuple[tuple[int, ...], ...]


def taxonomy_of(class_ids: Sequence[str], parents: Mapping[str, str | None]) -> Taxonomy:
    """The taxonomy of a model's classes.

    Args:
        class_ids: of the model.
        parents: class_id -> the next wider class, for all classes of the list; circles end where they close.
    """
    chains = []
    for class_id in class_ids:
        chain: list[str] = []
        above = parents.get(class_id)
        while above and above not in chain and above != class_id:
            chain.append(above)
            above = parents.get(above)
        chains.append(chain)
    holds: dict[str, set[int]] = {}
    for c, chain in enumerate(chains):
        for group in [class_ids[c], *chain]:
            holds.setdefault(group, set()).add(c)
    groups = [group for group in holds if len(holds[group]) > 1]
    outcomes = [*class_ids, *groups]
    members = np.zeros((len(outcomes), len(class_ids)), bool)
    members[: len(class_ids)] = np.eye(len(class_ids), dtype=bool)
    for g, group in enumerate(groups, len(class_ids)):
        members[g, sorted(holds[group])] = True
    # a class that is itself a group, a genus beside its species, may widen to itself with all below it
    place = {group: g for g, group in enumerate(groups, len(class_ids))}
    widen = tuple(tuple(place[g] for g in [class_ids[c], *chain] if g in place) for c, chain in enumerate(chains))
    return Taxonomy(tuple(outcomes), members, widen)


def decide_many(
    scores: npt.NDArray[np.floating],
    distance: npt.NDArray[np.floating] | None,
    thresholds: Thresholds,
    taxonomy: Taxonomy,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """`decide` for (n, classes) scores.

    Returns:
        int16 (n,) positions in ``taxonomy.outcomes``, -1 for unknown; float32 (n,) scores of what is said (of the best
        class where nothing is); int8 (n,) positions in `REASONS`.
    """
    n, classes = scores.shape
    best, top = scores.argmax(axis=1), scores.max(axis=1).astype(np.float32)
    lowest = np.array([thresholds.by_class.get(c, 0.0) for c in taxonomy.outcomes[:classes]], np.float32)
    outcome, said = best.astype(np.int16), top.copy()
    reason = np.full(n, REASONS.index(Reason.HIGHEST), np.int8)
    for row in np.flatnonzero(top < lowest[best]).tolist():
        outcome[row], reason[row] = -1, REASONS.index(Reason.UNCERTAIN)
        for group in taxonomy.above[best[row]]:
            summed = float(scores[row, taxonomy.members[group]].sum())
            if summed >= thresholds.group:
                outcome[row], said[row] = group, min(summed, 1.0)
                reason[row] = REASONS.index(Reason.GROUP)
                break
    if thresholds.distance is not None and distance is not None:
        far = distance > thresholds.distance
        outcome[far], said[far], reason[far] = -1, top[far], REASONS.index(Reason.NOVEL)
    return outcome, said, reason


def decide(
    scores: npt.NDArray[np.floating], distance: float | None, thresholds: Thresholds, taxonomy: Taxonomy
) -> tuple[str | None, float, str]:
    """What is said of one particle: (class or group or None, its score, the reason).

    An image farther from the training images than ``thresholds.distance`` is unknown. Else the class of the highest
    score is given where it reaches its threshold; else the nearest group above it whose summed score reaches
    ``thresholds.group``; else nothing.

    Args:
        scores: (classes,) calibrated scores.
        distance: to the training images, None where not known.
    """
    away = None if distance is None else np.array([distance])
    outcome, said, reason = decide_many(scores[None, :], away, thresholds, taxonomy)
    name = taxonomy.outcomes[outcome[0]] if outcome[0] >= 0 else None
    return name, float(said[0]), REASONS[reason[0]].value
