"""What could be inconsistent inside the embedded catalogue: everything that is kept twice."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select, true

from plankter.store.encoding import status_of
from plankter.store.sqlite_labels import folded, kept_standing
from plankter.store.sqlite_schema import DONE, class_count, particle, run, sample


def check(connection: Connection) -> list[str]:
    """See `Catalogue.check`."""
    said = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
    problems = [f"the catalogue's file is damaged: {line}" for line in said if line != "ok"]
    if problems:
        return problems
    rows = connection.execute(select(run).where(run.c.state == DONE).order_by(run.c.run_id)).all()
    for row in rows:
        problems += _counts(connection, row) + _labels(connection, row) + _classes(connection, row)
        if connection.execute(select(sample).where(sample.c.sample_id == row.sample_id)).first() is None:
            problems.append(f"run {row.run_id}: its sample {row.sample_id!r} is missing")
    return problems


def _counts(connection: Connection, row: Row[Any]) -> list[str]:
    c = particle.c
    counted = connection.execute(
        select(
            func.count(), func.total(c.has_vignette), func.total(c.has_mask), func.count(c.failure),
            func.count(c.predicted), func.total(c.status == "validated"),
        ).where(c.run_key == row.run_key)
    ).one()  # fmt: skip
    names = ("particles", "vignettes", "masks", "failures", "predicted", "validated")
    return [
        f"run {row.run_id}: {name} is {getattr(row, name)}, but {int(count)} rows say so"
        for name, count in zip(names, counted, strict=True)
        if getattr(row, name) != int(count)
    ]


def _labels(connection: Connection, row: Row[Any]) -> list[str]:
    facts, kept = folded(connection, row.run_id, range(row.particles)), kept_standing(connection, row.run_id)
    problems = [
        f"run {row.run_id}, particle {index}: the standing label is not what its facts say"
        for index in sorted(facts.keys() | kept.keys())
        if facts.get(index) != kept.get(index)
    ]
    c = particle.c
    shown = connection.execute(select(c.idx, c.label, c.status).where(c.run_key == row.run_key))
    for index, label, status in shown:
        fact = facts.get(index)
        if (label, status) != (fact.class_id if fact else None, status_of(fact)):
            problems.append(f"run {row.run_id}, particle {index}: label or status is not what its facts say")
    return problems


def _classes(connection: Connection, row: Row[Any]) -> list[str]:
    c = particle.c
    mine = c.run_key == row.run_key
    counted: dict[str, list[int]] = {}
    for position, (column, more) in enumerate(((c.predicted, true()), (c.label, c.status == "validated"))):
        grouped = select(column, func.count()).where(mine, column.is_not(None), more).group_by(column)
        for class_id, count in connection.execute(grouped):
            counted.setdefault(class_id, [0, 0])[position] = count
    k = class_count.c
    kept = {
        class_id: [predicted, validated]
        for class_id, predicted, validated in connection.execute(
            select(k.class_id, k.predicted, k.validated).where(k.run_id == row.run_id)
        )
    }
    return [
        f"run {row.run_id}, class {class_id}: counts {kept.get(class_id)} are not the rows' {counted.get(class_id)}"
        for class_id in sorted(counted.keys() | kept.keys())
        if counted.get(class_id) != kept.get(class_id)
    ]
