"""The catalogue in memory: small, slow and plain, the reference that every other one is tested against."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from plankter._errors import Conflict, NotFound
from plankter.store.base import ClassCount, ParticleFilter, ParticleRow, ParticleRows, RunRecord
from plankter.store.encoding import status_of
from plankter.types import Annotation, Predictions, Run, Sample, StandingLabel, Taxon, standing_label

SORTS = ("index", "score", "esd_um", "area_um2")


def now_utc() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


@dataclass
class _Held:
    run: Run
    rows: ParticleRows
    ingested_at: datetime
    model_id: str | None = None
    predicted: dict[int, tuple[str, float]] = field(default_factory=dict)


class MemoryCatalogue:
    """A `Catalogue` that ends with the process; safe for threads.

    Args:
        clock: tells the moment of an ingest.
    """

    def __init__(self, *, clock: Callable[[], datetime] = now_utc) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._held: dict[str, _Held] = {}
        self._samples: dict[str, Sample] = {}
        self._facts: list[tuple[int, Annotation]] = []
        self._last = 0
        self._taxa: dict[str, Taxon] = {}
        self._models: dict[str, str] = {}
        self._meta: dict[str, str] = {}

    def close(self) -> None:
        """Nothing to let go of."""

    def _of(self, run_id: str) -> _Held:
        try:
            return self._held[run_id]
        except KeyError:
            raise NotFound(f"no run {run_id!r} in the catalogue") from None

    # -- runs and samples
    def put_run(self, run: Run, rows: ParticleRows) -> None:
        """See `Catalogue.put_run`."""
        with self._lock:
            old = self._held.get(run.run_id)
            if old is not None and len(old.rows) != len(rows):
                raise Conflict(
                    f"run {run.run_id} has {len(old.rows)} particles in the catalogue, now {len(rows)}",
                    hint="remove the run first",
                )
            kept = {} if old is None else {"model_id": old.model_id, "predicted": old.predicted}
            self._held[run.run_id] = _Held(run, rows, self._clock(), **kept)  # type: ignore[arg-type]
            self._samples.setdefault(run.sample_id, Sample(run.sample_id))

    def remove_run(self, run_id: str) -> None:
        """See `Catalogue.remove_run`."""
        with self._lock:
            self._of(run_id)
            del self._held[run_id]

    def run(self, run_id: str) -> RunRecord:
        """See `Catalogue.run`."""
        with self._lock:
            held = self._of(run_id)
            rows = held.rows
            return RunRecord(
                run=held.run,
                particles=len(rows),
                vignettes=int(rows.has_vignette.sum()),
                masks=int(rows.has_mask.sum()),
                failures=sum(failure is not None for failure in rows.failure),
                predicted=len(held.predicted),
                validated=sum(status_of(label) == "validated" for label in self.standing(run_id).values()),
                model_id=held.model_id,
                ingested_at=held.ingested_at,
            )

    def runs(self) -> list[RunRecord]:
        """See `Catalogue.runs`."""
        with self._lock:
            records = [self.run(run_id) for run_id in self._held]
            return sorted(records, key=lambda r: (r.run.sample_id, r.run.name, r.run.run_id))

    def put_sample(self, sample: Sample) -> None:
        """See `Catalogue.put_sample`."""
        with self._lock:
            self._samples[sample.sample_id] = sample

    def sample(self, sample_id: str) -> Sample:
        """See `Catalogue.sample`."""
        with self._lock:
            if sample_id not in self._samples:
                raise NotFound(f"no sample {sample_id!r} in the catalogue")
            return self._samples[sample_id]

    def samples(self) -> list[Sample]:
        """See `Catalogue.samples`."""
        with self._lock:
            return [self._samples[sample_id] for sample_id in sorted(self._samples)]

    def attach(self, run_id: str, sample_id: str) -> None:
        """See `Catalogue.attach`."""
        with self._lock:
            held = self._of(run_id)
            held.run = replace(held.run, sample_id=sample_id)
            self._samples.setdefault(sample_id, Sample(sample_id))

    # -- predictions
    def put_predictions(self, predictions: Predictions) -> None:
        """See `Catalogue.put_predictions`."""
        with self._lock:
            held = self._of(predictions.run_id)
            outside = [int(i) for i in predictions.index if not 0 <= i < len(held.rows)]
            if outside:
                raise NotFound(f"run {predictions.run_id} has no particle {outside[0]}; it has {len(held.rows)}")
            held.model_id = predictions.model_id
            held.predicted = best_of(predictions)

    # -- labels
    def annotate(self, annotations: Sequence[Annotation]) -> int:
        """See `Catalogue.annotate`."""
        with self._lock:
            for fact in annotations:
                if fact.index >= len(self._of(fact.run_id).rows):
                    raise NotFound(f"run {fact.run_id} has no particle {fact.index}")
            for fact in annotations:
                self._last += 1
                self._facts.append((self._last, fact))
            return self._last

    def annotations(self, run_id: str | None = None, *, after: int = 0) -> Iterator[tuple[int, Annotation]]:
        """See `Catalogue.annotations`."""
        with self._lock:
            if run_id is not None:
                self._of(run_id)
            return iter([(s, f) for s, f in self._facts if s > after and run_id in (None, f.run_id)])

    def standing(self, run_id: str) -> dict[int, StandingLabel]:
        """See `Catalogue.standing`."""
        facts: dict[int, list[Annotation]] = defaultdict(list)
        for _, fact in self.annotations(run_id):
            if fact.index < len(self._held[run_id].rows):
                facts[fact.index].append(fact)
        labels = {index: standing_label(facts[index]) for index in sorted(facts)}
        return {index: label for index, label in labels.items() if label is not None}

    # -- questions
    def _rows(self, run_id: str) -> list[ParticleRow]:
        held, standing = self._of(run_id), self.standing(run_id)
        found = []
        for i, failure in enumerate(held.rows.failure):
            predicted, score = held.predicted.get(i, (None, None))
            label = standing.get(i)
            found.append(
                ParticleRow(
                    run_id, i, int(held.rows.width_px[i]), int(held.rows.height_px[i]), known(held.rows.esd_um[i]),
                    known(held.rows.area_um2[i]), predicted, score, label.class_id if label else None,
                    status_of(label), failure,
                )
            )  # fmt: skip
        return found

    def page(
        self,
        where: ParticleFilter,
        *,
        sort: str = "index",
        descending: bool = False,
        after: tuple[Any, ...] | None = None,
        limit: int = 200,
    ) -> tuple[list[ParticleRow], tuple[Any, ...] | None]:
        """See `Catalogue.page`."""  # fmt: skip
        check_page(sort, limit)
        with self._lock:
            if where.run_id is not None:
                self._of(where.run_id)
            if where.sample_id is not None:
                self.sample(where.sample_id)
            rows = [
                row
                for run_id, held in self._held.items()
                if where.run_id in (None, run_id) and where.sample_id in (None, held.run.sample_id)
                for row in self._rows(run_id)
                if where.predicted in (None, row.predicted)
                and where.label in (None, row.label)
                and where.status in (None, row.status)
            ]
        keyed = [(page_key(row, sort), row) for row in rows]
        valued = sorted((k for k in keyed if k[0][0] is not None), key=lambda k: k[0], reverse=descending)
        unknown = sorted((k for k in keyed if k[0][0] is None), key=lambda k: k[0][1:], reverse=descending)
        left = [k for k in [*valued, *unknown] if after is None or _is_beyond(k[0], tuple(after), descending)]
        chosen = left[:limit]
        return [row for _, row in chosen], chosen[-1][0] if len(left) > limit else None

    def class_counts(self, run_id: str | None = None) -> list[ClassCount]:
        """See `Catalogue.class_counts`."""
        with self._lock:
            if run_id is not None:
                self._of(run_id)
            counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
            for each in self._held if run_id is None else [run_id]:
                for class_id, _ in self._held[each].predicted.values():
                    counts[each, class_id][0] += 1
                for label in self.standing(each).values():
                    if status_of(label) == "validated" and label.class_id is not None:
                        counts[each, label.class_id][1] += 1
            return [ClassCount(*key, *counts[key]) for key in sorted(counts)]

    # -- class list, models, settings
    def put_taxa(self, taxa: Sequence[Taxon]) -> None:
        """See `Catalogue.put_taxa`."""
        with self._lock:
            self._taxa.update({taxon.class_id: taxon for taxon in taxa})

    def taxa(self) -> list[Taxon]:
        """See `Catalogue.taxa`."""
        with self._lock:
            return list(self._taxa.values())

    def put_model(self, model_id: str, name: str, facts: Mapping[str, Any]) -> None:
        """See `Catalogue.put_model`."""
        with self._lock:
            self._models[model_id] = json.dumps({"name": name, **facts})

    def models(self) -> dict[str, dict[str, Any]]:
        """See `Catalogue.models`."""
        with self._lock:
            return {model_id: json.loads(self._models[model_id]) for model_id in sorted(self._models)}

    def get_meta(self, key: str) -> str | None:
        """See `Catalogue.get_meta`."""
        with self._lock:
            return self._meta.get(key)

    def put_meta(self, key: str, value: str) -> None:
        """See `Catalogue.put_meta`."""
        with self._lock:
            self._meta[key] = value

    def check(self) -> list[str]:
        """Nothing is kept twice here, so nothing can be inconsistent."""
        return []


def known(value: float | np.floating[Any]) -> float | None:
    """A number, None where it is NaN."""
    return None if np.isnan(value) else float(value)


def best_of(predictions: Predictions) -> dict[int, tuple[str, float]]:
    """Particle index -> best class_id and its score."""
    if not predictions.best.shape[1]:
        return {}
    columns = zip(
        predictions.index.tolist(), predictions.best[:, 0].tolist(), predictions.scores[:, 0].tolist(), strict=True
    )
    return {index: (predictions.class_ids[best], score) for index, best, score in columns}


def page_key(row: ParticleRow, sort: str) -> tuple[Any, ...]:
    """The key of a row: the value sorted by (None by index), run_id, index."""
    return (None if sort == "index" else getattr(row, sort), row.run_id, row.index)


def check_page(sort: str, limit: int) -> None:
    """Refuses what no page can be made of.

    Raises:
        ValueError: an unknown sort key or a limit below 1.
    """
    if sort not in SORTS:
        raise ValueError(f"sort must be one of {', '.join(SORTS)}, got {sort!r}")
    if limit < 1:
        raise ValueError(f"limit must be 1 or more, got {limit}")


def _is_beyond(key: tuple[Any, ...], after: tuple[Any, ...], descending: bool) -> bool:
    if (key[0] is None) != (after[0] is None):
        return key[0] is None  # unknown values come last either way
    ours, theirs = (key[1:], after[1:]) if key[0] is None else (key, after)
    return bool(ours < theirs if descending else ours > theirs)
