"""Labels in the MongoDB catalogue: facts are appended, and what they add up to is kept beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from plankter._errors import NotFound
from plankter.store.encoding import annotation_object, annotation_of, status_of, time_of
from plankter.store.mongodb_connect import Document, MongoDatabase
from plankter.store.mongodb_rows import counts_of, live_run, next_number, put_counts, touch_run
from plankter.store.mongodb_schema import ANNOTATION, COUNTER, KEY_SPAN, PARTICLE, STANDING
from plankter.types import Annotation, Source, StandingLabel, Verdict, standing_label

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

BATCH = 5000
AMONG = 10_000
SEQ = "annotation"


def annotate(database: MongoDatabase, annotations: Sequence[Annotation]) -> int:
    """See `Catalogue.annotate`."""
    if not annotations:
        with database.errors():
            found = database.of(COUNTER).find_one({"_id": SEQ})
        return int(found["last"]) if found else 0
    by_run: dict[str, set[int]] = defaultdict(set)
    for fact in annotations:
        by_run[fact.run_id].add(fact.index)

    def work(session: ClientSession) -> int:
        # taken first: transactions that append come one after the other, in the order of their numbers
        first = next_number(database, SEQ, len(annotations), session)
        keys = {run_id: _key_for(database, session, run_id, indices) for run_id, indices in by_run.items()}
        rows = [fact_row(first + n, fact) for n, fact in enumerate(annotations)]
        database.of(ANNOTATION).insert_many(rows, session=session)
        for run_id, indices in by_run.items():
            refold(database, session, run_id, keys[run_id], indices)
        return first + len(annotations) - 1

    return database.write(work)


def _key_for(database: MongoDatabase, session: ClientSession, run_id: str, indices: set[int]) -> int:
    run = live_run(database, session, run_id)
    if max(indices) >= run["particles"]:
        raise NotFound(f"run {run_id} has no particle {max(indices)}; it has {run['particles']}")
    return int(run["_id"])


def fact_row(seq: int, fact: Annotation) -> Document:
    """A fact as a document."""
    found = annotation_object(fact)
    plain = {("idx" if name == "index" else name): value for name, value in found.items() if value is not None}
    return {"_id": seq, **plain}


def fact_of(row: Document) -> Annotation:
    """What `fact_row` made."""
    return annotation_of({("index" if name == "idx" else name): value for name, value in row.items()})


def _pieces(indices: Iterable[int]) -> Iterator[list[int]]:
    listed = sorted(indices)
    for start in range(0, len(listed), AMONG):
        yield listed[start : start + AMONG]


def folded(
    database: MongoDatabase, session: ClientSession, run_id: str, indices: Iterable[int] | None = None
) -> dict[int, StandingLabel]:
    """The standing labels of a run's particles, from their facts."""
    labels: dict[int, StandingLabel] = {}
    for piece in [None] if indices is None else _pieces(indices):
        where: Document = {"run_id": run_id} if piece is None else {"run_id": run_id, "idx": {"$in": piece}}
        rows = database.of(ANNOTATION).find(where, session=session).sort([("run_id", 1), ("idx", 1), ("_id", 1)])
        for index, facts in groupby(rows, key=lambda row: int(row["idx"])):
            label = standing_label([fact_of(fact) for fact in facts])
            if label is not None:
                labels[index] = label
    return labels


def shown_label(label: StandingLabel | None) -> tuple[str | None, str | None]:
    """Label and status as a particle's document holds them: both None, so left out, where nothing stands."""
    return (None, None) if label is None else (label.class_id, status_of(label))


def refold(database: MongoDatabase, session: ClientSession, run_id: str, run_key: int, indices: set[int]) -> None:
    """Brings documents and counts of these particles level with their facts."""
    if not indices:
        return
    particles, standing = database.of(PARTICLE), database.of(STANDING)
    labels = folded(database, session, run_id, indices)
    counts = counts_of(database, session, run_id)
    validated = 0
    groups: dict[tuple[str | None, str | None], list[int]] = defaultdict(list)
    for piece in _pieces(indices):
        among = {"_id": {"$in": [run_key * KEY_SPAN + index for index in piece]}}
        for row in particles.find(among, {"idx": 1, "label": 1, "status": 1}, session=session):
            earlier, now = (row.get("label"), row.get("status")), shown_label(labels.get(row["idx"]))
            if earlier != now:
                groups[now].append(row["_id"])
            for (label, status), step in ((earlier, -1), (now, 1)):
                if status == "validated" and label is not None:
                    counts.setdefault(label, [0, 0])[1] += step
                    validated += step
        standing.delete_many({"run_id": run_id, "idx": {"$in": piece}}, session=session)
    for now, ids in groups.items():
        for piece in _pieces(ids):
            particles.update_many({"_id": {"$in": piece}}, setting(label=now[0], status=now[1]), session=session)
    if labels:
        standing.insert_many([standing_row(run_id, index, labels[index]) for index in labels], session=session)
    put_counts(database, session, run_id, counts)
    touch_run(database, session, run_id, validated)


def setting(**values: Any) -> Document:
    """An update that sets what is known and takes out what is not."""
    known = {name: value for name, value in values.items() if value is not None}
    gone = {name: "" for name, value in values.items() if value is None}
    return {**({"$set": known} if known else {}), **({"$unset": gone} if gone else {})}


def standing_row(run_id: str, index: int, label: StandingLabel) -> Document:
    """A standing label as a document."""
    return {
        "run_id": run_id, "idx": index, "class_id": label.class_id, "verdict": label.verdict.value,
        "annotator": label.annotator, "at": label.at.isoformat(), "source": label.source.value,
    }  # fmt: skip


def facts_of(database: MongoDatabase, run_id: str | None, after: int) -> Iterator[tuple[int, Annotation]]:
    """See `Catalogue.annotations`; read in batches, so that no cursor stays open."""
    if run_id is not None:
        database.read(lambda session: live_run(database, session, run_id))
    return _batches(database, run_id, after)


def _batches(database: MongoDatabase, run_id: str | None, after: int) -> Iterator[tuple[int, Annotation]]:
    while True:
        where: Document = {"_id": {"$gt": after}}
        if run_id is not None:
            where["run_id"] = run_id
        with database.errors():
            rows = list(database.of(ANNOTATION).find(where).sort("_id", 1).limit(BATCH))
        for row in rows:
            yield int(row["_id"]), fact_of(row)
        if len(rows) < BATCH:
            return
        after = int(rows[-1]["_id"])


def standing_of(database: MongoDatabase, run_id: str) -> dict[int, StandingLabel]:
    """See `Catalogue.standing`."""

    def work(session: ClientSession) -> dict[int, StandingLabel]:
        live_run(database, session, run_id)
        return kept_standing(database, session, run_id)

    return database.read(work)


def kept_standing(database: MongoDatabase, session: ClientSession, run_id: str) -> dict[int, StandingLabel]:
    """The standing labels as they are kept, by particle index."""
    rows = database.of(STANDING).find({"run_id": run_id}, session=session).sort([("run_id", 1), ("idx", 1)])
    return {int(row["idx"]): _label(row) for row in rows}


def _label(row: Document) -> StandingLabel:
    at = time_of(row["at"])
    assert at is not None
    return StandingLabel(row["class_id"], Verdict(row["verdict"]), row["annotator"], at, Source(row["source"]))
