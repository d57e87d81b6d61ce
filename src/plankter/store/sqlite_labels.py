"""Labels in the embedded catalogue: facts are appended, and what they add up to is kept beside them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, delete, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from plankter._errors import NotFound
from plankter.store.encoding import annotation_of, status_of, time_of, time_text
from plankter.store.sqlite_connect import Database
from plankter.store.sqlite_rows import drop_empty_counts, insert_rows, live_run, plain_rows
from plankter.store.sqlite_schema import annotation, class_count, run, standing
from plankter.types import Annotation, Source, StandingLabel, Verdict, standing_label

BATCH = 5000
_FACT = tuple(column.name for column in annotation.c if column.name != "seq")


def annotate(database: Database, annotations: Sequence[Annotation]) -> int:
    """See `Catalogue.annotate`."""
    with database.write() as connection:
        by_run: dict[str, set[int]] = defaultdict(set)
        for fact in annotations:
            by_run[fact.run_id].add(fact.index)
        keys = {run_id: _key_for(connection, run_id, indices) for run_id, indices in by_run.items()}
        insert_rows(connection, annotation, _FACT, [_row(fact) for fact in annotations])
        for run_id, indices in by_run.items():
            refold(connection, run_id, keys[run_id], indices)
        last = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'annotation'")).scalar()
    return int(last or 0)


def _key_for(connection: Connection, run_id: str, indices: set[int]) -> int:
    row = live_run(connection, run_id)
    if max(indices) >= row.particles:
        raise NotFound(f"run {run_id} has no particle {max(indices)}; it has {row.particles}")
    return int(row.run_key)


def _row(fact: Annotation) -> tuple[Any, ...]:
    return (
        fact.run_id, fact.index, fact.class_id, fact.verdict.value, fact.annotator, time_text(fact.at),
        fact.source.value, fact.on_model_id, fact.on_class_id,
    )  # fmt: skip


def _fact(row: Mapping[Any, Any]) -> Annotation:
    return annotation_of({("index" if name == "idx" else name): value for name, value in row.items()})


def folded(connection: Connection, run_id: str, indices: Iterable[int] | None = None) -> dict[int, StandingLabel]:
    """The standing labels of a run's particles, from their facts."""
    said, values = f"SELECT idx, {', '.join(_FACT)} FROM annotation WHERE run_id = ?", [run_id]
    if indices is not None:
        said += " AND idx IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(sorted(indices)))
    rows = plain_rows(connection, f"{said} ORDER BY idx, seq", values)
    # a fold knows nothing of the particle: what was said alike of many, as by an import, is folded once
    known: dict[tuple[Any, ...], StandingLabel | None] = {}
    labels: dict[int, StandingLabel] = {}
    after_index = 1 + _FACT.index("class_id")
    for index, facts in groupby(rows, key=itemgetter(0)):
        alike = list(facts)
        key = tuple(fact[after_index:] for fact in alike)
        if key not in known:
            known[key] = standing_label([_fact(dict(zip(_FACT, fact[1:], strict=True))) for fact in alike])
        label = known[key]
        if label is not None:
            labels[index] = label
    return labels


def refold(connection: Connection, run_id: str, key: int, indices: set[int]) -> None:
    """Brings rows and counts of these particles level with their facts."""
    if not indices:
        return
    listed = {"indices": json.dumps(sorted(indices))}
    among = text("idx IN (SELECT value FROM json_each(:indices))").bindparams(**listed)
    earlier = plain_rows(
        connection,
        "SELECT idx, label, status FROM particle WHERE run_key = ? AND idx IN (SELECT value FROM json_each(?))",
        [key, listed["indices"]],
    )
    labels = folded(connection, run_id, indices)
    change: Counter[str] = Counter()
    rows = []
    for index, label, status in earlier:
        now = labels.get(index)
        class_id, state = now.class_id if now else None, status_of(now)
        if (class_id, state) != (label, status):
            rows.append((class_id, state, key, index))
            change[label or ""] -= status == "validated"
            change[class_id or ""] += state == "validated"
    if rows:
        connection.exec_driver_sql("UPDATE particle SET label = ?, status = ? WHERE run_key = ? AND idx = ?", rows)
    connection.execute(delete(standing).where(standing.c.run_id == run_id, among))
    names = [column.name for column in standing.c]
    insert_rows(connection, standing, names, [_standing_row(run_id, index, labels[index]) for index in labels])
    _count_validated(connection, run_id, change)


def _standing_row(run_id: str, index: int, label: StandingLabel) -> tuple[Any, ...]:
    return (
        run_id, index, label.class_id, label.verdict.value, label.annotator, time_text(label.at), label.source.value,
    )  # fmt: skip


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
