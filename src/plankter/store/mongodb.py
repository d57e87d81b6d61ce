"""The catalogue in a MongoDB: for several computers at once, and for institutes that keep their images there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from plankter._errors import NotFound, StoreError
from plankter.store import mongodb_check, mongodb_labels, mongodb_queries, mongodb_runs
from plankter.store.base import ClassCount, ParticleFilter, ParticleRow, ParticleRows, RunRecord
from plankter.store.encoding import json_text, run_of, sample_object, sample_of, taxon_object, time_of
from plankter.store.memory import now_utc
from plankter.store.mongodb_address import mongo_address
from plankter.store.mongodb_connect import Document, MongoDatabase
from plankter.store.mongodb_rows import ensure_sample, live_run
from plankter.store.mongodb_schema import (
    ANNOTATION,
    DONE,
    META,
    MODEL,
    RUN,
    SAMPLE,
    SCHEMA_VERSION_KEY,
    TAXON,
    migrate,
)
from plankter.types import Annotation, Predictions, Run, Sample, StandingLabel, Taxon

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession


@dataclass(frozen=True)
class Change:
    """Something changed for whoever looks at a run. ``kind`` is "run" (in, replaced, predicted) or "label"."""

    kind: str
    run_id: str
    index: int | None = None


class MongoCatalogue:
    """A `Catalogue` in a MongoDB database; safe for threads, processes and computers.

    Args:
        address: ``mongodb://[user[:password]@]host[:port][/database]``; ``${NAME}`` stands for an environment variable.
        clock: tells the moment of an ingest.

    Raises:
        NewerWorkspace: the database was written by a later version.
        StoreError: no server, wrong user, no replica set, or pymongo is missing.
    """

    def __init__(self, address: str, *, clock: Callable[[], datetime] = now_utc) -> None:
        self._clock = clock
        self.database = MongoDatabase(mongo_address(address))
        self._counts = mongodb_queries.CountReader(self.database)
        try:
            migrate(self.database)
        except StoreError:
            self.database.close()
            raise

    def close(self) -> None:
        """Lets go of the server."""
        self.database.close()

    # -- runs and samples
    def put_run(self, run: Run, rows: ParticleRows) -> None:
        """See `Catalogue.put_run`."""
        mongodb_runs.put_run(self.database, run, rows, self._clock())

    def remove_run(self, run_id: str) -> None:
        """See `Catalogue.remove_run`."""
        mongodb_runs.remove_run(self.database, run_id)

    def run(self, run_id: str) -> RunRecord:
        """See `Catalogue.run`."""
        return _record(self.database.read(lambda session: live_run(self.database, session, run_id)))

    def runs(self) -> list[RunRecord]:
        """See `Catalogue.runs`."""
        order = [("state", 1), ("sample_id", 1), ("name", 1), ("run_id", 1)]

        def work(session: ClientSession) -> list[Document]:
            return list(self.database.of(RUN).find({"state": DONE}, session=session).sort(order))

        return [_record(found) for found in self.database.read(work)]

    def put_sample(self, new: Sample) -> None:
        """See `Catalogue.put_sample`."""
        self._put(SAMPLE, new.sample_id, {"facts": json_text(sample_object(new))})

    def sample(self, sample_id: str) -> Sample:
        """See `Catalogue.sample`."""
        found = self._get(SAMPLE, sample_id)
        if found is None:
            raise NotFound(f"no sample {sample_id!r} in the catalogue")
        return sample_of(json.loads(found["facts"]))

    def samples(self) -> list[Sample]:
        """See `Catalogue.samples`."""
        return [sample_of(json.loads(found["facts"])) for found in self._all(SAMPLE, "_id")]

    def attach(self, run_id: str, sample_id: str) -> None:
        """See `Catalogue.attach`."""

        def work(session: ClientSession) -> None:
            key = live_run(self.database, session, run_id)["_id"]
            change = {"$set": {"sample_id": sample_id}, "$inc": {"revision": 1}}
            self.database.of(RUN).update_one({"_id": key}, change, session=session)
            ensure_sample(self.database, session, sample_id)

        self.database.write(work)

    # -- predictions and labels
    def put_predictions(self, predictions: Predictions) -> None:
        """See `Catalogue.put_predictions`."""
        mongodb_runs.put_predictions(self.database, predictions)

    def annotate(self, annotations: Sequence[Annotation]) -> int:
        """See `Catalogue.annotate`."""
        return mongodb_labels.annotate(self.database, annotations)

    def annotations(self, run_id: str | None = None, *, after: int = 0) -> Iterator[tuple[int, Annotation]]:
        """See `Catalogue.annotations`."""
        return mongodb_labels.facts_of(self.database, run_id, after)

    def standing(self, run_id: str) -> dict[int, StandingLabel]:
        """See `Catalogue.standing`."""
        return mongodb_labels.standing_of(self.database, run_id)

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
        return mongodb_queries.page(self.database, where, sort, descending, after, limit)

    def class_counts(self, run_id: str | None = None) -> list[ClassCount]:
        """See `Catalogue.class_counts`."""
        return self._counts.counts(run_id)

    # -- class list, models, settings
    def put_taxa(self, taxa: Sequence[Taxon]) -> None:
        """See `Catalogue.put_taxa`."""

        def work(session: ClientSession) -> None:
            taxon = self.database.of(TAXON)
            last = taxon.find_one(sort=[("position", -1)], session=session)
            for position, new in enumerate(taxa, start=1 + (last["position"] if last else 0)):
                change = {"$set": {"facts": json_text(taxon_object(new))}, "$setOnInsert": {"position": position}}
                taxon.update_one({"_id": new.class_id}, change, upsert=True, session=session)

        self.database.write(work)

    def taxa(self) -> list[Taxon]:
        """See `Catalogue.taxa`."""
        return [Taxon(**json.loads(found["facts"])) for found in self._all(TAXON, "position")]

    def put_model(self, model_id: str, name: str, facts: Mapping[str, Any]) -> None:
        """See `Catalogue.put_model`."""
        self._put(MODEL, model_id, {"name": name, "facts": json.dumps(dict(facts))})

    def models(self) -> dict[str, dict[str, Any]]:
        """See `Catalogue.models`."""
        return {row["_id"]: {"name": row["name"], **json.loads(row["facts"])} for row in self._all(MODEL, "_id")}

    def get_meta(self, key: str) -> str | None:
        """See `Catalogue.get_meta`."""
        found = self._get(META, key)
        return None if found is None else str(found["value"])

    def put_meta(self, key: str, value: str) -> None:
        """See `Catalogue.put_meta`."""
        if key == SCHEMA_VERSION_KEY:
            raise StoreError(f"{key!r} is the catalogue's own; choose another key")
        self._put(META, key, {"value": value})

    def check(self) -> list[str]:
        """See `Catalogue.check`."""
        return mongodb_check.check(self.database)

    # -- beyond the protocol
    def changes(self, *, after: Mapping[str, Any] | None = None, wait_s: float = 1.0) -> Iterator[Change | None]:
        """Follows the database live: what any process changes, on any computer.

        Args:
            after: token of a change stream to go on from.
            wait_s: how long to wait for news before a None is given, so that the caller can do something else.
        """
        wanted = {"ns.coll": {"$in": [RUN, ANNOTATION]}, "operationType": {"$in": ["insert", "update", "replace"]}}
        with (
            self.database.errors(),
            self.database.database.watch(
                [{"$match": wanted}], full_document="updateLookup", resume_after=after, max_await_time_ms=int(wait_s * 1000)
            ) as stream,
        ):  # fmt: skip
            while stream.alive:
                found = stream.try_next()
                yield None if found is None else _change(found)

    def _put(self, collection: str, key: str, values: Document) -> None:
        with self.database.errors():
            self.database.of(collection).update_one({"_id": key}, {"$set": values}, upsert=True)

    def _get(self, collection: str, key: str) -> Document | None:
        with self.database.errors():
            return self.database.of(collection).find_one({"_id": key})

    def _all(self, collection: str, order: str) -> list[Document]:
        return self.database.read(
            lambda session: list(self.database.of(collection).find(session=session).sort(order, 1))
        )


def _change(found: Mapping[str, Any]) -> Change | None:
    document = found.get("fullDocument") or {}
    if "run_id" not in document:
        return None
    if found["ns"]["coll"] == ANNOTATION:
        return Change("label", document["run_id"], int(document["idx"]))
    return Change("run", document["run_id"]) if document.get("state") == DONE else None


def _record(row: Document) -> RunRecord:
    at = time_of(row["ingested_at"])
    assert at is not None
    return RunRecord(
        run_of(json.loads(row["facts"]), row["sample_id"]), row["particles"], row["vignettes"], row["masks"],
        row["failures"], row["predicted"], row["validated"], row["model_id"], at,
    )  # fmt: skip
