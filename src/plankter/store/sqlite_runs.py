"""Runs in the embedded catalogue: new rows are written aside under their own key, then take the old ones' place.

The old rows stand until the last, small transaction, so that a kill leaves the old or the new run whole and a label
waits for one chunk at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import repeat
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from plankter._errors import Conflict, NotFound
from plankter.store.base import CHUNK_ROWS, ParticleRows
from plankter.store.encoding import json_text, run_object, time_text
from plankter.store.memory import best_of, known
from plankter.store.sqlite_connect import Database
from plankter.store.sqlite_labels import refold
from plankter.store.sqlite_rows import drop_empty_counts, ensure_sample, insert_rows, live_run
from plankter.store.sqlite_schema import (
    DONE,
    INGESTING,
    OLD,
    annotation,
    class_count,
    particle,
    run,
    standing,
)
from plankter.types import Predictions, Run

_NAMES = tuple(column.name for column in particle.c)
_CARRIED = ("predicted", "score", "label", "status")
_NOTHING = (None, None, None, "unlabelled")


def put_run(database: Database, new: Run, rows: ParticleRows, at: datetime) -> None:
    """See `Catalogue.put_run`."""
    with database.long_writes.held():
        with database.read() as connection:
            found = select(run.c.run_key, run.c.particles).where(run.c.run_id == new.run_id, run.c.state == DONE)
            old = connection.execute(found).one_or_none()
        if old is not None and old.particles != len(rows):
            raise Conflict(
                f"run {new.run_id} has {old.particles} particles in the catalogue, now {len(rows)}",
                hint="remove the run first",
            )
        columns = _columns(new.run_id, rows)

        def chunk(key: int, start: int, stop: int, earlier: _Earlier) -> _Rows:
            part = [values[start:stop] for values in columns]
            carried = list(zip(*earlier, strict=True)) if earlier else [repeat(value) for value in _NOTHING]
            return list(zip(repeat(key), range(start, stop), *part, *carried))

        facts = {
            "run_id": new.run_id, "sample_id": new.sample_id, "name": new.name, "facts": json_text(run_object(new)),
            "particles": len(rows), "vignettes": int(rows.has_vignette.sum()), "masks": int(rows.has_mask.sum()),
            "failures": sum(failure is not None for failure in rows.failure), "ingested_at": time_text(at),
        }  # fmt: skip
        with _replacing(database, new.run_id, old.run_key if old else None, len(rows), chunk) as (connection, earlier):
            kept = {"predicted": 0, "validated": 0, "model_id": None}
            if earlier is not None:
                kept = {name: earlier[name] for name in kept}
            _set_run(connection, {**facts, **kept})
            ensure_sample(connection, new.sample_id)


def _columns(run_id: str, rows: ParticleRows) -> list[list[Any]]:
    """What a run's list and pixels say, in the order of the table: run_id to failure."""
    return [
        [run_id] * len(rows),
        rows.width_px.tolist(),
        rows.height_px.tolist(),
        [known(value) for value in rows.esd_um.tolist()],
        [known(value) for value in rows.area_um2.tolist()],
        rows.has_vignette.astype(int).tolist(),
        rows.has_mask.astype(int).tolist(),
        list(rows.failure),
    ]


def put_predictions(database: Database, predictions: Predictions) -> None:
    """See `Catalogue.put_predictions`."""
    run_id = predictions.run_id
    with database.long_writes.held():
        with database.read() as connection:
            old = live_run(connection, run_id)
        index = predictions.index
        if len(index) and not (index.min() >= 0 and index.max() < old.particles):
            outside = int(index[(index < 0) | (index >= old.particles)][0])
            raise NotFound(f"run {run_id} has no particle {outside}; it has {old.particles}")
        best = best_of(predictions)

        def chunk(key: int, _start: int, _stop: int, earlier: _Earlier) -> _Rows:
            first, last = _NAMES.index("predicted"), _NAMES.index("label")
            return [(key, *row[1:first], *(best.get(row.idx) or (None, None)), *row[last:]) for row in earlier]

        with _replacing(database, run_id, old.run_key, old.particles, chunk, whole=True) as (connection, earlier):
            assert earlier is not None
            facts = {name: value for name, value in earlier.items() if name not in ("run_key", "state")}
            _set_run(connection, {**facts, "predicted": len(best), "model_id": predictions.model_id})
            _count_predicted(connection, run_id, best)


def _count_predicted(connection: Connection, run_id: str, best: Mapping[int, tuple[str, float]]) -> None:
    connection.execute(update(class_count).where(class_count.c.run_id == run_id).values(predicted=0))
    classes, counts = np.unique([class_id for class_id, _ in best.values()], return_counts=True)
    for class_id, count in zip(classes.tolist(), counts.tolist(), strict=True):
        added = upsert(class_count).values(run_id=run_id, class_id=class_id, predicted=count, validated=0)
        replacing = added.on_conflict_do_update(index_elements=["run_id", "class_id"], set_={"predicted": count})
        connection.execute(replacing)
    drop_empty_counts(connection, run_id)


def _set_run(connection: Connection, values: Mapping[str, Any]) -> None:
    staged = (run.c.run_id == values["run_id"]) & (run.c.state == INGESTING)
    connection.execute(update(run).where(staged).values(**values))


_Earlier = Sequence[Row[Any]]
_Rows = list[tuple[Any, ...]]
_Chunk = Callable[[int, int, int, _Earlier], _Rows]


@contextmanager
def _replacing(
    database: Database, run_id: str, old_key: int | None, count: int, chunk: _Chunk, *, whole: bool = False
) -> Iterator[tuple[Connection, dict[str, Any] | None]]:
    """Writes particle rows aside; the block then completes the run's row in the transaction of the switch.

    Args:
        database: where.
        run_id: whose rows.
        old_key: key of the rows that stand now, None where there are none.
        count: particles of the run.
        chunk: makes the rows ``start`` to ``stop`` under a key out of the earlier ones.
        whole: hand whole earlier rows to ``chunk``, not only what is carried over.
    """
    _clear_leftovers(database)
    with database.write() as connection:
        before = connection.execute(select(func.coalesce(func.max(annotation.c.seq), 0))).scalar_one()
        added = connection.execute(insert(run).values(run_id=run_id, state=INGESTING))
        key = int(added.inserted_primary_key[0])  # type: ignore[index]
    columns = list(particle.c) if whole else [particle.c[name] for name in _CARRIED]
    for start in range(0, count, CHUNK_ROWS):
        stop = min(count, start + CHUNK_ROWS)
        earlier: _Earlier = []
        if old_key is not None:
            inside = (particle.c.run_key == old_key) & particle.c.idx.between(start, stop - 1)
            with database.read() as connection:
                earlier = connection.execute(select(*columns).where(inside).order_by(particle.c.idx)).all()
        rows = chunk(key, start, stop, earlier)
        with database.write() as connection:
            insert_rows(connection, particle, _NAMES, rows)
    with database.write() as connection:
        old = None
        if old_key is not None:
            old = dict(connection.execute(select(run).where(run.c.run_key == old_key)).mappings().one())
            _carry_new_labels(connection, run_id, old_key, key, before)
        yield connection, old
        connection.execute(update(run).where(run.c.run_key == old_key).values(state=OLD))
        connection.execute(update(run).where(run.c.run_key == key).values(state=DONE))
        if old_key is None:  # what was said of a run that was taken out stands again
            said = select(annotation.c.idx).where(annotation.c.run_id == run_id, annotation.c.idx < count).distinct()
            refold(connection, run_id, key, set(connection.execute(said).scalars()))
    _clear_leftovers(database)


def _carry_new_labels(connection: Connection, run_id: str, old_key: int, key: int, before: int) -> None:
    """Labels that were given while the rows were written aside."""
    changed = select(annotation.c.idx).where(annotation.c.seq > before, annotation.c.run_id == run_id).distinct()
    for index in connection.execute(changed).scalars().all():
        at = particle.c.idx == index
        now = select(particle.c.label, particle.c.status).where(particle.c.run_key == old_key, at)
        label, status = connection.execute(now).one()
        connection.execute(update(particle).where(particle.c.run_key == key, at).values(label=label, status=status))


def _clear_leftovers(database: Database) -> None:
    """Removes the rows that no query sees: replaced ones and those of killed processes."""
    with database.read() as connection:
        keys = connection.execute(select(run.c.run_key).where(run.c.state != DONE)).scalars().all()
    for key in keys:
        removed = CHUNK_ROWS
        while removed == CHUNK_ROWS:
            first = select(particle.c.idx).where(particle.c.run_key == key).limit(CHUNK_ROWS)
            with database.write() as connection:
                gone = delete(particle).where(particle.c.run_key == key, particle.c.idx.in_(first))
                removed = connection.execute(gone).rowcount
        with database.write() as connection:
            connection.execute(delete(run).where(run.c.run_key == key))


def remove_run(database: Database, run_id: str) -> None:
    """See `Catalogue.remove_run`."""
    with database.long_writes.held():
        with database.write() as connection:
            key = live_run(connection, run_id).run_key
            connection.execute(update(run).where(run.c.run_key == key).values(state=OLD))
            for table in (standing, class_count):
                connection.execute(delete(table).where(table.c.run_id == run_id))
        _clear_leftovers(database)
