"""What was read of a source, on disk: which document is which particle, and what it looked like.

The archive holds the truth (each run names its documents); `reconcile` brings the ledger level with it, so that a kill
or a lost ledger neither doubles nor loses a document.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plankter._errors import StoreError
from plankter.store.archive import Archive
from plankter.store.source_database import Seen

SOURCE_SETTING = "Connect/source"
GROUP_SETTING = "Connect/group"
_TABLES = """
CREATE TABLE IF NOT EXISTS part (part INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS document (
  n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, part INTEGER NOT NULL, run_id TEXT, idx INTEGER, image TEXT,
  facts TEXT, due INTEGER NOT NULL DEFAULT 0, result TEXT, pass INTEGER NOT NULL DEFAULT 0, stamp TEXT);
CREATE INDEX IF NOT EXISTS document_waiting ON document (part, n) WHERE run_id IS NULL;
CREATE INDEX IF NOT EXISTS document_due ON document (n) WHERE due = 1;
CREATE INDEX IF NOT EXISTS document_run ON document (run_id, idx) WHERE run_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS run (run_id TEXT PRIMARY KEY, ours INTEGER NOT NULL, part INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID
"""


@dataclass
class Looked:
    """What a batch of looks came to."""

    new: int = 0
    unchanged: int = 0
    changed: int = 0
    image_changed: list[str] | None = None


class Ledger:
    """An SQLite file of one source; one process at a time.

    Args:
        path: the file.
        name: of the source.
    """

    def __init__(self, path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._name, self._path = name, path
        try:
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            for statement in _TABLES.split(";"):
                self._connection.execute(statement)
            columns = {row[1] for row in self._connection.execute("PRAGMA table_info (document)")}
            if "stamp" not in columns:  # of an earlier version
                self._connection.execute("ALTER TABLE document ADD COLUMN stamp TEXT")
        except sqlite3.DatabaseError as error:
            hint = "delete it: it is made anew from the archive"
            raise StoreError(f"cannot be used: {error}", path=path, hint=hint) from error

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # -- state
    def get(self, name: str) -> str | None:
        """A remembered value."""
        row = self._connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, name: str, value: str | None) -> None:
        """Remembers a value; None forgets it."""
        if value is None:
            self._connection.execute("DELETE FROM state WHERE name = ?", (name,))
        else:
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    # -- level with the archive
    def reconcile(self, archive: Archive) -> list[str]:
        """Takes over what the archive holds of this source, and forgets runs that were taken out.

        Returns:
            Runs that the ledger did not know as finished: catalogue and labels may lack them.
        """
        there = set(archive.run_ids())
        known = dict(self._connection.execute("SELECT run_id, ours FROM run"))
        for run_id in known.keys() - there:
            with self._all_or_nothing():
                forget = "UPDATE document SET run_id = NULL, idx = NULL, due = 0, result = NULL WHERE run_id = ?"
                self._connection.execute(forget, (run_id,))
                self._connection.execute("DELETE FROM run WHERE run_id = ?", (run_id,))
        found = []
        for run_id in sorted(there - known.keys()):
            archived = archive.open(run_id)
            ours = archived.run.settings.get(SOURCE_SETTING) == self._name
            if ours:
                found.append(run_id)
                keys = archived.particles().label
                with self._all_or_nothing():
                    part = self._part(archived.run.settings.get(GROUP_SETTING, ""))
                    self._connection.executemany(
                        "INSERT INTO document (key, part, run_id, idx, due) VALUES (?, ?, ?, ?, 1) "
                        "ON CONFLICT (key) DO UPDATE SET run_id = excluded.run_id, idx = excluded.idx, due = 1",
                        ((key, part, run_id, index) for index, key in enumerate(keys)),
                    )
            else:
                self._connection.execute("INSERT OR REPLACE INTO run VALUES (?, 0, NULL)", (run_id,))
        return found

    def finished(self, run_id: str) -> None:
        """Catalogue and labels of a run are level, too."""
        part = "(SELECT part FROM document WHERE run_id = ? LIMIT 1)"
        self._connection.execute(f"INSERT OR REPLACE INTO run VALUES (?, 1, {part})", (run_id, run_id))

    def _part(self, name: str) -> int:
        self._connection.execute("INSERT OR IGNORE INTO part (name) VALUES (?)", (name,))
        return int(self._connection.execute("SELECT part FROM part WHERE name = ?", (name,)).fetchone()[0])

    # -- looking
    def look(self, seen: Sequence[Seen], turn: int, remember: tuple[str, str] | None = None) -> Looked:
        """Notes new documents as waiting, and changed ones as due.

        Args:
            seen: a batch.
            turn: number of this pass over the source.
            remember: a value put down in the same transaction: how far the pass has come.
        """
        found = Looked(image_changed=[])
        keys = json.dumps([entry.key for entry in seen])
        rows = self._connection.execute(
            "SELECT key, run_id, image, facts FROM document WHERE key IN (SELECT value FROM json_each(?))", (keys,)
        )
        known = {row[0]: row[1:] for row in rows}
        parts: dict[str, int] = {}
        new, changed, adopted = [], [], []
        for entry in seen:
            if entry.key not in known:
                new.append(entry)
                continue
            run_id, image, facts = known[entry.key]
            if run_id is None:
                found.new += 1
            elif image is None:  # known from the archive alone
                adopted.append(entry)
            elif entry.image != image:
                assert found.image_changed is not None
                found.image_changed.append(entry.key)
            if run_id is not None and facts is not None and facts != entry.facts:
                changed.append(entry)
            elif run_id is not None:
                found.unchanged += 1
        with self._all_or_nothing():
            for entry in new:
                if entry.group not in parts:
                    parts[entry.group] = self._part(entry.group)
            self._connection.executemany(
                "INSERT INTO document (key, part, image, facts, pass, stamp) VALUES (?, ?, ?, ?, ?, ?)",
                ((entry.key, parts[entry.group], entry.image, entry.facts, turn, entry.stamp) for entry in new),
            )
            self._connection.executemany(
                "UPDATE document SET due = 1 WHERE key = ?", ((entry.key,) for entry in changed)
            )
            self._connection.executemany(
                "UPDATE document SET image = ? WHERE key = ?", ((entry.image, entry.key) for entry in adopted)
            )
            self._connection.executemany(
                "UPDATE document SET pass = ?, stamp = ? WHERE key = ?",
                ((turn, entry.stamp, entry.key) for entry in seen if entry.key in known),
            )
            if remember is not None:
                self._connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", remember)
        found.new += len(new)
        found.changed = len(changed)
        return found

    def same(self, stamps: Sequence[tuple[str, str]]) -> set[str]:
        """The keys of documents that are known with this very stamp."""
        keys = json.dumps([key for key, _ in stamps])
        rows = self._connection.execute(
            "SELECT key, stamp FROM document WHERE key IN (SELECT value FROM json_each(?))", (keys,)
        )
        known = dict(rows)
        return {key for key, stamp in stamps if known.get(key) == stamp}

    def mark_seen(self, keys: Sequence[str], turn: int, remember: tuple[str, str]) -> None:
        """These documents are in the source, by this pass over it; and a value in the same transaction."""
        with self._all_or_nothing():
            self._connection.execute(
                "UPDATE document SET pass = ? WHERE key IN (SELECT value FROM json_each(?))", (turn, json.dumps(keys))
            )
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", remember)

    def seen(self, turn: int) -> int:
        """How many documents a whole pass found, or came in since."""
        return int(self._connection.execute("SELECT count(*) FROM document WHERE pass = ?", (turn,)).fetchone()[0])

    def not_seen(self, turn: int) -> int:
        """How many documents a whole pass did not find any more."""
        return int(self._connection.execute("SELECT count(*) FROM document WHERE pass <> ?", (turn,)).fetchone()[0])

    # -- reading
    def waiting(self) -> list[tuple[str, int]]:
        """Groups with documents that are in no run yet, and how many."""
        rows = self._connection.execute(
            "SELECT name, count(*) FROM document JOIN part USING (part) WHERE run_id IS NULL GROUP BY part ORDER BY part"
        )
        return [(str(name), int(count)) for name, count in rows]

    def next_keys(self, group: str, count: int) -> list[str]:
        """The first documents of a group that wait."""
        rows = self._connection.execute(
            "SELECT key FROM document WHERE run_id IS NULL AND part = (SELECT part FROM part WHERE name = ?) "
            "ORDER BY n LIMIT ?", (group, count),
        )  # fmt: skip
        return [str(row[0]) for row in rows]

    def gone(self, keys: Iterable[str]) -> None:
        """Forgets documents that left the source before they were read."""
        with self._all_or_nothing():
            self._connection.executemany(
                "DELETE FROM document WHERE key = ? AND run_id IS NULL", ((key,) for key in keys)
            )

    def runs_of(self, group: str) -> int:
        """How many runs a group has."""
        row = self._connection.execute(
            "SELECT count(*) FROM run WHERE part = (SELECT part FROM part WHERE name = ?)", (group,)
        ).fetchone()
        return int(row[0])

    def placed(self, run_id: str, seen: Sequence[Seen]) -> None:
        """The documents are a run's particles now, in this order, labels and all."""
        with self._all_or_nothing():
            self._connection.executemany(
                "UPDATE document SET run_id = ?, idx = ?, image = ?, facts = ?, due = 0 WHERE key = ?",
                ((run_id, index, entry.image, entry.facts, entry.key) for index, entry in enumerate(seen)),
            )
            self.finished(run_id)

    def due(self, limit: int) -> list[tuple[str, str, int]]:
        """Documents whose labels or metadata changed: key, run_id, index; run by run."""
        rows = self._connection.execute(
            "SELECT key, run_id, idx FROM document WHERE due = 1 ORDER BY n LIMIT ?", (limit,)
        )
        return [(str(key), str(run_id), int(index)) for key, run_id, index in rows]

    def settled(self, seen: Sequence[Seen], missing: Sequence[str]) -> None:
        """Labels and metadata of these documents are level; ``missing`` ones are gone from the source."""
        with self._all_or_nothing():
            self._connection.executemany(
                "UPDATE document SET due = 0, facts = ? WHERE key = ?", ((entry.facts, entry.key) for entry in seen)
            )
            self._connection.executemany("UPDATE document SET due = 0 WHERE key = ?", ((key,) for key in missing))

    # -- results
    def runs(self) -> list[str]:
        """Runs of this source."""
        return [
            str(row[0]) for row in self._connection.execute("SELECT run_id FROM run WHERE ours = 1 ORDER BY run_id")
        ]

    def results(self, run_id: str) -> list[tuple[int, str, str | None]]:
        """Index, key and fingerprint of the last result written, by index."""
        rows = self._connection.execute(
            "SELECT idx, key, result FROM document WHERE run_id = ? ORDER BY idx", (run_id,)
        )
        return [(int(index), str(key), result) for index, key, result in rows]

    def wrote(self, results: Iterable[tuple[str, str | None]]) -> None:
        """Remembers the fingerprint of what was written to each document."""
        with self._all_or_nothing():
            self._connection.executemany(
                "UPDATE document SET result = ? WHERE key = ?", ((r, key) for key, r in results)
            )

    def counts(self) -> dict[str, int]:
        """Documents known, in runs, and runs."""
        documents, placed = self._connection.execute("SELECT count(*), count(run_id) FROM document").fetchone()
        return {"documents": int(documents), "placed": int(placed), "runs": len(self.runs())}
