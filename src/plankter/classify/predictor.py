"""Everything a model does after its network: scores, another class mix, distance, decision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from plankter._errors import ModelError, SettingsError
from plankter.classify.calibrate import adjust_mix, shares, softened
from plankter.classify.decide import REASONS, Taxonomy, Thresholds, decide_many, taxonomy_of
from plankter.classify.head import load_head
from plankter.classify.models import MODEL_JSON, read_model_json, thresholds_of
from plankter.classify.novelty import Reference, load_reference
from plankter.classify.trees import load_forest
from plankter.taxa.classes import match_name
from plankter.types import Model, Taxon

FloatArray = npt.NDArray[np.float32]
TRAINING, BALANCED, ESTIMATED = "training", "balanced", "estimated"
_POWER = re.compile(r"\^(0(?:\.\d+)?|1(?:\.0+)?)$")


class Scorer(Protocol):
    """A fitted head: `Head`, or a forest."""

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        ...

    @property
    def classes(self) -> int:
        """How many classes it scores."""
        ...

    def scores(
        self, embeddings: npt.NDArray[np.floating], extra: npt.NDArray[np.floating] | None = None, /
    ) -> FloatArray:
        """``extra``: (n, columns) context or measures, NaN where missing, for a head that takes them."""
        ...


class Predicted(NamedTuple):
    """Predictions of n embeddings: the k best classes and what is said.

    Attributes:
        best: int16 (n, k) positions in the model's classes, best first; of equal scores the earlier class.
        scores: float32 (n, k).
        outcome: int16 (n,) positions in ``Predictor.outcomes``, -1 for unknown.
        said: float32 (n,) score of what is said.
        reason: int8 (n,) positions in `REASONS`.
    """

    best: npt.NDArray[np.int16]
    scores: FloatArray
    outcome: npt.NDArray[np.int16]
    said: FloatArray
    reason: npt.NDArray[np.int8]


class Predictor:
    """One model's head with its calibration, class mix, thresholds and reference.

    Args:
        scorer: embeddings -> calibrated scores under the training mix.
        taxonomy: the model's classes and the groups above them.
        thresholds: from where on something is said.
        reference: what the model learnt from, None where it keeps none.
        training_mix, expected_mix: (classes,) shares or counts; where both are given the scores are corrected from one
            to the other.
    """

    def __init__(
        self,
        scorer: Scorer,
        taxonomy: Taxonomy,
        thresholds: Thresholds,
        *,
        reference: Reference | None = None,
        training_mix: npt.ArrayLike | None = None,
        expected_mix: npt.ArrayLike | None = None,
    ) -> None:
        self.scorer, self.taxonomy, self.thresholds, self.reference = scorer, taxonomy, thresholds, reference
        self.training_mix = training_mix
        self._mix = None
        if training_mix is not None and expected_mix is not None:
            self._mix = shares(training_mix, scorer.classes), shares(expected_mix, scorer.classes)

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return self.scorer.dim

    @property
    def classes(self) -> int:
        """How many classes it scores."""
        return self.scorer.classes

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Everything that can be said: the classes, then the groups above them."""
        return self.taxonomy.outcomes

    def scores(self, embeddings: npt.NDArray[np.floating], extra: npt.NDArray[np.floating] | None = None) -> FloatArray:
        """float (n, dim) -> float32 (n, classes) scores under the expected class mix.

        ``extra``: (n, columns) context or measures, for a head that takes them.
        """
        found = self.scorer.scores(embeddings, extra)
        return found if self._mix is None else adjust_mix(found, *self._mix)

    def predict(
        self,
        embeddings: npt.NDArray[np.floating],
        k: int = 5,
        extra: npt.NDArray[np.floating] | None = None,
    ) -> Predicted:
        """The k best classes and the decision of each embedding."""
        return self.decided(self.scores(embeddings, extra), embeddings, k)

    def decided(self, scores: FloatArray, embeddings: npt.NDArray[np.floating], k: int = 5) -> Predicted:
        """The same where the scores, float32 (n, classes), are known already."""
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        away = None
        if self.thresholds.distance is not None and self.reference is not None:
            away = self.reference.distance(embeddings)
        outcome, said, reason = decide_many(scores, away, self.thresholds, self.taxonomy)
        top = np.take_along_axis(scores, best, axis=1)
        return Predicted(best.astype(np.int16), top, outcome, said, reason)

    def words(self, outcome: int, reason: int) -> tuple[str, str]:
        """Decision and reason as they stand in tables; an empty decision is an unknown."""
        return (self.outcomes[outcome] if outcome >= 0 else "", REASONS[reason].value)


def expected_mix(
    setting: str, class_ids: Sequence[str], *, validated: Mapping[str, int] | None = None
) -> npt.NDArray[np.float64] | None:
    """The class mix that a setting asks for, None for that of the training.

    Args:
        setting: "training", "estimated" (each run's own, which only the images can tell: `estimate_mix`), "balanced" (equal
            shares), "validated" (the workspace's validated labels, one image of each
            class added so that none is impossible), or the path of a CSV file with the columns class and share (or
            count). The last two may end in a power, as ``shares.csv^0.7``: between the shares as they are (1) and equal
            ones (0), see `softened`.
        class_ids: of the model.
        validated: class_id -> validated labels, for "validated".

    Raises:
        SettingsError: no such file, a table that does not say what was expected, or a power where none can be.
    """
    if power := _POWER.search(setting):
        told = expected_mix(setting[: power.start()], class_ids, validated=validated)
        if told is None:
            hint = "a power goes with validated or a CSV file"
            raise SettingsError(f"class mix {setting!r}: those shares cannot be softened", hint=hint)
        return softened(told, float(power[1]))
    if setting in (TRAINING, ESTIMATED):
        return None
    if setting == BALANCED:
        return np.ones(len(class_ids))
    if setting == "validated":
        counts = validated or {}
        if not any(counts.get(c, 0) for c in class_ids):
            hint = "validate some particles, or choose another class mix"
            raise SettingsError("the workspace has no validated label of a class of this model", hint=hint)
        return np.array([counts.get(c, 0) + 1.0 for c in class_ids])
    return _mix_table(Path(setting), class_ids)


def _mix_table(path: Path, class_ids: Sequence[str]) -> npt.NDArray[np.float64]:
    import csv

    found = np.zeros(len(class_ids))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            names = {name.strip().lower(): name for name in table.fieldnames or ()}
            share = names.get("share") or names.get("count")
            if "class" not in names or share is None:
                raise SettingsError(f"expected the columns class and share (or count), got {list(names)}", path=path)
            for row in table:
                class_id = match_name(row[names["class"]] or "", class_ids)
                if class_id is not None:
                    found[list(class_ids).index(class_id)] += float(row[share])
    except (OSError, UnicodeDecodeError) as error:
        hint = "expected training, balanced, estimated, validated, or the path of a CSV file"
        raise SettingsError(f"the class mix cannot be read: {error}", path=path, hint=hint) from error
    except (TypeError, ValueError, csv.Error) as error:
        raise SettingsError(f"the class mix needs numbers of 0 or more: {error}", path=path) from error
    if not (np.isfinite(found).all() and (found >= 0).all() and found.sum() > 0):
        raise SettingsError("the class mix needs numbers of 0 or more for classes of the model", path=path)
    return found


def load_predictor(
    model: Model,
    *,
    mix: npt.ArrayLike | None = None,
    taxa: Iterable[Taxon] = (),
    scorer: Scorer | None = None,
) -> Predictor:
    """The predictor of a model.

    Args:
        model: as `load_model` gives it.
        mix: (classes,) expected shares, None for those of the training.
        taxa: the class list, for the groups above the model's classes.
        scorer: another head than the model's own.

    Raises:
        ModelError: parts that are damaged or do not fit each other.
    """
    facts = read_model_json(model.folder)
    counts = facts.get("training_class_counts") or {}
    training = [float(counts.get(c, 0)) for c in model.class_ids]
    if mix is not None and not any(training):
        raise ModelError("the model does not say how many images of each class it learnt from", path=model.folder)
    reference = load_reference(model.folder)
    used = scorer or load_scorer(model.folder, facts)
    fits = reference is None or (reference.mean.shape == (used.dim,) and len(reference.mix) == used.classes)
    if not fits:
        raise ModelError("the reference does not fit the head", path=model.folder)
    return Predictor(
        used,
        taxonomy_of(model.class_ids, {taxon.class_id: taxon.parent for taxon in taxa}),
        thresholds_of(facts, model.folder / MODEL_JSON),
        reference=reference,
        training_mix=training if any(training) else None,
        expected_mix=mix,
    )


def load_scorer(folder: Path, facts: Mapping[str, Any]) -> Scorer:
    """The head of the model in ``folder``, of whichever kind.

    Raises:
        ModelError: damaged, or of a kind that is not known.
    """
    kind = (facts.get("head") or {}).get("kind", "linear")
    if kind == "trees":
        return load_forest(folder)
    if kind != "linear":
        raise ModelError(f"head kind {kind!r} is not known", path=folder)
    return load_head(folder)
