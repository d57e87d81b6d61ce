"""What a catalogue is: everything that is asked and changed. ``memory`` is the reference for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from plankter.types import Annotation, Predictions, Run, Sample, StandingLabel, Taxon

CHUNK_ROWS = 2000


@dataclass(frozen=True)
class ParticleRows:
    """Sort keys of one run's particles by column. ``has_vignette`` False with failure None: a list alone."""

    width_px: npt.NDArray[np.int32]  # 0 where unknown
    height_px: npt.NDArray[np.int32]
    esd_um: npt.NDArray[np.float32]  # NaN where unknown
    area_um2: npt.NDArray[np.float32]
    has_vignette: npt.NDArray[np.bool_]
    has_mask: npt.NDArray[np.bool_]
    failure: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.failure)


@dataclass(frozen=True)
class RunRecord:
    """One ingested run as a query sees it."""

    run: Run
    particles: int
    vignettes: int
    masks: int
    failures: int
    predicted: int
    validated: int  # particles whose standing label is a person's, confirmed or corrected
    model_id: str | None  # of the newest predictions
    ingested_at: datetime


@dataclass(frozen=True)
class ParticleRow:
    """One row of a page. ``status`` is "unlabelled", "imported", "rule", "unsure" or "validated"."""

    run_id: str
    index: int
    width_px: int
    height_px: int
    esd_um: float | None
    area_um2: float | None
    predicted: str | None  # class_id
    score: float | None
    label: str | None  # standing class_id
    status: str
    failure: str | None


@dataclass(frozen=True)
class ParticleFilter:
    """All given conditions must hold."""

    run_id: str | None = None
    sample_id: str | None = None
    predicted: str | None = None
    label: str | None = None
    status: str | None = None


class ClassCount(NamedTuple):
    """How often a class is predicted and how often a person stands behind it, over one run.

    A tuple, as there are thousands in an answer and tuples are made at a third of the cost of data classes.
    """

    run_id: str
    class_id: str
    predicted: int
    validated: int


class Catalogue(Protocol):
    """An entry point of ``plankter.catalogues``. Every method is one or more transactions; a run is wholly in or
    wholly out for every query, at any moment, whatever is killed. Unknown ids raise `NotFound`."""

    def close(self) -> None:
        """Gives back connections and files; a closed catalogue answers nothing more."""
        ...

    # -- runs and samples
    def put_run(self, run: Run, rows: ParticleRows) -> None:
        """Adds a run, or replaces it (an updated one) keeping predictions and annotations; in chunks of
        `CHUNK_ROWS` under the state ``ingesting``, flipped in the last transaction. The sample is created by id
        where it does not exist."""
        ...

    def remove_run(self, run_id: str) -> None:
        """Takes a run out with its predictions. Its facts stay in the log and stand again when the run comes back; while
        it is out `annotations` gives them only where no run is asked for."""
        ...

    def run(self, run_id: str) -> RunRecord:
        """One run with the counts of its particles."""
        ...

    def runs(self) -> list[RunRecord]:
        """All runs, by sample_id, then name, then run_id."""
        ...

    def put_sample(self, sample: Sample) -> None:
        """Adds a sample, or replaces the one of the same sample_id."""
        ...

    def sample(self, sample_id: str) -> Sample:
        """One sample."""
        ...

    def samples(self) -> list[Sample]:
        """All samples, by sample_id."""
        ...

    def attach(self, run_id: str, sample_id: str) -> None:
        """Moves a run to another (existing or new) sample."""
        ...

    # -- predictions
    def put_predictions(self, predictions: Predictions) -> None:
        """Replaces the best prediction shown for each particle; a person's label is never touched. In chunks; until the
        last one the earlier predictions stand."""
        ...

    # -- labels
    def annotate(self, annotations: Sequence[Annotation]) -> int:
        """Appends facts in one transaction and refolds the standing labels.

        Returns:
            The sequence number of the last fact.
        """
        ...

    def annotations(self, run_id: str | None = None, *, after: int = 0) -> Iterator[tuple[int, Annotation]]:
        """Facts in the order they were appended, with their sequence numbers above ``after``."""
        ...

    def standing(self, run_id: str) -> dict[int, StandingLabel]:
        """Particle index -> standing label, for those that have one."""
        ...

    # -- questions
    def page(
        self,
        where: ParticleFilter,
        *,
        sort: str = "index",
        descending: bool = False,
        after: tuple[Any, ...] | None = None,
        limit: int = 200,
    ) -> tuple[list[ParticleRow], tuple[Any, ...] | None]:
        """A page by keyset: ``sort`` is "index", "score", "esd_um" or "area_um2" (unknown values last either way),
        ties by run_id and index. Returns the rows and the key to pass as ``after`` for the next page, or None."""
        ...

    def class_counts(self, run_id: str | None = None) -> list[ClassCount]:
        """Exact, from a table kept in the same transaction as what it counts; by run_id, then class_id."""
        ...

    # -- class list, models, settings
    def put_taxa(self, taxa: Sequence[Taxon]) -> None:
        """Replaces entries of the class list by class_id and appends new ones; the order is kept."""
        ...

    def taxa(self) -> list[Taxon]:
        """The class list in its order."""
        ...

    def put_model(self, model_id: str, name: str, facts: Mapping[str, Any]) -> None:
        """Remembers which model a model_id is."""
        ...

    def models(self) -> dict[str, dict[str, Any]]:
        """model_id -> {"name": ..., **facts}."""
        ...

    def get_meta(self, key: str) -> str | None:
        """A setting of the catalogue itself, None where it was never put."""
        ...

    def put_meta(self, key: str, value: str) -> None:
        """Puts or replaces a setting of the catalogue itself."""
        ...

    def check(self) -> list[str]:
        """What is inconsistent inside the catalogue (counts against rows, folds against facts), in plain words."""
        ...
