"""Labels in the embedded catalogue: facts are appended, and what they add up to is kept beside them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from plankter._errors import NotFound
from plankter.store.encoding import annotation_object, annotation_of, status_of, time_of
from plankter.store.sqlite_connect import Database
from plankter.store.sqlite_rows import drop_empty_counts, live_run
from plankter.store.sqlite_schema import annotation, class_count, particle, run, standing
from plankter.types import Annotation, Source, StandingLabel, Verdict, standing_label

BATCH = 5000


def annotate(database: Database, annotations: Sequence[Annotation]) -> int:
    """See `Catalogue.annotate`."""
    with database.write() as connection:
        by_run: dict[str, set[int]] = defaultdict(set)
        for fact in annotations:
            by_run[fact.run_id].add(fact.index)
        keys = {run_id: _key_for(connection, run_id, indices) for run_id, indices in by_run.items()}
        if annotations:
            connection.execute(insert(annotation), [_row(fact) for fact in annotations])
        for run_id, indices in by_run.items():
            refold(connection, run_id, keys[run_id], indices)
        last = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'annotation'")).scalar()
    return int(last or 0)


def _key_for(connection: Connection, run_id: str, indices: set[int]) -> int:
    row = live_run(connection, run_id)
    if max(indices) >= row.particles:
        raise NotFound(f"run {run_id} has no particle {max(indices)}; it has {row.particles}")
    return int(row.run_key)


def _row(fact: Annotation) -> dict[str, Any]:
    found = annotation_object(fact)
    return {("idx" if name == "index" else name): value for name, value in found.items()}


def _fact(row: Mapping[Any, Any]) -> Annotation:
    return annotation_of({("index" if name == "idx" else name): value for name, value in row.items()})


def folded(connection: Connection, run_id: str, indices: Iterable[int] | None = None) -> dict[int, StandingLabel]:
    """The standing labels of a run's particles, from their facts."""
    chosen = select(annotation).where(annotation.c.run_id == run_id)
    if indices is not None:
        among = text("annotation.idx IN (SELECT value FROM json_each(:indices))")
        chosen = chosen.where(among.bindparams(indices=json.dumps(sorted(indices))))
    rows = connection.execute(chosen.order_by(annotation.c.idx, annotation.c.seq)).mappings().all()
    labels = {
        index: standing_label([_fact(fact) for fact in facts])
        for index, facts in groupby(rows, key=lambda row: int(row["idx"]))
    }
    return {index: label for index, label in labels.items() if label is not None}


def refold(connection: Connection, run_id: str, key: int, indices: set[int]) -> None:
    """Brings rows and counts of these particles level with their facts."""
    if not indices:
        return
    listed = {"indices": json.dumps(sorted(indices))}
    among = text("idx IN (SELECT value FROM json_each(:indices))").bindparams(**listed)
    earlier = connection.execute(
        select(particle.c.idx, particle.c.label, particle.c.status).where(particle.c.run_key == key, among)
    ).all()
    labels = folded(connection, run_id, indices)
    change: Counter[str] = Counter()
    cached = []
    for index, label, status in earlier:
        now = labels.get(index)
        cached.append({"i": index, "l": now.class_id if now else None, "s": status_of(now)})
        change[label or ""] -= status == "validated"
        change[cached[-1]["l"] or ""] += cached[-1]["s"] == "validated"
    row = update(particle).where(particle.c.run_key == key, particle.c.idx == bindparam("i"))
    connection.execute(row.values(label=bindparam("l"), status=bindparam("s")), cached)
    connection.execute(delete(standing).where(standing.c.run_id == run_id, among))
    if labels:
        connection.execute(insert(standing), [_standing_row(run_id, index, labels[index]) for index in labels])
    _count_validated(connection, run_id, change)


def _standing_row(run_id: str, index: int, label: StandingLabel) -> dict[str, Any]:
    return {
        "run_id": run_id, "idx": index, "class_id": label.class_id, "verdict": label.verdict.value,
        "annotator": label.annotator, "at": label.at.isoformat(), "source": label.source.value,
    }  # fmt: skip


def _count_validated(connection: Connection, run_id: str, change: Counter[str]) -> None:
    for class_id, delta in change.items():
        if delta and class_id:
            added = upsert(class_count).values(run_id=run_id, class_id=class_id, predicted=0, validated=delta)
            total = {"validated": class_count.c.validated + delta}
            connection.execute(added.on_conflict_do_update(index_elements=["run_id", "class_id"], set_=total))
    validated = run.c.validated + sum(change.values())
    connection.execute(update(run).where(run.c.run_id == run_id, run.c.state == "done").values(validated=validated))
    drop_empty_counts(connection, run_id)


def facts_of(database: Database, run_id: str | None, after: int) -> Iterator[tuple[int, Annotation]]:
    """See `Catalogue.annotations`; read in batches, so that no transaction stays open."""
    if run_id is not None:
        with database.read() as connection:
            live_run(connection, run_id)
    return _batches(database, run_id, after)


def _batches(database: Database, run_id: str | None, after: int) -> Iterator[tuple[int, Annotation]]:
    while True:
        chosen = select(annotation).where(annotation.c.seq > after)
        if run_id is not None:
            chosen = chosen.where(annotation.c.run_id == run_id)
        with database.read() as connection:
            rows = connection.execute(chosen.order_by(annotation.c.seq).limit(BATCH)).mappings().all()
        for row in rows:
            yield int(row["seq"]), _fact(row)
        if len(rows) < BATCH:
            return
        after = int(rows[-1]["seq"])


def standing_of(database: Database, run_id: str) -> dict[int, StandingLabel]:
    """See `Catalogue.standing`."""
    with database.read() as connection:
        live_run(connection, run_id)
        return kept_standing(connection, run_id)


def kept_standing(connection: Connection, run_id: str) -> dict[int, StandingLabel]:
    """The standing labels as they are kept, by particle index."""
    rows = connection.execute(select(standing).where(standing.c.run_id == run_id).order_by(standing.c.idx))
    return {row.idx: _label(row) for row in rows}


def _label(row: Row[Any]) -> StandingLabel:
    at = time_of(row.at)
    assert at is not None
    return StandingLabel(row.class_id, Verdict(row.verdict), row.annotator, at, Source(row.source))
