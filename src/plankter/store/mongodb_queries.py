"""Questions to the MongoDB catalogue: pages by keyset, each walked along an index from where the last one ended."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any

from plankter._errors import NotFound
from plankter.store.base import ClassCount, ParticleFilter, ParticleRow
from plankter.store.count_rows import CountRows, Counts
from plankter.store.memory import check_page, page_key
from plankter.store.mongodb_connect import Document, MongoDatabase
from plankter.store.mongodb_rows import hidden_keys, live_run
from plankter.store.mongodb_schema import CLASS_COUNT, DONE, KEY_SPAN, PARTIAL_WALKS, PARTICLE, RUN, SAMPLE

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

Key = tuple[Any, ...]
# the index that holds the rows of a filter
_FILTERS = {
    "predicted": ("predicted", "score", "run_id", "idx"),
    "label": ("label", "score", "run_id", "idx"),
    "status": ("status", "run_id", "idx"),
}
_LEFT_OUT = {"has_vignette": 0, "has_mask": 0}


def page(
    database: MongoDatabase, where: ParticleFilter, sort: str, descending: bool, after: Key | None, limit: int
) -> tuple[list[ParticleRow], Key | None]:
    """See `Catalogue.page`.

    Known values come first, unknown ones after: two walks, each along an index.
    """
    check_page(sort, limit)

    def work(session: ClientSession) -> list[Document]:
        walk = _Walk(database, session, where, sort, descending)
        begin = after
        found: list[Document] = []
        if sort != "index" and (begin is None or begin[0] is not None):
            found = walk.rows(True, begin, limit + 1)
            begin = None
        # what is predicted has a score
        if len(found) <= limit and not (sort == "score" and where.predicted is not None):
            found += walk.rows(False, begin, limit + 1 - len(found))
        return found

    found = database.read(work)
    rows = [particle_row(document) for document in found[:limit]]
    return rows, page_key(rows[-1], sort) if len(found) > limit else None


class _Walk:
    """The rows of a question in their order, along the index that fits it best."""

    def __init__(
        self, database: MongoDatabase, session: ClientSession, where: ParticleFilter, sort: str, descending: bool
    ) -> None:
        from bson import MaxKey, MinKey

        self._database, self._session = database, session
        self._sort, self._descending = sort, descending
        self._least, self._most = MinKey(), MaxKey()
        self._rest: Document = {
            name: value for name in ("predicted", "label", "status") if (value := getattr(where, name)) is not None
        }
        if where.status == "unlabelled":
            self._rest["status"] = None  # left out of the document
        # which index of a filter, where all runs are asked for
        self._filter = next((name for name in _FILTERS if self._rest.get(name) is not None), None)
        self._runs = self._runs_of(where)

    def _runs_of(self, where: ParticleFilter) -> list[tuple[str, int]] | None:
        """Runs by run_id, with their keys; None where an index gives the order over all runs."""
        among: Document = {"state": DONE}
        if where.run_id is not None:
            among["run_id"] = live_run(self._database, self._session, where.run_id)["run_id"]
        if where.sample_id is not None:
            if self._database.of(SAMPLE).find_one({"_id": where.sample_id}, {"_id": 1}, session=self._session) is None:
                raise NotFound(f"no sample {where.sample_id!r} in the catalogue")
            among["sample_id"] = where.sample_id
        if len(among) == 1 and (self._sort in ("index", "score") or self._filter is not None):
            return None
        found = self._database.of(RUN).find(among, {"run_id": 1}, session=self._session)
        return sorted(((run["run_id"], run["_id"]) for run in found), reverse=self._descending)

    def rows(self, known: bool, after: Key | None, limit: int) -> list[Document]:
        """Up to ``limit`` rows whose value is known, or is not (by index: all), beyond ``after``."""
        if self._runs is None:
            return self._over_all(known, after, limit)
        if known:
            parts = [self._of_run(run_id, key, True, after, limit) for run_id, key in self._runs]
            order = heapq.merge(*parts, key=self._key, reverse=self._descending)
            return [row for row, _ in zip(order, range(limit), strict=False)]
        found: list[Document] = []  # run after run is the order
        for run_id, key in self._runs:
            found += self._of_run(run_id, key, False, after, limit - len(found))
            if len(found) >= limit:
                break
        return found

    def _key(self, row: Document) -> Key:
        return (row[self._sort], row["run_id"], row["idx"])

    def _over_all(self, known: bool, after: Key | None, limit: int) -> list[Document]:
        first = self._filter
        head: Key = () if first is None else (self._rest[first],)
        fields = (*(() if first is None else (first,)), *self._value_field(), "run_id", "idx")
        rest = dict(self._rest)
        hidden = hidden_keys(self._database, self._session)
        if hidden:
            rest["run_key"] = {"$nin": hidden}
        if first is not None and fields not in PARTIAL_WALKS:
            return self._sorted(_FILTERS[first], rest, known, after, limit)
        value = () if self._sort == "index" else (-math.inf,) if known else (None,)
        begin: Key = (*head, *value, self._least, self._least)
        end: Key = (*head, *(() if not value else (self._most,) if known else value), self._most, self._most)
        if after is not None:
            at = (*head, *(() if not value else after[:1]), after[1])
            if self._descending:
                end = (*at, after[2])
            else:
                begin = (*at, after[2] + 1)
        return self._along(fields, begin, end, rest, limit)

    def _sorted(
        self, index: tuple[str, ...], rest: Document, known: bool, after: Key | None, limit: int
    ) -> list[Document]:
        """The first rows beyond ``after`` among those of a class, label or status, sorted by the server."""
        beyond = "$lt" if self._descending else "$gt"
        fields = (*(self._value_field() if known else ()), "run_id", "idx")
        more: list[Document] = [{self._sort: {"$ne": None} if known else None}] if self._value_field() else []
        if after is not None:
            key = after if known and self._value_field() else after[1:]
            more.append({"$or": [
                {**dict(zip(fields[:place], key[:place], strict=True)), fields[place]: {beyond: key[place]}}
                for place in range(len(fields))
            ]})  # fmt: skip
        order = [(name, -1 if self._descending else 1) for name in fields]
        cursor = self._database.of(PARTICLE).find({"$and": [rest, *more]}, _LEFT_OUT, session=self._session)
        return list(cursor.hint([(name, 1) for name in index]).sort(order).limit(limit))

    def _value_field(self) -> tuple[str, ...]:
        return () if self._sort == "index" else (self._sort,)

    def _of_run(self, run_id: str, key: int, known: bool, after: Key | None, limit: int) -> list[Document]:
        begin_idx: Any = self._least  # of the rows that tie with ``after``
        end_idx: Any = self._most
        if after is not None:
            if self._descending:
                end_idx = after[2] if run_id == after[1] else self._most if run_id < after[1] else self._least
            else:
                begin_idx = after[2] + 1 if run_id == after[1] else self._least if run_id > after[1] else self._most
        if self._sort == "index":
            low = 0 if begin_idx is self._least else KEY_SPAN if begin_idx is self._most else begin_idx
            high = KEY_SPAN if end_idx is self._most else 0 if end_idx is self._least else end_idx
            if low >= high:
                return []
            return self._along(("_id",), (key * KEY_SPAN + low,), (key * KEY_SPAN + high,), self._rest, limit)
        if not known and (begin_idx is self._most or end_idx is self._least):
            return []
        head: Key = (key,)
        fields: tuple[str, ...] = ("run_key", self._sort, "idx")
        if self._sort == "score" and "predicted" in self._rest:
            head, fields = (key, self._rest["predicted"]), ("run_key", "predicted", "score", "idx")
        begin: Key = (*head, -math.inf if known else None, self._least)
        end: Key = (*head, self._most if known else None, self._most)
        if after is not None:
            if self._descending:
                end = (*head, after[0], end_idx)
            else:
                begin = (*head, after[0], begin_idx)
        return self._along(fields, begin, end, self._rest, limit)

    def _along(self, fields: tuple[str, ...], begin: Key, end: Key, rest: Document, limit: int) -> list[Document]:
        # min is the first key of the index that counts, max the first that does not
        order = [(name, -1 if self._descending else 1) for name in fields]
        cursor = self._database.of(PARTICLE).find(rest, _LEFT_OUT, session=self._session)
        cursor = cursor.hint([(name, 1) for name in fields]).sort(order).limit(limit).batch_size(limit + 1)
        return list(
            cursor.min(list(zip(fields, begin, strict=True))).max(list(zip(fields, end, strict=True)))
        )  # fmt: skip


def particle_row(row: Document) -> ParticleRow:
    """A particle's document as a row of a page."""
    get = row.get
    return ParticleRow(
        row["run_id"], row["idx"], row["width_px"], row["height_px"], get("esd_um"), get("area_um2"), get("predicted"),
        get("score"), get("label"), get("status", "unlabelled"), get("failure"),
    )  # fmt: skip


class CountReader:
    """Reads the class counts of a database; safe for threads.

    Args:
        database: whose.
    """

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._rows = CountRows[bytes](_counts_of)

    def counts(self, run_id: str | None) -> list[ClassCount]:
        """See `Catalogue.class_counts`."""
        from bson.codec_options import CodecOptions
        from bson.raw_bson import RawBSONDocument

        def work(session: ClientSession) -> list[bytes]:
            where = {} if run_id is None else {"_id": live_run(self._database, session, run_id)["run_id"]}
            options = CodecOptions(document_class=RawBSONDocument)
            counts = self._database.of(CLASS_COUNT).with_options(codec_options=options)
            return [bytes(found.raw) for found in counts.find(where, session=session)]

        said = self._database.read(work)
        if run_id is None:
            return self._rows.all_runs(said)
        return [row for one in said for row in self._rows.one_run(one)]


def _counts_of(said: bytes) -> Counts:
    from bson import decode

    found = decode(said)
    return found["_id"], found["class_ids"], found["predicted"], found["validated"]
