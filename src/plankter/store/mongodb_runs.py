"""Runs in the MongoDB catalogue: new rows are written aside under their own key, then take the old ones' place.

As in the embedded catalogue: the old rows stand until the last, small transaction, so that a kill leaves the old or
the new run whole and a label waits for one chunk at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from plankter._errors import Conflict, NotFound
from plankter.store.base import CHUNK_ROWS, ParticleRows
from plankter.store.encoding import json_text, run_object, time_text
from plankter.store.memory import best_of, known
from plankter.store.mongodb_connect import Document, MongoDatabase
from plankter.store.mongodb_labels import SEQ, refold, setting
from plankter.store.mongodb_lease import Lease
from plankter.store.mongodb_rows import counts_of, ensure_sample, live_run, next_number, put_counts, span
from plankter.store.mongodb_schema import (
    ANNOTATION,
    CLASS_COUNT,
    COUNTER,
    DONE,
    INGESTING,
    KEY_SPAN,
    OLD,
    PARTICLE,
    RUN,
    STANDING,
)
from plankter.types import Predictions, Run

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

CARRIED = ("predicted", "score", "label", "status")
_Chunk = Callable[[int, int, list[Document]], list[Document]]
_Finish = Callable[["ClientSession", "Document | None"], Document]


def put_run(database: MongoDatabase, new: Run, rows: ParticleRows, at: datetime) -> None:
    """See `Catalogue.put_run`."""
    with Lease(database, new.run_id).held() as lease:
        with database.errors():
            old = database.of(RUN).find_one({"run_id": new.run_id, "state": DONE})
        if old is not None and old["particles"] != len(rows):
            raise Conflict(
                f"run {new.run_id} has {old['particles']} particles in the catalogue, now {len(rows)}",
                hint="remove the run first",
            )
        columns = _columns(rows)

        def chunk(start: int, stop: int, earlier: list[Document]) -> list[Document]:
            part = []
            for position, values in enumerate(zip(*(column[start:stop] for column in columns.values()), strict=True)):
                row = {name: value for name, value in zip(columns, values, strict=True) if value is not None}
                row |= {"run_id": new.run_id, "idx": start + position}
                if earlier:
                    row |= {name: earlier[position][name] for name in CARRIED if name in earlier[position]}
                part.append(row)
            return part

        def finish(session: ClientSession, earlier: Document | None) -> Document:
            kept = earlier or {"predicted": 0, "validated": 0, "model_id": None}
            ensure_sample(database, session, new.sample_id)
            return {
                "sample_id": new.sample_id, "name": new.name, "facts": json_text(run_object(new)),
                "particles": len(rows), "vignettes": int(rows.has_vignette.sum()), "masks": int(rows.has_mask.sum()),
                "failures": sum(failure is not None for failure in rows.failure), "ingested_at": time_text(at),
                "predicted": kept["predicted"], "validated": kept["validated"], "model_id": kept["model_id"],
            }  # fmt: skip

        _replace(database, lease, new.run_id, old, len(rows), chunk, finish)


def _columns(rows: ParticleRows) -> dict[str, list[Any]]:
    return {
        "width_px": rows.width_px.tolist(),
        "height_px": rows.height_px.tolist(),
        "esd_um": [known(value) for value in rows.esd_um.tolist()],
        "area_um2": [known(value) for value in rows.area_um2.tolist()],
        "has_vignette": rows.has_vignette.tolist(),
        "has_mask": rows.has_mask.tolist(),
        "failure": list(rows.failure),
    }


def put_predictions(database: MongoDatabase, predictions: Predictions) -> None:
    """See `Catalogue.put_predictions`."""
    run_id, index = predictions.run_id, predictions.index
    with Lease(database, run_id).held() as lease:
        old = database.read(lambda session: live_run(database, session, run_id))
        count = old["particles"]
        if len(index) and not (index.min() >= 0 and index.max() < count):
            outside = int(index[(index < 0) | (index >= count)][0])
            raise NotFound(f"run {run_id} has no particle {outside}; it has {count}")
        best = best_of(predictions)

        def chunk(start: int, stop: int, earlier: list[Document]) -> list[Document]:
            for row in earlier:
                row.pop("predicted", None)
                row.pop("score", None)
                if row["idx"] in best:
                    row["predicted"], row["score"] = best[row["idx"]]
            return earlier

        def finish(session: ClientSession, earlier: Document | None) -> Document:
            assert earlier is not None
            counts = {name: [0, validated] for name, (_, validated) in counts_of(database, session, run_id).items()}
            for class_id, number in Counter(class_id for class_id, _ in best.values()).items():
                counts.setdefault(class_id, [0, 0])[0] = number
            put_counts(database, session, run_id, counts)
            return {**earlier, "predicted": len(best), "model_id": predictions.model_id}

        _replace(database, lease, run_id, old, count, chunk, finish)


def _replace(
    database: MongoDatabase, lease: Lease, run_id: str, old: Document | None, count: int, chunk: _Chunk, finish: _Finish
) -> None:
    """Writes particle rows aside, then puts them in the old ones' place.

    Args:
        database: where.
        lease: held by the caller.
        run_id: whose rows.
        old: document of the run as it stands now, None where there is none.
        count: particles of the run.
        chunk: makes the rows ``start`` to ``stop`` out of the earlier ones.
        finish: called in the last transaction with the run as it stands then; gives what its new document says.
    """
    clear_leftovers(database, mine=run_id)
    with database.errors():
        key = next_number(database, "run")
        counter = database.of(COUNTER).find_one({"_id": SEQ})
    before = int(counter["last"]) if counter else 0

    def begin(session: ClientSession) -> None:
        lease.renew(session)
        database.of(RUN).insert_one({"_id": key, "run_id": run_id, "state": INGESTING}, session=session)

    database.write(begin)
    for start in range(0, count, CHUNK_ROWS):
        stop = min(count, start + CHUNK_ROWS)
        earlier: list[Document] = []
        if old is not None:
            with database.errors():
                earlier = list(database.of(PARTICLE).find(span(old["_id"], start, stop)).sort("_id", 1))
        rows = [{**row, "_id": key * KEY_SPAN + row["idx"], "run_key": key} for row in chunk(start, stop, earlier)]

        def put(session: ClientSession, rows: list[Document] = rows) -> None:
            lease.renew(session)
            database.of(PARTICLE).insert_many(rows, session=session)

        database.write(put)

    def switch(session: ClientSession) -> None:
        lease.renew(session)
        runs = database.of(RUN)
        now = None if old is None else runs.find_one({"_id": old["_id"], "state": DONE}, session=session)
        if now is None and old is not None:
            raise NotFound(f"run {run_id!r} was removed meanwhile")
        if now is not None:
            _carry_new_labels(database, session, run_id, now["_id"], key, before)
        facts = finish(session, now)
        facts = {name: value for name, value in facts.items() if name not in ("_id", "run_id", "state")}
        if now is not None:
            runs.update_one({"_id": now["_id"]}, {"$set": {"state": OLD}}, session=session)
        new = {"run_id": run_id, "state": DONE, **facts, "revision": int(facts.get("revision", 0)) + 1}
        runs.replace_one({"_id": key}, new, session=session)
        if now is None:  # what was said of a run that was taken out stands again
            where = {"run_id": run_id, "idx": {"$lt": count}}
            refold(database, session, run_id, key, set(database.of(ANNOTATION).distinct("idx", where, session=session)))

    database.write(switch)
    clear_leftovers(database, mine=run_id)


def _carry_new_labels(
    database: MongoDatabase, session: ClientSession, run_id: str, old_key: int, key: int, before: int
) -> None:
    """Labels that were given while the rows were written aside."""
    particles = database.of(PARTICLE)
    where = {"run_id": run_id, "_id": {"$gt": before}}
    for index in {fact["idx"] for fact in database.of(ANNOTATION).find(where, {"idx": 1}, session=session)}:
        row = particles.find_one({"_id": old_key * KEY_SPAN + index}, session=session)
        assert row is not None
        change = setting(label=row.get("label"), status=row.get("status"))
        particles.update_one({"_id": key * KEY_SPAN + index}, change, session=session)


def clear_leftovers(database: MongoDatabase, *, mine: str | None = None) -> None:
    """Removes the rows that no query sees: replaced ones and those of killed processes, but nothing of one at work.

    Args:
        database: where.
        mine: run whose lease the caller holds.
    """
    with database.errors():
        left = list(database.of(RUN).find({"state": {"$ne": DONE}}, {"run_id": 1}))
        for run in left:
            if run["run_id"] == mine:
                _clear(database, run["_id"])
                continue
            lease = Lease(database, run["run_id"])
            if lease.taken():
                try:
                    if database.of(RUN).find_one({"_id": run["_id"], "state": {"$ne": DONE}}) is not None:
                        _clear(database, run["_id"])
                finally:
                    lease.release()


def _clear(database: MongoDatabase, key: int) -> None:
    database.of(PARTICLE).delete_many(span(key))
    database.of(RUN).delete_one({"_id": key, "state": {"$ne": DONE}})


def remove_run(database: MongoDatabase, run_id: str) -> None:
    """See `Catalogue.remove_run`."""
    with Lease(database, run_id).held() as lease:

        def work(session: ClientSession) -> None:
            lease.renew(session)
            key = live_run(database, session, run_id)["_id"]
            database.of(RUN).update_one({"_id": key}, {"$set": {"state": OLD}}, session=session)
            database.of(STANDING).delete_many({"run_id": run_id}, session=session)
            database.of(CLASS_COUNT).delete_one({"_id": run_id}, session=session)

        database.write(work)
        clear_leftovers(database, mine=run_id)
