"""Locks between processes (and threads), as files beside what they guard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from plankter._errors import StoreError

POLL_S = 0.005
PATIENCE_S = 600.0


class Lock:
    """One lock file; whoever holds it alone may write. A killed holder lets go of it.

    Waiters come in by the order they asked, near enough: each takes a second file, the turnstile, before the lock and
    leaves it as soon as it has the lock. So a writer of many short transactions cannot shut out one that waits.

    Args:
        path: the lock file; made where it is missing, never removed (that would let two in).
        patience_s: how long to wait before giving up.
    """

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._path, self._patience_s = path, patience_s
        # one object a path and process, so that a thread may take again what it holds
        self._lock = FileLock(str(path), is_singleton=True)
        self._turnstile = FileLock(f"{path}.turn", is_singleton=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits for the lock and holds it.

        Raises:
            StoreError: another process held it all the time.
        """
        if self._lock.is_locked:  # this thread has it already
            with self._lock:
                yield
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._turnstile.acquire(timeout=self._patience_s, poll_interval=POLL_S):
                self._lock.acquire(timeout=self._patience_s, poll_interval=POLL_S)
        except Timeout as error:
            raise StoreError(
                f"another process has been writing for {self._patience_s:g} s", path=self._path,
                hint="wait for it to end, then repeat the command",
            ) from error  # fmt: skip
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def held_if_free(self) -> Iterator[bool]:
        """Holds the lock where nobody does, this thread included; tells whether it does."""
        if self._lock.is_locked:
            yield False
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            self._lock.release()
