"""Connections to an SQLite file that several processes and threads use at once.

One writer at a time under a file lock, whoever writes; readers that can only read; checkpoints only under the lock
(SQLite before 3.51.3 can damage a file when two connections write and checkpoint at the same moment).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from plankter._errors import DiskFull, StoreError
from plankter.store.locks import Lock
from plankter.store.migrations import STEPS, migrate, schema_version

CHECKPOINT_BYTES = 4_000_000
BUSY_S = 60


def long_write_lock(path: Path) -> Lock:
    """What is held over a whole ingest of a run into the database at ``path``."""
    return Lock(path.with_name(path.name + ".ingest.lock"))


class Database:
    """An open SQLite file.

    Args:
        path: the file, made where it is missing; its folder must exist or be makeable.

    Raises:
        NewerWorkspace: written by a later version.
        StoreError: not a catalogue, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(path.with_name(path.name + ".lock"))
        # held over a whole ingest, so that what is left of another one is surely of a dead process
        self.long_writes = long_write_lock(path)
        self._writer = self._engine("BEGIN IMMEDIATE", ("PRAGMA synchronous = FULL",))
        self._reader = self._engine("BEGIN", ("PRAGMA query_only = 1",))
        try:
            self._prepare()
        except StoreError:
            self.close()
            raise

    def _engine(self, begin: str, pragmas: tuple[str, ...]) -> Engine:
        # immutable parts of the address are passed by creator: a path may hold any character
        def connect() -> sqlite3.Connection:
            return sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

        engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=56)

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _record: Any) -> None:
            for pragma in ("PRAGMA wal_autocheckpoint = 0", *pragmas):
                connection.execute(pragma)

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    def _prepare(self) -> None:
        with self._errors():
            if self.path.exists() and self.path.stat().st_size:
                with self._reader.begin() as connection:
                    if schema_version(connection) == len(STEPS):
                        return
            with self._lock.held():
                with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_S)) as plain:
                    plain.execute("PRAGMA journal_mode = WAL")
                with self._writer.begin() as connection:
                    migrate(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One moment of the database, for any number of questions."""
        with self._errors(), self._reader.begin() as connection:
            yield connection

    def ask(self, said: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one question in SQL, as of one moment; a single statement needs no transaction around it."""
        with self._errors():
            raw = self._reader.raw_connection()
            try:
                driver: Any = raw.driver_connection
                found: list[tuple[Any, ...]] = driver.execute(said, values).fetchall()
            finally:
                raw.close()
        return found

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, under the lock; nothing is written where the block raises."""
        with self._errors(), self._lock.held():
            with self._writer.begin() as connection:
                yield connection
            wal = self.path.with_name(self.path.name + "-wal")
            if wal.exists() and wal.stat().st_size > CHECKPOINT_BYTES:
                self._checkpoint("PASSIVE")

    def _checkpoint(self, mode: str) -> None:
        # outside SQLAlchemy's transactions: inside one a checkpoint is refused
        raw = self._writer.raw_connection()
        try:
            raw.cursor().execute(f"PRAGMA wal_checkpoint({mode})")
        finally:
            raw.close()

    def copy_to(self, path: Path) -> None:
        """Copies the database, as of one moment, into a single new file."""
        with self._errors(), self._lock.held():
            source = sqlite3.connect(self.path, timeout=BUSY_S)
            with contextlib.closing(source), contextlib.closing(sqlite3.connect(path)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")

    def replace_with(self, path: Path) -> None:
        """Takes over all of another database in one transaction: a kill leaves the old content or the new one."""
        with self._errors(), self._lock.held():
            source = sqlite3.connect(path, timeout=BUSY_S)
            target = sqlite3.connect(self.path, timeout=BUSY_S)
            with contextlib.closing(source), contextlib.closing(target):
                target.execute("PRAGMA wal_autocheckpoint = 0")
                target.execute("PRAGMA synchronous = FULL")
                source.backup(target)

    def close(self) -> None:
        """Lets go of the file; the last one to do so empties the write-ahead log."""
        with self._lock.held():
            self._reader.dispose()
            self._writer.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raise store_error(error, self.path) from error


def store_error(error: DBAPIError | sqlite3.Error, path: Path) -> StoreError:
    """What SQLite says, with what to do about it."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    if "disk is full" in said:
        return DiskFull(
            "the disk is full; nothing was half written", path=path, hint="free some space, then repeat the command"
        )
    hints = {
        "not a database": "the file is damaged or something else; `plankter rebuild` makes a new one from the archive",
        "malformed": "the file is damaged; `plankter rebuild` makes a new one from the archive",
        "locked": "another program holds the file; close it, then repeat the command",
    }
    hint = next((text for mark, text in hints.items() if mark in said), None)
    return StoreError(f"the catalogue cannot be used: {said}", path=path, hint=hint)
