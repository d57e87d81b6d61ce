"""The MongoDB catalogue row by row, see `transfer`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from plankter.store.mongodb_connect import Document, MongoDatabase
from plankter.store.mongodb_labels import SEQ, fact_row, facts_of
from plankter.store.mongodb_lease import Lease
from plankter.store.mongodb_rows import counts_of, live_run, next_number, put_counts, span
from plankter.store.mongodb_runs import clear_leftovers
from plankter.store.mongodb_schema import (
    ANNOTATION,
    COUNTER,
    DONE,
    INGESTING,
    KEY_SPAN,
    META,
    MODEL,
    OLD,
    PARTICLE,
    RUN,
    SAMPLE,
    SCHEMA_VERSION_KEY,
    STANDING,
    TAXON,
)
from plankter.store.transfer import PARTICLE_FIELDS, RUN_FIELDS, STANDING_FIELDS, Row, chunks
from plankter.types import Annotation

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

_TABLES = {
    "sample": (SAMPLE, ("facts",)),
    "taxon": (TAXON, ("position", "facts")),
    "model": (MODEL, ("name", "facts")),
    "meta": (META, ("value",)),
}
_NUMBERS_OF_TRUTH = ("has_vignette", "has_mask")


class MongoTables:
    """`Tables` of a MongoDB database."""

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database

    def small(self, table: str) -> list[Row]:
        """See `Tables.small`."""
        name, fields = _TABLES[table]
        with self._database.errors():
            found = self._database.of(name).find({"_id": {"$ne": SCHEMA_VERSION_KEY}}).sort("_id", 1)
            return [(row["_id"], *(row[field] for field in fields)) for row in found]

    def put_small(self, table: str, rows: Sequence[Row]) -> None:
        """See `Tables.put_small`."""
        name, fields = _TABLES[table]
        with self._database.errors():
            for key, *values in rows:
                new = dict(zip(fields, values, strict=True))
                self._database.of(name).replace_one({"_id": key}, new, upsert=True)

    def runs(self) -> dict[str, Row]:
        """See `Tables.runs`."""
        with self._database.errors():
            found = self._database.of(RUN).find({"state": DONE}).sort("run_id", 1)
            return {row["run_id"]: tuple(row[field] for field in RUN_FIELDS) for row in found}

    def particles(self, run_id: str) -> Iterator[Row]:
        """See `Tables.particles`."""
        key = self._database.read(lambda session: live_run(self._database, session, run_id)["_id"])
        with self._database.errors():
            for row in self._database.of(PARTICLE).find(span(key)).sort("_id", 1):
                row.setdefault("status", "unlabelled")
                for name in _NUMBERS_OF_TRUTH:
                    row[name] = int(row[name])
                yield tuple(map(row.get, PARTICLE_FIELDS))

    def standing(self, run_id: str) -> list[Row]:
        """See `Tables.standing`."""
        with self._database.errors():
            found = self._database.of(STANDING).find({"run_id": run_id}).sort([("run_id", 1), ("idx", 1)])
            return [tuple(row[field] for field in STANDING_FIELDS) for row in found]

    def counts(self, run_id: str) -> list[Row]:
        """See `Tables.counts`."""
        found = self._database.read(lambda session: counts_of(self._database, session, run_id))
        return [(class_id, *found[class_id]) for class_id in sorted(found)]

    def put_run(self, new: Row, particles: Iterable[Row], labels: Sequence[Row], counts: Sequence[Row]) -> None:
        """See `Tables.put_run`."""
        facts = dict(zip(RUN_FIELDS, new, strict=True))
        run_id = facts["run_id"]
        database, runs = self._database, self._database.of(RUN)
        with Lease(database, run_id).held() as lease:
            clear_leftovers(database, mine=run_id)
            with database.errors():
                key = next_number(database, "run")

            def begin(session: ClientSession) -> None:
                lease.renew(session)
                runs.insert_one({"_id": key, "run_id": run_id, "state": INGESTING}, session=session)

            def put(session: ClientSession) -> None:
                lease.renew(session)
                database.of(PARTICLE).insert_many(rows, session=session)

            def switch(session: ClientSession) -> None:
                lease.renew(session)
                runs.update_many({"run_id": run_id, "state": DONE}, {"$set": {"state": OLD}}, session=session)
                runs.replace_one({"_id": key}, {**facts, "state": DONE, "revision": 1}, session=session)
                database.of(STANDING).delete_many({"run_id": run_id}, session=session)
                if labels:
                    rows = [dict(zip(STANDING_FIELDS, row, strict=True), run_id=run_id) for row in labels]
                    database.of(STANDING).insert_many(rows, session=session)
                put_counts(database, session, run_id, {name: [first, second] for name, first, second in counts})

            database.write(begin)
            for part in chunks(particles):
                rows = [_document(run_id, key, row) for row in part]
                database.write(put)
            database.write(switch)
            clear_leftovers(database, mine=run_id)

    def last_fact(self) -> int:
        """See `Tables.last_fact`."""
        with self._database.errors():
            found = self._database.of(ANNOTATION).find_one(sort=[("_id", -1)])
        return int(found["_id"]) if found else 0

    def facts(self, after: int) -> Iterator[tuple[int, Annotation]]:
        """See `Tables.facts`."""
        return facts_of(self._database, None, after)

    def put_facts(self, facts: Sequence[tuple[int, Annotation]]) -> None:
        """See `Tables.put_facts`."""
        if not facts:
            return

        def work(session: ClientSession) -> None:
            last = {"$max": {"last": facts[-1][0]}}
            self._database.of(COUNTER).update_one({"_id": SEQ}, last, session=session)
            self._database.of(ANNOTATION).insert_many([fact_row(*entry) for entry in facts], session=session)

        self._database.write(work)


def _document(run_id: str, key: int, row: Row) -> Document:
    found = {name: value for name, value in zip(PARTICLE_FIELDS, row, strict=True) if value is not None}
    if found["status"] == "unlabelled":
        del found["status"]
    for name in _NUMBERS_OF_TRUTH:
        found[name] = bool(found[name])
    return {**found, "_id": key * KEY_SPAN + found["idx"], "run_key": key, "run_id": run_id}
