"""Somebody's own collection, read gently: light documents first, images only of what is new, never a write."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from plankter._errors import SettingsError
from plankter.formats.mapped_values import value_at
from plankter.formats.mapping_file import DatabaseMapping
from plankter.store.mongodb_address import MongoAddress, masked, mongo_address
from plankter.store.mongodb_connect import Document, open_client, plain_errors

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from pymongo.collection import Collection

BATCH = 2000
MIN_WAIT_S = 0.001


class Throttle:
    """Slows a reader down to so many documents and megabytes a second.

    Args:
        documents_per_s: None for no limit.
        megabytes_per_s: None for no limit.
    """

    def __init__(self, documents_per_s: float | None, megabytes_per_s: float | None) -> None:
        self._costs = (
            1 / documents_per_s if documents_per_s else 0.0,
            1 / (megabytes_per_s * 1e6) if megabytes_per_s else 0.0,
        )
        self._free_at = time.monotonic()

    def spent(self, documents: int, size: int = 0) -> None:
        """Waits as long as what was read is to last."""
        self._free_at = max(self._free_at, time.monotonic() - 1) + max(
            documents * self._costs[0], size * self._costs[1]
        )
        wait = self._free_at - time.monotonic()
        if wait > MIN_WAIT_S:
            time.sleep(wait)


@dataclass(frozen=True)
class Seen:
    """What a look at a document tells, without its image: fingerprints change where the document did.

    ``stamp`` is that of the field that tells a change, where the mapping names one.
    """

    key: str
    group: str
    image: str
    facts: str
    stamp: str | None = None


@dataclass
class SourceDatabase:
    """An open source; made by `open_source`.

    ``read_bytes`` and ``images_read`` count what was read of images.
    """

    mapping: DatabaseMapping
    address: MongoAddress
    client: Any
    throttle: Throttle
    images_read: int = 0
    read_bytes: int = 0
    _fields: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._fields = _fields_of(self.mapping)

    def close(self) -> None:
        """Lets go of the server."""
        self.client.close()

    def errors(self) -> Any:
        """The context in which errors are turned into plain ones."""
        return plain_errors(self.address)

    def of(self, name: str) -> Collection[Document]:
        """A collection of the source, read where it hurts least."""
        from pymongo import ReadPreference

        preference = ReadPreference.PRIMARY if self.mapping.source.primary else ReadPreference.SECONDARY_PREFERRED
        database = self.client.get_database(self.address.database, codec_options=_codec(), read_preference=preference)
        found: Collection[Document] = database[name]
        return found

    @property
    def documents(self) -> Collection[Document]:
        """The collection of the particles."""
        return self.of(self.mapping.source.collection)

    def _light(self) -> Document:
        """A projection: the mapped fields, but of an image within the document only its size."""
        image = self.mapping.image
        wanted: Document = dict.fromkeys(self._fields, 1)
        if image is not None and image.kind == "binary":
            size = {
                "$cond": [{"$eq": [{"$type": f"${image.field}"}, "binData"]}, {"$binarySize": f"${image.field}"}, None]
            }
            wanted["_image"] = {"size": size, "type": {"$type": f"${image.field}"}}
        return _without_overlap(wanted)

    def now(self) -> datetime:
        """The server's clock."""
        with self.errors():
            found: datetime = self.client.admin.command("hello", codec_options=_codec())["localTime"]
        return found

    def count(self) -> int:
        """How many documents there are; without a filter the server knows without counting."""
        where = dict(self.mapping.source.filter)
        with self.errors():
            return self.documents.count_documents(where) if where else self.documents.estimated_document_count()

    def scan(
        self, where: Document, order: str, *, after: Any = None, only: Sequence[str] | None = None
    ) -> Iterator[list[Document]]:
        """Light documents in batches, by ``order``.

        Args:
            where: more conditions.
            order: field to sort by, ``_id`` or the one that tells a change.
            after: ``_id`` to go on from.
            only: ``_id`` and these fields, not all that are mapped.
        """
        asked: Document = (
            {"$and": [dict(self.mapping.source.filter), where]} if where else dict(self.mapping.source.filter)
        )
        if after is not None:
            asked = {"$and": [asked, {"_id": {"$gt": after}}]}
        wanted = self._light() if only is None else dict.fromkeys(("_id", *only), 1)
        with self.errors():
            cursor = self.documents.find(asked, wanted).batch_size(BATCH)
            cursor = cursor.sort(order, 1) if order else cursor
            batch: list[Document] = []
            for document in cursor:
                batch.append(document)
                if len(batch) == BATCH:
                    yield batch
                    self.throttle.spent(len(batch))
                    batch = []
            if batch:
                yield batch
                self.throttle.spent(len(batch))

    def get(self, ids: Sequence[Any], *, filtered: bool = False) -> dict[str, Document]:
        """Light documents by the text of their ``_id``; those that are gone (``filtered``: or not meant) are left out."""
        found: dict[str, Document] = {}
        with self.errors():
            for start in range(0, len(ids), BATCH):
                part = list(ids[start : start + BATCH])
                asked: Document = {"_id": {"$in": part}}
                if filtered:
                    asked = {"$and": [dict(self.mapping.source.filter), asked]}
                for document in self.documents.find(asked, self._light()):
                    found[id_text(document["_id"])] = document
                self.throttle.spent(len(part))
        return found

    def images_of(self, references: Sequence[Any]) -> dict[Any, str]:
        """Fingerprints of GridFS files, by their ids: length and date, no bytes."""
        image = self.mapping.image
        if image is None or image.kind != "gridfs":
            return {}
        hashable = list({reference for reference in references if is_reference(reference)})
        with self.errors():
            files = self.of(f"{image.bucket}.files")
            wanted = {"length": 1, "uploadDate": 1}
            found = files.find({"_id": {"$in": hashable}}, wanted) if hashable else ()
            return {file["_id"]: f"{file.get('length')}/{file.get('uploadDate')}" for file in found}

    def look(self, documents: Sequence[Document]) -> list[Seen]:
        """What a look at light documents tells."""
        image = self.mapping.image
        references = [None if image is None else value_at(document, image.field) for document in documents]
        files = self.images_of(references)
        changed = self.mapping.source.changed
        found = []
        for document, reference in zip(documents, references, strict=True):
            known = files.get(reference) if is_reference(reference) else None
            pixels = repr((document.get("_image"), reference, known))
            rest = repr(sorted((str(name), value) for name, value in document.items() if name != "_image"))
            group = "\x1f".join(_group_part(value_at(document, path)) for path in self.mapping.run.by)
            stamp = stamp_of(value_at(document, changed)) if changed else None
            found.append(Seen(id_text(document["_id"]), group, _digest(pixels), _digest(rest), stamp))
        return found

    def joined(self, document: Document) -> Document:
        """The document that holds the sample's metadata: the particle's own, or one of another collection."""
        sample = self.mapping.sample
        if sample.collection is None:
            return document
        local = value_at(document, sample.local or "_id")
        with self.errors():
            return self.of(sample.collection).find_one({sample.foreign: local}) or {}


def open_source(mapping: DatabaseMapping) -> SourceDatabase:
    """Connects to the source of a mapping; a user who may only read is enough.

    Raises:
        StoreError: no server, wrong user. SettingsError: no such collection.
    """
    address = mongo_address(mapping.source.address, database=mapping.source.database)
    client = open_client(address)
    throttle = Throttle(mapping.source.documents_per_s, mapping.source.megabytes_per_s)
    source = SourceDatabase(mapping, address, client, throttle)
    try:
        with source.errors():
            known = source.documents.find_one({}, {"_id": 1}) is not None
        if not known:
            raise SettingsError(
                f"the collection {mapping.source.collection!r} of database {address.database!r} at "
                f"{masked(mapping.source.address)} holds nothing", path=mapping.path,
                hint="check [source] collection and database",
            )  # fmt: skip
    except BaseException:
        client.close()
        raise
    return source


def _codec() -> CodecOptions[Document]:
    # whatever lies in foreign documents must not stop the reading: odd texts, dates of the year 0
    from bson.binary import UuidRepresentation
    from bson.codec_options import CodecOptions, DatetimeConversion

    return CodecOptions(
        tz_aware=True, tzinfo=UTC, unicode_decode_error_handler="replace",
        uuid_representation=UuidRepresentation.STANDARD, datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
    )  # fmt: skip


def _fields_of(mapping: DatabaseMapping) -> tuple[str, ...]:
    run, label, sample = mapping.run, mapping.label, mapping.sample
    found = {*run.by, *mapping.measures.values()}
    values = [run.instrument, run.um_per_px, run.volume_imaged_ml]
    if sample.collection is None:
        values += [*sample.values.values(), *sample.environment.values()]
    elif sample.local:
        found.add(sample.local)
    if label is not None:
        if label.list:
            found.add(label.list)
        else:
            values.append(label.annotator)
            found |= {label.class_name, *([label.at] if label.at else [])}
    if mapping.image is not None and mapping.image.kind != "binary":
        found.add(mapping.image.field)
    if mapping.source.changed:
        found.add(mapping.source.changed)
    found |= {value.path for value in values if value.path is not None}
    return tuple(sorted(found))


def _without_overlap(wanted: Document) -> Document:
    """A projection may not name a field and one within it; numbers of list places are no fields to it."""
    plain: Document = {}
    for name, value in wanted.items():
        parts = name.split(".")
        cut = next((n for n, part in enumerate(parts) if re.fullmatch(r"[0-9]{1,9}", part)), len(parts))
        plain[".".join(parts[:cut])] = value
    return {
        name: value
        for name, value in plain.items()
        if not any(name.startswith(other + ".") for other in plain if other != name)
    }


def id_text(value: Any) -> str:
    """An ``_id`` as text from which `id_of` makes it again."""
    if isinstance(value, str):
        return f"str:{value}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"int:{value}"
    if _is_object_id(value):
        return f"oid:{value}"
    return f"json:{json_of(value)}"


def id_of(text: str) -> Any:
    """What `id_text` wrote."""
    from bson import ObjectId

    kind, _, rest = text.partition(":")
    return value_of(rest) if kind == "json" else {"str": str, "int": int, "oid": ObjectId}[kind](rest)


def json_of(value: Any) -> str:
    """A value of any type that a document may hold, as text."""
    from bson import json_util

    return json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)


def value_of(text: str) -> Any:
    """What `json_of` wrote; times in UTC."""
    from bson import json_util

    options = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True, tzinfo=UTC)
    return json_util.loads(text, json_options=options)


def stamp_of(value: Any) -> str:
    """A fingerprint of what stands in the field that tells a change."""
    return _digest(repr(value))


def made_at(identity: Any) -> datetime | None:
    """When a document was made, where its ``_id`` tells."""
    return identity.generation_time if _is_object_id(identity) else None


def _is_object_id(value: Any) -> bool:
    return type(value).__name__ == "ObjectId"


def is_reference(value: Any) -> bool:
    """True for what can name a GridFS file."""
    return type(value) is str or isinstance(value, int | uuid.UUID) or _is_object_id(value)


def _group_part(value: Any) -> str:
    return "" if value is None else str(value)[:200]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
