"""Results written into somebody's database: only into our field or our collections, and so that it can be undone."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plankter._errors import SettingsError, StoreError
from plankter.formats.mapping_file import DatabaseMapping, ResultMapping
from plankter.store.mongodb_address import MongoAddress, mongo_address
from plankter.store.mongodb_connect import Document, open_client, plain_errors
from plankter.store.source_database import json_of, value_of

if TYPE_CHECKING:
    from pymongo.collection import Collection

OURS = {"by": "plankter"}
NOT_OURS, GONE = "there is something that plankter did not write", "the document is not there any more"
SINCE = "changed since; left as it is"
# what the server says of one document, while the others of the batch are written
_REFUSED_BY_SERVER = {
    17419: "the document would grow over the 16 MB that MongoDB takes",
    10334: "the document would grow over the 16 MB that MongoDB takes",
    121: "the collection's own rules (validator) do not allow it",
}
_THERE_ALREADY = 11000


@dataclass(frozen=True)
class Place:
    """One value of ours: a field of a document, or a whole document of a collection of ours (``field`` None)."""

    collection: str
    field: str | None


@dataclass(frozen=True)
class Write:
    """What is to stand in a place: ``now`` None takes it out."""

    place: Place
    identity: Any
    now: Document | None


@dataclass(frozen=True)
class Outcome:
    """What became of writes: how many were made, how many places held that already, and why others were not."""

    written: int
    same: int
    refused: list[tuple[Any, str]]
    examples: list[dict[str, Any]]


class ResultCollections:
    """The database that results go to.

    Args:
        mapping: with a section ``[results]``.

    Raises:
        SettingsError: no such section, or it names the collection of the documents as one of ours.
    """

    def __init__(self, mapping: DatabaseMapping) -> None:
        if mapping.results is None:
            raise SettingsError("expected a section [results]: where results are to be written", path=mapping.path)
        self.results: ResultMapping = mapping.results
        own = [name for name in (self.results.quantities, self._collection()) if name]
        bucket = mapping.image.bucket if mapping.image else "fs"
        theirs = {mapping.source.collection, mapping.sample.collection, f"{bucket}.files", f"{bucket}.chunks"}
        if set(own) & theirs or len(set(own)) < len(own):
            raise SettingsError(
                "[results] collection and quantities must be collections of their own, not the source's",
                path=mapping.path,
            )
        address = self.results.address or mapping.source.address
        self.address: MongoAddress = mongo_address(address, database=mapping.source.database)
        beside = Place(mapping.source.collection, self.results.field)
        self.documents = beside if self.results.into == "beside" else Place(self.results.collection, None)
        self.quantities = Place(self.results.quantities, None) if self.results.quantities else None
        self._client = open_client(self.address)

    def _collection(self) -> str | None:
        return self.results.collection if self.results.into == "own" else None

    def close(self) -> None:
        """Lets go of the server."""
        self._client.close()

    def _of(self, place: Place) -> Collection[Document]:
        from bson.codec_options import CodecOptions, DatetimeConversion

        codec: CodecOptions[Document] = CodecOptions(
            tz_aware=True, unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_CLAMP
        )
        found: Collection[Document] = self._client.get_database(self.address.database, codec)[place.collection]
        return found

    def held(self, place: Place, identities: Sequence[Any]) -> dict[str, tuple[bool, Any]]:
        """Text of an id -> whether its document is there, and what stands in the place (None for nothing)."""
        wanted = {place.field: 1} if place.field else None
        with plain_errors(self.address):
            found = self._of(place).find({"_id": {"$in": list(identities)}}, wanted)
            documents = {json_of(document["_id"]): document for document in found}
        held: dict[str, tuple[bool, Any]] = {}
        for identity in identities:
            document = documents.get(json_of(identity))
            if document is None:
                held[json_of(identity)] = (False, None)
            elif place.field:
                held[json_of(identity)] = (True, document.get(place.field))
            else:
                held[json_of(identity)] = (True, _without_id(document))
        return held

    def ids_of_run(self, place: Place, run_id: str) -> list[Any]:
        """Documents of ours that belong to a run."""
        with plain_errors(self.address):
            return [found["_id"] for found in self._of(place).find({**OURS, "run_id": run_id}, {"_id": 1})]

    def write(self, writes: Sequence[Write], undo: UndoList | None) -> Outcome:
        """Makes the writes of one place; nothing that is not ours is touched.

        Args:
            writes: all of the same place.
            undo: what stood there before goes into this list first; None for a dry run.
        """
        if not writes:
            return Outcome(0, 0, [], [])
        place = writes[0].place
        held = self.held(place, [write.identity for write in writes])
        refused: list[tuple[Any, str]] = []
        todo: list[tuple[Write, Any]] = []
        same = 0
        for write in writes:
            there, before = held[json_of(write.identity)]
            if place.field and not there:
                refused.append((write.identity, GONE))
            elif before is not None and not is_ours(before):
                refused.append((write.identity, NOT_OURS))
            elif before == write.now:
                same += 1
            else:
                todo.append((write, before))
        examples = [
            {"_id": str(write.identity), "before": _shown(before), "after": _shown(write.now)}
            for write, before in todo[:3]
        ]
        if undo is not None and todo:
            undo.add([(write, before) for write, before in todo])
            failed = self._apply([(write.identity, write.now, before) for write, before in todo], place)
            return Outcome(len(todo) - len(failed), same, refused + failed, examples)
        return Outcome(len(todo), same, refused, examples)

    def _apply(self, changes: Sequence[tuple[Any, Document | None, Any]], place: Place) -> list[tuple[Any, str]]:
        """Only where what was read still stands, or something of ours; what the server refused, and why."""
        from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
        from pymongo.errors import BulkWriteError

        requests: list[Any] = []
        for identity, now, before in changes:
            if place.field:
                free = {"$or": [{place.field: None}, {f"{place.field}.by": OURS["by"]}]}
                change = {"$set": {place.field: now}} if now is not None else {"$unset": {place.field: ""}}
                requests.append(UpdateOne({"_id": identity, **free}, change))
            elif now is None:
                requests.append(DeleteOne({"_id": identity, **OURS}))
            elif before is None:
                requests.append(InsertOne({"_id": identity, **now}))
            else:
                requests.append(ReplaceOne({"_id": identity, **OURS}, now))
        with plain_errors(self.address):
            try:
                self._of(place).bulk_write(requests, ordered=False)
            except BulkWriteError as error:
                failed = [entry for entry in error.details["writeErrors"] if entry["code"] != _THERE_ALREADY]
                unknown = [entry for entry in failed if entry["code"] not in _REFUSED_BY_SERVER]
                if unknown or error.details.get("writeConcernErrors"):
                    raise
                return [(changes[entry["index"]][0], _REFUSED_BY_SERVER[entry["code"]]) for entry in failed]
        return []

    def undo(self, path: Path) -> Outcome:
        """Puts back what stood in each place of an undo list, where what plankter wrote still stands.

        Raises:
            StoreError: the list is damaged.
        """
        written, refused = 0, []
        for place, identity, before, after in reversed(list(read_undo(path))):
            there, now = self.held(place, [identity])[json_of(identity)]
            if place.field and not there:
                refused.append((identity, GONE))
            elif now == before:
                continue
            elif now != after:
                refused.append((identity, SINCE))
            else:
                failed = self._apply([(identity, before, now)], place)
                refused += failed
                written += not failed
        return Outcome(written, 0, refused, [])


def is_ours(value: Any) -> bool:
    """True for what plankter wrote."""
    return isinstance(value, dict) and value.get("by") == OURS["by"]


def _without_id(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != "_id"}


def _shown(value: Any) -> Any:
    return None if value is None else json.loads(json_of(value))


class UndoList:
    """A text file of what stood before, one line a write, on the disk before the write is made.

    Args:
        path: made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, writes: Sequence[tuple[Write, Any]]) -> None:
        """Appends lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json_of({
                "collection": write.place.collection, "field": write.place.field, "_id": write.identity,
                "before": before, "after": write.now,
            })
            for write, before in writes
        ]  # fmt: skip
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def read_undo(path: Path) -> Iterator[tuple[Place, Any, Any, Any]]:
    """Place, id, what stood before and what was written, in the order of the writes; a line cut short is left out.

    Raises:
        StoreError: not an undo list.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open(encoding="utf-8"))
        except OSError as error:
            raise StoreError(f"cannot be read: {error.strerror}", path=path) from error
        for row, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                found = value_of(line)
                entry = Place(found["collection"], found["field"]), found["_id"], found["before"], found["after"]
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"expected a line of an undo list: {error}", path=path, row=row) from error
            yield entry
