"""Connections to a MongoDB server: checked at the start, every error in plain words, never a password in one."""

from __future__ import annotations

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
_SNAPSHOT_GONE = (239, 246)  # SnapshotTooOld, SnapshotUnavailable: ask again
_AUTHENTICATION, _UNAUTHORISED, _ILLEGAL = (18, 8000), 13, 20


def open_client(address: MongoAddress, **options: Any) -> MongoClient[Document]:
    """A client whose server answers and accepts the user.

    Raises:
        StoreError: pymongo is not installed, the address is wrong, no server answers, or it refuses the user.
    """
    try:
        from pymongo import MongoClient
    except ImportError as error:
        raise StoreError(
            "MongoDB needs the package pymongo", path=address.shown, hint="pip install 'plankter[mongodb]'"
        ) from error
    if "serverselectiontimeoutms" not in address.uri.lower():
        options["serverSelectionTimeoutMS"] = SELECT_MS
    with plain_errors(address):
        client: MongoClient[Document] = MongoClient(address.uri, tz_aware=True, appname="plankter", **options)
        try:
            client.admin.command("ping")
        except BaseException:
            client.close()
            raise
    return client


@contextmanager
def plain_errors(address: MongoAddress) -> Iterator[None]:
    """Turns the driver's errors into one that says what to do."""
    from pymongo.errors import PyMongoError

    try:
        yield
    except PyMongoError as error:
        raise _plain(error, address) from None  # the driver's own text may hold the address
    except UnicodeError as error:  # what the driver makes of some hosts
        raise StoreError(f"the address is not understood: {address.scrub(str(error))}", path=address.shown) from None


def _plain(error: PyMongoError, address: MongoAddress) -> StoreError:
    from pymongo import errors

    code = error.code if isinstance(error, errors.OperationFailure) else None
    said = address.scrub(str(error)).split(", full error")[0].split(", Timeout:")[0][:300]
    if isinstance(error, errors.InvalidURI | errors.ConfigurationError):
        hint = "mongodb://user:password@host:port/database; write special characters of a password as %XX"
        return StoreError(f"the address is not understood: {said}", path=address.shown, hint=hint)
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
        from pymongo.read_concern import ReadConcern
        from pymongo.write_concern import WriteConcern

        # one writer a process: its threads need not run into each other's transactions
        with self.errors(), self._lock, self.client.start_session() as session:
            return session.with_transaction(
                work, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
            )

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
