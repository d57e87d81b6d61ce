"""A discriminant's head after images of old or new classes joined: from sums, without the images learnt from before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError
from plankter.classify.lda import LinearFit, Statistics, combine, load_statistics, solve
from plankter.classify.models import MODEL_JSON, STATISTICS_FILE, read_model_json
from plankter.classify.novelty import Reference, reference_of


@dataclass(frozen=True)
class Recipe:
    """How a head came from its statistics.

    Attributes:
        shrinkage: of the covariance, 0..1.
        balanced: every class equally likely beforehand.
        scale: what weight and bias were multiplied by; the temperature of the calibration holds for that scale.
    """

    shrinkage: float
    balanced: bool
    scale: float

    def head(self, found: Statistics) -> LinearFit:
        """The head over statistics, at the same shrinkage and scale.

        Raises:
            ValueError: a class without images.
        """
        plain = solve(found, self.shrinkage, balanced=self.balanced)
        by = np.float32(self.scale)
        return LinearFit(plain.weight * by, plain.bias * by, plain.setting, shrinkage=self.shrinkage)


def load_discriminant(folder: Path) -> tuple[Statistics, Recipe]:
    """The statistics of the model in ``folder`` and how its head came from them.

    Raises:
        ModelError: a model without (not an LDA head, or made before statistics were kept with models), or damaged.
    """
    facts = read_model_json(folder)
    kept = facts.get("statistics")
    if not isinstance(kept, Mapping) or not (folder / STATISTICS_FILE).is_file():
        hint = "a class can join models of `plankter train --mode head --head lda`; train such a one, or train on all images again"
        raise ModelError(
            "this model keeps no statistics of its images, so no class can be added", path=folder, hint=hint
        )
    try:
        recipe = Recipe(float(kept["shrinkage"]), bool(kept["balanced"]), float(kept["scale"]))
        if not (0 <= recipe.shrinkage <= 1 and np.isfinite(recipe.scale) and recipe.scale > 0):
            raise ValueError(f"shrinkage {recipe.shrinkage}, scale {recipe.scale}")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"'statistics' cannot be read: {error!r}", path=folder / MODEL_JSON) from error
    found = load_statistics(folder / STATISTICS_FILE)
    if found.class_ids != tuple(facts.get("class_ids") or ()):
        raise ModelError("the statistics are of other classes than the model", path=folder / STATISTICS_FILE)
    return found, recipe


def joined(first: Statistics, second: Statistics) -> Statistics:
    """Both sets of images together, as `combine`.

    Raises:
        ModelError: embeddings of another network.
    """
    try:
        return combine(first, second)
    except ValueError as error:
        raise ModelError(f"the new images do not fit the model: {error}") from error


def joined_reference(
    both: Statistics,
    dim: int,
    old: Reference | None,
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
) -> Reference:
    """The reference of both sets: its axes from their sums, its sample the old one and the new images.

    Args:
        both: of all images; the first ``dim`` of its numbers are the embedding.
        old: of the model before, None where it had none.
        embeddings, labels: new images that are kept, by the positions of ``both.class_ids``.
    """
    kept = [embeddings] if old is None else [old.embeddings.astype(np.float32), embeddings]
    of = [labels] if old is None else [old.labels.astype(np.int64), labels]
    return reference_of(
        both.counts, both.means[:, :dim], both.scatter[:dim, :dim], np.concatenate(kept), np.concatenate(of)
    )
