"""Questions to the embedded catalogue: pages by keyset, each read off an index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Row, Select, literal_column, select, tuple_

from plankter._errors import NotFound
from plankter.store.base import ParticleFilter, ParticleRow
from plankter.store.memory import check_page, page_key
from plankter.store.sqlite_rows import live_run
from plankter.store.sqlite_schema import DONE, particle, run, sample

Key = tuple[Any, ...]
_SHOWN = (
    "run_id",
    "idx",
    "width_px",
    "height_px",
    "esd_um",
    "area_um2",
    "predicted",
    "score",
    "label",
    "status",
    "failure",
)


def page(
    connection: Connection, where: ParticleFilter, sort: str, descending: bool, after: Key | None, limit: int
) -> tuple[list[ParticleRow], Key | None]:
    """See `Catalogue.page`.

    Known values come first, unknown ones after: two reads, each along an index.
    """
    check_page(sort, limit)
    chosen = select(*(particle.c[name] for name in _SHOWN)).where(*_conditions(connection, where))
    found: list[Row[Any]] = []
    if sort == "index":
        found = _by_run(connection, where, chosen, descending, after, limit + 1)
    else:
        value = particle.c[sort]
        ties = (particle.c.run_id, particle.c.idx)
        if after is None or after[0] is not None:
            valued = chosen.where(value.is_not(None))
            found = _along(connection, valued, (value, *ties), descending, after, limit + 1)
            after = None
        if len(found) <= limit:
            rest = limit + 1 - len(found)
            key = after[1:] if after is not None else None
            found += _along(connection, chosen.where(value.is_(None)), ties, descending, key, rest)
    rows = [_particle_row(row) for row in found[:limit]]
    return rows, page_key(rows[-1], sort) if len(found) > limit else None


def _conditions(connection: Connection, where: ParticleFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if where.run_id is not None:
        conditions.append(particle.c.run_key == live_run(connection, where.run_id).run_key)
    live = select(run.c.run_key).where(run.c.state == DONE)
    if where.sample_id is not None:
        if connection.execute(select(sample).where(sample.c.sample_id == where.sample_id)).first() is None:
            raise NotFound(f"no sample {where.sample_id!r} in the catalogue")
        conditions.append(particle.c.run_key.in_(live.where(run.c.sample_id == where.sample_id)))
    elif where.run_id is None:
        # the + keeps SQLite from sorting run by run where an index gives the order over all runs
        conditions.append(literal_column("+particle.run_key", Integer).in_(live))
    for name in ("predicted", "label", "status"):
        if getattr(where, name) is not None:
            conditions.append(particle.c[name] == getattr(where, name))
    return conditions


def _along(
    connection: Connection, chosen: Select[Any], keys: tuple[ColumnElement[Any], ...], descending: bool,
    after: Key | None, limit: int,
) -> list[Row[Any]]:  # fmt: skip
    if after is not None:
        ours, theirs = tuple_(*keys), tuple_(*after)
        chosen = chosen.where(ours < theirs if descending else ours > theirs)
    order = [key.desc() if descending else key.asc() for key in keys]
    return list(connection.execute(chosen.order_by(*order).limit(limit)))


def _by_run(
    connection: Connection, where: ParticleFilter, chosen: Select[Any], descending: bool, after: Key | None, limit: int
) -> list[Row[Any]]:
    """In the order of run_id and index: run after run, each along its primary key."""
    runs = select(run.c.run_id, run.c.run_key).where(run.c.state == DONE)
    if where.run_id is not None:
        runs = runs.where(run.c.run_id == where.run_id)
    if after is not None:
        runs = runs.where(run.c.run_id <= after[1] if descending else run.c.run_id >= after[1])
    found: list[Row[Any]] = []
    for run_id, key in connection.execute(runs.order_by(run.c.run_id.desc() if descending else run.c.run_id)).all():
        part = chosen.where(particle.c.run_key == key)
        if after is not None and run_id == after[1]:
            part = part.where(particle.c.idx < after[2] if descending else particle.c.idx > after[2])
        order = particle.c.idx.desc() if descending else particle.c.idx.asc()
        found += connection.execute(part.order_by(order).limit(limit - len(found)))
        if len(found) >= limit:
            break
    return found


def _particle_row(row: Row[Any]) -> ParticleRow:
    return ParticleRow(*tuple(row))
