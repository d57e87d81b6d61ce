"""Collections and indexes of the MongoDB catalogue, step by step; a step that was ever released never changes.

All names begin with ``plankter.``, so that the catalogue may live in a database that holds an institute's own
collections. What is unknown is left out of a document.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from plankter._errors import NewerWorkspace
from plankter.store.mongodb_connect import MongoDatabase

PREFIX = "plankter."
META, MIGRATION, COUNTER, LEASE = (PREFIX + name for name in ("meta", "migration", "counter", "lease"))
SAMPLE, TAXON, MODEL = (PREFIX + name for name in ("sample", "taxon", "model"))
# several documents a run_id while one is replaced; queries see the one whose state is DONE
RUN = PREFIX + "run"
# _id is run_key * 2^32 + idx, so that a run's particles lie together in their order
PARTICLE = PREFIX + "particle"
ANNOTATION, STANDING, CLASS_COUNT = (PREFIX + name for name in ("annotation", "standing", "class_count"))
COLLECTIONS = (
    META, MIGRATION, COUNTER, LEASE, SAMPLE, TAXON, MODEL, RUN, PARTICLE, ANNOTATION, STANDING, CLASS_COUNT,
)  # fmt: skip
INGESTING, DONE, OLD = "ingesting", "done", "old"
SCHEMA_VERSION_KEY = "schema_version"
VALUES = ("score", "esd_um", "area_um2")
KEY_SPAN = 1 << 32

# what the pages walk along; those of a class, a label or a status hold only the rows that have one. Each more of them
# makes a label slower: the other questions about a class, a label or a status are sorted among the rows of one index
PLAIN_WALKS: tuple[tuple[str, ...], ...] = (
    ("run_id", "idx"),
    ("score", "run_id", "idx"),
    *(("run_key", value, "idx") for value in VALUES),
)
PARTIAL_WALKS: tuple[tuple[str, ...], ...] = (
    ("run_key", "predicted", "score", "idx"),
    ("predicted", "score", "run_id", "idx"),
    ("label", "score", "run_id", "idx"),
    ("status", "run_id", "idx"),
)

Step = Callable[[MongoDatabase], None]
STEPS: list[tuple[str, Step]] = []


def migration(name: str) -> Callable[[Step], Step]:
    """Registers a step; steps run in the order they stand here and are recorded by name. A step may be repeated."""

    def register(step: Step) -> Step:
        STEPS.append((name, step))
        return step

    return register


@migration("0001-first")
def _first(database: MongoDatabase) -> None:
    there = set(database.database.list_collection_names())
    for name in COLLECTIONS:
        if name not in there:
            _create(database, name)
    done: dict[str, object] = {"state": DONE}
    _index(database, PARTICLE, *((fields, None) for fields in PLAIN_WALKS), *map(_partial, PARTIAL_WALKS))
    _index(database, RUN, (("run_id",), done), (("state", "sample_id", "name", "run_id"), None))
    _index(database, ANNOTATION, (("run_id", "_id"), None), (("run_id", "idx", "_id"), None))
    _index(database, STANDING, (("run_id", "idx"), None))
    for counter in ("annotation", "run"):  # there from the start, so that two first writers meet on one document
        database.of(COUNTER).update_one({"_id": counter}, {"$setOnInsert": {"last": 0}}, upsert=True)


_Wanted = tuple[tuple[str, ...], dict[str, object] | None]


def _partial(fields: tuple[str, ...]) -> _Wanted:
    return fields, {"predicted" if "predicted" in fields else fields[0]: {"$exists": True}}


def _index(database: MongoDatabase, name: str, *wanted: _Wanted) -> None:
    """Makes indexes on some of the documents, or on all; those of one field are unique."""
    from pymongo import IndexModel

    models = []
    for fields, among in wanted:
        options: dict[str, object] = {} if among is None else {"partialFilterExpression": among}
        models.append(IndexModel([(field, 1) for field in fields], unique=len(fields) == 1, **options))
    database.of(name).create_indexes(models)


def _create(database: MongoDatabase, name: str) -> None:
    from pymongo.errors import CollectionInvalid, OperationFailure

    try:
        database.database.create_collection(name)
    except CollectionInvalid:
        return  # another process was first
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists
            raise


def schema_version(database: MongoDatabase) -> int:
    """How many steps the catalogue has taken; 0 where it is new.

    Raises:
        NewerWorkspace: more than this version of plankter knows.
    """
    with database.errors():
        found = database.of(META).find_one({"_id": SCHEMA_VERSION_KEY})
    version = int(found["value"]) if found else 0
    if version > len(STEPS):
        raise NewerWorkspace(
            f"the catalogue has schema version {version}, this plankter knows {len(STEPS)}",
            path=database.address.shown,
            hint="update plankter; nothing was changed",
        )
    return version


def migrate(database: MongoDatabase) -> list[str]:
    """Takes the missing steps.

    Returns:
        Their names.
    """
    if schema_version(database) == len(STEPS):
        return []
    done = []
    with database.errors():
        taken = {entry["_id"] for entry in database.of(MIGRATION).find()}
        for name, step in STEPS:
            if name not in taken:
                step(database)
                at = datetime.now(UTC).isoformat()
                database.of(MIGRATION).update_one({"_id": name}, {"$setOnInsert": {"applied_at": at}}, upsert=True)
                done.append(name)
        version = {"$set": {"value": str(len(STEPS))}}
        database.of(META).update_one({"_id": SCHEMA_VERSION_KEY}, version, upsert=True)
    return done
