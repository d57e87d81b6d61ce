"""The embedded catalogue: one SQLite file in WAL mode, for one computer, any number of processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from plankter._errors import NotFound, StoreError
from plankter.store import sqlite_check, sqlite_labels, sqlite_queries, sqlite_rows, sqlite_runs
from plankter.store.base import ClassCount, ParticleFilter, ParticleRow, ParticleRows, RunRecord
from plankter.store.encoding import json_text, run_of, sample_object, sample_of, taxon_object, time_of
from plankter.store.memory import now_utc
from plankter.store.sqlite_connect import Database
from plankter.store.sqlite_counts import CountReader
from plankter.store.sqlite_schema import DONE, SCHEMA_VERSION_KEY, meta, model, run, sample, taxon
from plankter.types import Annotation, Predictions, Run, Sample, StandingLabel, Taxon


class SqliteCatalogue:
    """A `Catalogue` in one file; safe for threads and processes of one computer, never on a network folder.

    Args:
        path: the file; made where it is missing.
        clock: tells the moment of an ingest.

    Raises:
        NewerWorkspace: the file was written by a later version.
        StoreError: the file is damaged or something else.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = now_utc) -> None:
        self.path = path
        self._clock = clock
        self.database = Database(path)
        self._counts = CountReader(self.database)

    def close(self) -> None:
        """Lets go of the file."""
        self.database.close()

    # -- runs and samples
    def put_run(self, run: Run, rows: ParticleRows) -> None:
        """See `Catalogue.put_run`."""
        sqlite_runs.put_run(self.database, run, rows, self._clock())

    def remove_run(self, run_id: str) -> None:
        """See `Catalogue.remove_run`."""
        sqlite_runs.remove_run(self.database, run_id)

    def run(self, run_id: str) -> RunRecord:
        """See `Catalogue.run`."""
        with self.database.read() as connection:
            return _record(sqlite_rows.live_run(connection, run_id))

    def runs(self) -> list[RunRecord]:
        """See `Catalogue.runs`."""
        chosen = select(run).where(run.c.state == DONE).order_by(run.c.sample_id, run.c.name, run.c.run_id)
        with self.database.read() as connection:
            return [_record(row) for row in connection.execute(chosen)]

    def put_sample(self, new: Sample) -> None:
        """See `Catalogue.put_sample`."""
        values = {"sample_id": new.sample_id, "facts": json_text(sample_object(new))}
        with self.database.write() as connection:
            connection.execute(_upsert(sample, "sample_id", values))

    def sample(self, sample_id: str) -> Sample:
        """See `Catalogue.sample`."""
        with self.database.read() as connection:
            facts = connection.execute(select(sample.c.facts).where(sample.c.sample_id == sample_id)).scalar()
        if facts is None:
            raise NotFound(f"no sample {sample_id!r} in the catalogue")
        return sample_of(json.loads(facts))

    def samples(self) -> list[Sample]:
        """See `Catalogue.samples`."""
        with self.database.read() as connection:
            found = connection.execute(select(sample.c.facts).order_by(sample.c.sample_id)).scalars().all()
        return [sample_of(json.loads(facts)) for facts in found]

    def attach(self, run_id: str, sample_id: str) -> None:
        """See `Catalogue.attach`."""
        with self.database.write() as connection:
            key = sqlite_rows.live_run(connection, run_id).run_key
            connection.execute(update(run).where(run.c.run_key == key).values(sample_id=sample_id))
            sqlite_rows.ensure_sample(connection, sample_id)

    # -- predictions and labels
    def put_predictions(self, predictions: Predictions) -> None:
        """See `Catalogue.put_predictions`."""
        sqlite_runs.put_predictions(self.database, predictions)

    def annotate(self, annotations: Sequence[Annotation]) -> int:
        """See `Catalogue.annotate`."""
        return sqlite_labels.annotate(self.database, annotations)

    def annotations(self, run_id: str | None = None, *, after: int = 0) -> Iterator[tuple[int, Annotation]]:
        """See `Catalogue.annotations`."""
        return sqlite_labels.facts_of(self.database, run_id, after)

    def standing(self, run_id: str) -> dict[int, StandingLabel]:
        """See `Catalogue.standing`."""
        return sqlite_labels.standing_of(self.database, run_id)

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
        """See `Catalogue.page`."""  # fmt: skip
        with self.database.read() as connection:
            return sqlite_queries.page(connection, where, sort, descending, after, limit)

    def class_counts(self, run_id: str | None = None) -> list[ClassCount]:
        """See `Catalogue.class_counts`."""
        return self._counts.counts(run_id)

    # -- class list, models, settings
    def put_taxa(self, taxa: Sequence[Taxon]) -> None:
        """See `Catalogue.put_taxa`."""
        with self.database.write() as connection:
            last = connection.execute(select(func.coalesce(func.max(taxon.c.position), 0))).scalar_one()
            for position, new in enumerate(taxa, start=last + 1):
                facts = json_text(taxon_object(new))
                added = upsert(taxon).values(class_id=new.class_id, position=position, facts=facts)
                connection.execute(added.on_conflict_do_update(index_elements=["class_id"], set_={"facts": facts}))

    def taxa(self) -> list[Taxon]:
        """See `Catalogue.taxa`."""
        with self.database.read() as connection:
            found = connection.execute(select(taxon.c.facts).order_by(taxon.c.position)).scalars().all()
        return [Taxon(**json.loads(facts)) for facts in found]

    def put_model(self, model_id: str, name: str, facts: Mapping[str, Any]) -> None:
        """See `Catalogue.put_model`."""
        values = {"model_id": model_id, "name": name, "facts": json.dumps(dict(facts))}
        with self.database.write() as connection:
            connection.execute(_upsert(model, "model_id", values))

    def models(self) -> dict[str, dict[str, Any]]:
        """See `Catalogue.models`."""
        with self.database.read() as connection:
            rows = connection.execute(select(model).order_by(model.c.model_id)).all()
        return {row.model_id: {"name": row.name, **json.loads(row.facts)} for row in rows}

    def get_meta(self, key: str) -> str | None:
        """See `Catalogue.get_meta`."""
        with self.database.read() as connection:
            return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()

    def all_meta(self) -> dict[str, str]:
        """Every key but the catalogue's own, with its value."""
        with self.database.read() as connection:
            rows = connection.execute(select(meta).where(meta.c.key != SCHEMA_VERSION_KEY)).all()
        return {row.key: row.value for row in rows}

    def put_meta(self, key: str, value: str) -> None:
        """See `Catalogue.put_meta`."""
        if key == SCHEMA_VERSION_KEY:
            raise StoreError(f"{key!r} is the catalogue's own; choose another key")
        with self.database.write() as connection:
            connection.execute(_upsert(meta, "key", {"key": key, "value": value}))

    def check(self) -> list[str]:
        """See `Catalogue.check`."""
        with self.database.read() as connection:
            return sqlite_check.check(connection)


def _upsert(table: Any, key: str, values: Mapping[str, Any]) -> Any:
    rest = {name: value for name, value in values.items() if name != key}
    return upsert(table).values(**values).on_conflict_do_update(index_elements=[key], set_=rest)


def _record(row: Row[Any]) -> RunRecord:
    at = time_of(row.ingested_at)
    assert at is not None
    return RunRecord(
        run_of(json.loads(row.facts), row.sample_id), row.particles, row.vignettes, row.masks, row.failures,
        row.predicted, row.validated, row.model_id, at,
    )  # fmt: skip
