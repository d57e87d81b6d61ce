"""Connections to a MongoDB server: checked at the start, every error in plain words, never a password in one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from plankter._errors import StoreError
from plankter.store.mongodb_address import MongoAddress

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection
    from pymongo.errors import PyMongoError

T = TypeVar("T")
Document = dict[str, Any]
OLDEST_SERVER = (5, 0)
SELECT_MS = 8000
PATIENCE_S = 120.0
OUTAGE_S = 15.0  # an election of a new primary takes less
_SNAPSHOT_GONE = (239, 246)  # SnapshotTooOld, SnapshotUnavailable: ask again
_ADDRESS_HINT = "mongodb://user:password@host:port/database; write special characters of a password as %XX"
_AUTHENTICATION, _UNAUTHORISED, _ILLEGAL = (18, 8000), 13, 20
_DISK_FULL, _TOO_LARGE = 14031, (10334, 17419, 17420)


def open_client(address: MongoAddress, **options: Any) -> MongoClient[Document]:
    """A client whose server answers and accepts the user.

    Raises:
        StoreError: pymongo is not installed, the address is wrong, no server answers, or it refuses the user.
    """
    try:
        from pymongo import MongoClient
        from pymongo.errors import InvalidURI
    except ImportError as error:
        raise StoreError(
            "MongoDB needs the package pymongo", path=address.shown, hint="pip install 'plankter[mongodb]'"
        ) from error
    if "serverselectiontimeoutms" not in address.uri.lower():
        options["serverSelectionTimeoutMS"] = SELECT_MS
    with plain_errors(address):
        try:
            client: MongoClient[Document] = MongoClient(address.uri, tz_aware=True, appname="plankter", **options)
        except (ValueError, InvalidURI):
            raise StoreError("the address is not understood", path=address.shown, hint=_ADDRESS_HINT) from None
        try:
            client.admin.command("ping")
        except BaseException:
            client.close()
            raise
    return client


@contextmanager
def plain_errors(address: MongoAddress) -> Iterator[None]:
    """Turns the driver's errors into one that says what to do."""
    from pymongo.errors import DocumentTooLarge, PyMongoError

    try:
        yield
    except PyMongoError as error:
        raise _plain(error, address) from None  # the driver's own text may hold the address
    except DocumentTooLarge:
        raise _too_large(address) from None


def _too_large(address: MongoAddress) -> StoreError:
    hint = "shorten what is to be written: notes, the names of classes, the description of a model"
    return StoreError("a document would be larger than the 16 MB that MongoDB takes", path=address.shown, hint=hint)


def _plain(error: PyMongoError, address: MongoAddress) -> StoreError:
    from pymongo import errors

    code = error.code if isinstance(error, errors.OperationFailure) else None
    said = address.scrub(str(error)).split(", full error")[0].split(", Timeout:")[0][:300]
    if isinstance(error, errors.ConfigurationError):
        return StoreError(f"the address cannot be used: {said}", path=address.shown, hint=_ADDRESS_HINT)
    if isinstance(error, errors.ConnectionFailure):
        hint = "start the server or correct the address, then repeat the command; nothing was half written"
        return StoreError(f"no MongoDB server answers: {said}", path=address.shown, hint=hint)
    if code in _AUTHENTICATION:
        hint = "check both; the user may belong to another database: add ?authSource=admin"
        return StoreError("the server refused user name or password", path=address.shown, hint=hint)
    if code == _UNAUTHORISED:
        hint = "ask for the role readWrite on this database; reading alone needs the role read"
        return StoreError(f"the user has no right to do this: {said}", path=address.shown, hint=hint)
    if code == _ILLEGAL and "replica set" in said:
        return no_replica_set(address)
    if code in _TOO_LARGE:
        return _too_large(address)
    if code == _DISK_FULL:
        hint = "free some space on the server's disk, then repeat the command; nothing was half written"
        return StoreError("the disk of the database server is full", path=address.shown, hint=hint)
    return StoreError(f"the database cannot be used: {said}", path=address.shown)


def no_replica_set(address: MongoAddress) -> StoreError:
    """What to say where a server cannot do transactions."""
    return StoreError(
        "the server is not part of a replica set, so it has no transactions: labels and counts could not be kept exact",
        path=address.shown,
        hint="start mongod with --replSet rs0 and run rs.initiate() once; one member is enough",
    )


class MongoDatabase:
    """An open database with transactions.

    Args:
        address: where.

    Raises:
        StoreError: no server, wrong user, too old, or no replica set.
    """

    def __init__(self, address: MongoAddress) -> None:
        self.address = address
        self._lock = threading.RLock()
        self.client = open_client(address)
        try:
            with plain_errors(address):
                self._check()
        except StoreError:
            self.client.close()
            raise
        from pymongo.write_concern import WriteConcern

        self.database = self.client.get_database(address.database, write_concern=WriteConcern("majority"))

    def _check(self) -> None:
        hello = self.client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise no_replica_set(self.address)
        version = tuple(self.client.server_info()["versionArray"][:2])
        if version < OLDEST_SERVER:
            raise StoreError(
                f"the server is MongoDB {version[0]}.{version[1]}, expected {OLDEST_SERVER[0]}.{OLDEST_SERVER[1]} or later",
                path=self.address.shown,
            )

    def of(self, name: str) -> Collection[Document]:
        """A collection by its full name."""
        return self.database[name]

    def close(self) -> None:
        """Lets go of the server."""
        self.client.close()

    def errors(self) -> Any:
        """The context in which errors are turned into plain ones."""
        return plain_errors(self.address)

    def write(self, work: Callable[[ClientSession], T]) -> T:
        """One transaction; ``work`` may be called again where another writer was first."""
        from pymongo.errors import ConnectionFailure, PyMongoError

        # one writer a process: its threads need not run into each other's transactions
        with self.errors(), self._lock, self.client.start_session() as session:
            began, outage = time.monotonic(), None
            while True:
                try:
                    return self._attempt(session, work)
                except PyMongoError as error:
                    now = time.monotonic()
                    if isinstance(error, ConnectionFailure):
                        outage = outage or now
                    late = now - began > PATIENCE_S or (outage is not None and now - outage > OUTAGE_S)
                    if late or not error.has_error_label("TransientTransactionError"):
                        raise
                    time.sleep(random.uniform(0.001, 0.02))  # whoever ran into another one waits a little

    def _attempt(self, session: ClientSession, work: Callable[[ClientSession], T]) -> T:
        from pymongo.errors import PyMongoError
        from pymongo.read_concern import ReadConcern
        from pymongo.write_concern import WriteConcern

        session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority"))
        try:
            result = work(session)
        except BaseException:
            session.abort_transaction()
            raise
        began = time.monotonic()
        while True:
            try:
                session.commit_transaction()
                return result
            except PyMongoError as error:  # asking again is safe: it commits once
                unknown = error.has_error_label("UnknownTransactionCommitResult")
                if not unknown or time.monotonic() - began > OUTAGE_S:
                    raise

    def read(self, work: Callable[[ClientSession], T]) -> T:
        """One moment of the database, for any number of questions."""
        from pymongo.errors import OperationFailure

        with self.errors():
            for turn in range(20):
                try:
                    with self.client.start_session(snapshot=True) as session:
                        return work(session)
                except OperationFailure as error:  # just after a collection was made
                    if error.code not in _SNAPSHOT_GONE or turn == 19:
                        raise
                    time.sleep(0.05)
        raise AssertionError("not reached")
