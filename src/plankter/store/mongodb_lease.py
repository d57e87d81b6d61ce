"""Who writes a run: a lease in the database, renewed in every transaction of the writer, taken over when it runs out."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from plankter._errors import StoreError
from plankter.store.mongodb_connect import MongoDatabase
from plankter.store.mongodb_schema import LEASE

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

LEASE_S = 30.0
PATIENCE_S = 600.0
POLL_S = 0.1


class Lease:
    """The right to write a run, as long as each transaction calls `renew`.

    A writer that lost it (it slept for longer than `LEASE_S`) cannot commit any more: whoever took it over is alone.

    Args:
        database: where.
        name: what is written.
    """

    def __init__(self, database: MongoDatabase, name: str) -> None:
        self._database, self._name = database, name
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex}"

    def renew(self, session: ClientSession) -> None:
        """Within a transaction: it commits only where the lease is still held.

        Raises:
            StoreError: somebody else holds it.
        """
        mine = {"_id": self._name, "owner": self.owner}
        found = self._database.of(LEASE).update_one(mine, _until(self.owner), session=session)
        if not found.matched_count:
            raise StoreError(
                f"another process took over the writing of {self._name}, because this one was silent for {LEASE_S:g} s",
                hint="repeat the command; nothing was half written",
            )

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Waits for the lease and holds it.

        Raises:
            StoreError: another process held it all the time.
        """
        began = time.monotonic()
        while not self.taken():
            if time.monotonic() - began > PATIENCE_S:
                raise StoreError(f"another process has been writing {self._name} for {PATIENCE_S:g} s")
            time.sleep(POLL_S)
        try:
            yield self
        finally:
            self.release()

    def taken(self) -> bool:
        """Takes the lease where nobody holds it; tells whether it did."""
        from pymongo.errors import DuplicateKeyError

        with self._database.errors():
            lease = self._database.of(LEASE)
            found = lease.find_one({"_id": self._name})
            if found is None:
                try:
                    lease.insert_one({"_id": self._name, "owner": self.owner, "until": None})
                except DuplicateKeyError:
                    return False
                free: dict[str, object] = {"_id": self._name, "owner": self.owner}
            elif _dead(str(found["owner"])):
                free = {"_id": self._name, "owner": found["owner"]}
            else:  # no date, which sorts before all dates, where its taker was killed in between
                free = {"_id": self._name, "$expr": {"$lt": ["$until", "$$NOW"]}}
            return bool(lease.update_one(free, _until(self.owner)).matched_count)

    def release(self) -> None:
        """Lets others in."""
        with self._database.errors():
            self._database.of(LEASE).delete_one({"_id": self._name, "owner": self.owner})


def _until(owner: str) -> list[dict[str, object]]:
    later = {"$add": ["$$NOW", int(LEASE_S * 1000)]}  # by the server's clock
    return [{"$set": {"owner": owner, "until": later}}]


def _dead(owner: str) -> bool:
    """True where the owner was a process of this computer that has ended."""
    host, _, rest = owner.partition("/")
    if os.name == "nt" or host != socket.gethostname():
        return False
    try:
        os.kill(int(rest.partition("/")[0]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False
