"""The embedded catalogue row by row, see `transfer`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Table, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from plankter.store import sqlite_runs
from plankter.store.encoding import annotation_object
from plankter.store.sqlite_connect import Database
from plankter.store.sqlite_labels import facts_of
from plankter.store.sqlite_rows import live_run
from plankter.store.sqlite_schema import (
    DONE,
    INGESTING,
    OLD,
    SCHEMA_VERSION_KEY,
    annotation,
    class_count,
    meta,
    model,
    particle,
    run,
    sample,
    standing,
    taxon,
)
from plankter.store.transfer import CHUNK, PARTICLE_FIELDS, RUN_FIELDS, STANDING_FIELDS, Row, chunks
from plankter.types import Annotation

_TABLES: dict[str, Table] = {"sample": sample, "taxon": taxon, "model": model, "meta": meta}


class SqliteTables:
    """`Tables` of an SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def small(self, table: str) -> list[Row]:
        """See `Tables.small`."""
        of = _TABLES[table]
        key = next(iter(of.columns))
        with self._database.read() as connection:
            rows = connection.execute(select(of).where(key != SCHEMA_VERSION_KEY).order_by(key))
            return [tuple(row) for row in rows]

    def put_small(self, table: str, rows: Sequence[Row]) -> None:
        """See `Tables.put_small`."""
        of = _TABLES[table]
        names = [column.name for column in of.columns]
        with self._database.write() as connection:
            for row in rows:
                values = dict(zip(names, row, strict=True))
                added = upsert(of).values(**values)
                connection.execute(added.on_conflict_do_update(index_elements=[names[0]], set_=values))

    def runs(self) -> dict[str, Row]:
        """See `Tables.runs`."""
        columns = [run.c[name] for name in RUN_FIELDS]
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(run.c.state == DONE).order_by(run.c.run_id))
            return {row.run_id: tuple(row) for row in rows}

    def particles(self, run_id: str) -> Iterator[Row]:
        """See `Tables.particles`."""
        columns = [particle.c[name] for name in PARTICLE_FIELDS]
        start = 0
        while True:
            with self._database.read() as connection:
                key = live_run(connection, run_id).run_key
                inside = (particle.c.run_key == key) & particle.c.idx.between(start, start + CHUNK - 1)
                rows = connection.execute(select(*columns).where(inside).order_by(particle.c.idx)).all()
            yield from (tuple(row) for row in rows)
            if len(rows) < CHUNK:
                return
            start += CHUNK

    def standing(self, run_id: str) -> list[Row]:
        """See `Tables.standing`."""
        columns = [standing.c[name] for name in STANDING_FIELDS]
        with self._database.read() as connection:
            chosen = select(*columns).where(standing.c.run_id == run_id).order_by(standing.c.idx)
            return [tuple(row) for row in connection.execute(chosen)]

    def counts(self, run_id: str) -> list[Row]:
        """See `Tables.counts`."""
        c = class_count.c
        with self._database.read() as connection:
            chosen = select(c.class_id, c.predicted, c.validated).where(c.run_id == run_id).order_by(c.class_id)
            return [tuple(row) for row in connection.execute(chosen)]

    def put_run(self, new: Row, particles: Iterable[Row], labels: Sequence[Row], counts: Sequence[Row]) -> None:
        """See `Tables.put_run`."""
        facts = dict(zip(RUN_FIELDS, new, strict=True))
        run_id = facts["run_id"]
        with self._database.long_writes.held():
            sqlite_runs._clear_leftovers(self._database)
            with self._database.write() as connection:
                added = connection.execute(insert(run).values(run_id=run_id, state=INGESTING))
                key = int(added.inserted_primary_key[0])  # type: ignore[index]
            for part in chunks(particles):
                rows = [dict(zip(PARTICLE_FIELDS, row, strict=True), run_key=key, run_id=run_id) for row in part]
                with self._database.write() as connection:
                    connection.execute(insert(particle), rows)
            with self._database.write() as connection:
                earlier = (run.c.run_id == run_id) & (run.c.state == DONE)
                connection.execute(update(run).where(earlier).values(state=OLD))
                connection.execute(update(run).where(run.c.run_key == key).values(**facts, state=DONE))
                for table, fields, rows_of in (
                    (standing, STANDING_FIELDS, labels),
                    (class_count, ("class_id", "predicted", "validated"), counts),
                ):
                    connection.execute(delete(table).where(table.c.run_id == bindparam("of")), {"of": run_id})
                    if rows_of:
                        values = [dict(zip(fields, row, strict=True), run_id=run_id) for row in rows_of]
                        connection.execute(insert(table), values)
            sqlite_runs._clear_leftovers(self._database)

    def last_fact(self) -> int:
        """See `Tables.last_fact`."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.coalesce(func.max(annotation.c.seq), 0))).scalar_one())

    def facts(self, after: int) -> Iterator[tuple[int, Annotation]]:
        """See `Tables.facts`."""
        return facts_of(self._database, None, after)

    def put_facts(self, facts: Sequence[tuple[int, Annotation]]) -> None:
        """See `Tables.put_facts`."""
        rows = []
        for seq, fact in facts:
            found = annotation_object(fact)
            rows.append({"seq": seq, **{("idx" if name == "index" else name): v for name, v in found.items()}})
        if rows:
            with self._database.write() as connection:
                connection.execute(insert(annotation), rows)
