"""Small questions and changes that several parts of the embedded catalogue share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from plankter._errors import NotFound
from plankter.store.encoding import json_text, sample_object
from plankter.store.sqlite_schema import DONE, class_count, run, sample
from plankter.types import Sample


def live_run(connection: Connection, run_id: str) -> Row[Any]:
    """The row of a run that queries see.

    Raises:
        NotFound: no such run.
    """
    row = connection.execute(select(run).where(run.c.run_id == run_id, run.c.state == DONE)).one_or_none()
    if row is None:
        raise NotFound(f"no run {run_id!r} in the catalogue")
    return row


def ensure_sample(connection: Connection, sample_id: str) -> None:
    """Creates a sample by id where it does not exist."""
    facts = json_text(sample_object(Sample(sample_id)))
    connection.execute(upsert(sample).values(sample_id=sample_id, facts=facts).on_conflict_do_nothing())


def drop_empty_counts(connection: Connection, run_id: str) -> None:
    """Removes the counts of a run that are zero twice."""
    c = class_count.c
    connection.execute(delete(class_count).where(c.run_id == run_id, c.predicted == 0, c.validated == 0))


def insert_rows(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts many rows whose values are as SQLite keeps them; SQLAlchemy would look at every single one."""
    if rows:
        marks = ", ".join("?" * len(names))
        said = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"
        connection.exec_driver_sql(said, list(rows))


def plain_rows(connection: Connection, said: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of a question in SQL, as SQLite gives them: of thousands SQLAlchemy's own rows take longer than the rest.

    Runs within the connection's transaction.
    """
    driver: Any = connection.connection.driver_connection
    found: list[tuple[Any, ...]] = driver.execute(said, values).fetchall()
    return found
