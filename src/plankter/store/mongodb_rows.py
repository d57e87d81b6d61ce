"""Small questions and changes that several parts of the MongoDB catalogue share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plankter._errors import NotFound
from plankter.store.encoding import json_text, sample_object
from plankter.store.mongodb_connect import Document, MongoDatabase
from plankter.store.mongodb_schema import CLASS_COUNT, COUNTER, DONE, KEY_SPAN, RUN, SAMPLE
from plankter.types import Sample

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

Counts = dict[str, list[int]]  # class_id -> [predicted, validated]


def live_run(database: MongoDatabase, session: ClientSession, run_id: str) -> Document:
    """The document of a run that queries see.

    Raises:
        NotFound: no such run.
    """
    found = database.of(RUN).find_one({"run_id": run_id, "state": DONE}, session=session)
    if found is None:
        raise NotFound(f"no run {run_id!r} in the catalogue")
    return found


def hidden_keys(database: MongoDatabase, session: ClientSession) -> list[int]:
    """Keys of the runs that queries leave out: few, as they are at work or left by a kill."""
    return [run["_id"] for run in database.of(RUN).find({"state": {"$ne": DONE}}, {"_id": 1}, session=session)]


def ensure_sample(database: MongoDatabase, session: ClientSession, sample_id: str) -> None:
    """Creates a sample by id where it does not exist."""
    facts = {"$setOnInsert": {"facts": json_text(sample_object(Sample(sample_id)))}}
    database.of(SAMPLE).update_one({"_id": sample_id}, facts, upsert=True, session=session)


def span(run_key: int, start: int = 0, stop: int = KEY_SPAN) -> Document:
    """The condition on ``_id`` for particles ``start`` to ``stop`` of a run."""
    return {"_id": {"$gte": run_key * KEY_SPAN + start, "$lt": run_key * KEY_SPAN + stop}}


def touch_run(database: MongoDatabase, session: ClientSession, run_id: str, validated: int) -> None:
    """Adds to the count of validated particles; always a write, so that two changes of a run cannot cross."""
    change = {"$inc": {"validated": validated, "revision": 1}}
    database.of(RUN).update_one({"run_id": run_id, "state": DONE}, change, session=session)


def next_number(database: MongoDatabase, name: str, count: int = 1, session: ClientSession | None = None) -> int:
    """The first of ``count`` new numbers of a counter; within a transaction others wait for it to end."""
    found: Document | None = database.of(COUNTER).find_one_and_update(
        {"_id": name}, {"$inc": {"last": count}}, upsert=True, return_document=True, session=session
    )
    assert found is not None
    return int(found["last"]) - count + 1


def counts_of(database: MongoDatabase, session: ClientSession, run_id: str) -> Counts:
    """How often each class is predicted and validated in a run."""
    found = database.of(CLASS_COUNT).find_one({"_id": run_id}, session=session)
    if found is None:
        return {}
    pairs = zip(found["predicted"], found["validated"], strict=True)
    return {class_id: list(pair) for class_id, pair in zip(found["class_ids"], pairs, strict=True)}


def put_counts(database: MongoDatabase, session: ClientSession, run_id: str, counts: Counts) -> None:
    """Keeps a run's counts, by column in one document: thousands of classes and runs are read in milliseconds."""
    names = sorted(name for name, (predicted, validated) in counts.items() if predicted or validated)
    columns = {
        "class_ids": names,
        "predicted": [counts[name][0] for name in names],
        "validated": [counts[name][1] for name in names],
    }
    if names:
        database.of(CLASS_COUNT).replace_one({"_id": run_id}, columns, upsert=True, session=session)
    else:
        database.of(CLASS_COUNT).delete_one({"_id": run_id}, session=session)
