"""A look at somebody's collection, and the mapping file that it suggests, with sample values to judge it by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from plankter._errors import Conflict, SettingsError
from plankter.formats.sample_table import SYNONYMS
from plankter.store.files import write_text
from plankter.store.mongodb_address import has_password, mongo_address
from plankter.store.mongodb_connect import open_client, plain_errors
from plankter.taxa.classes import match_class, shipped_class_list

LOOKED_AT = 300
MAX_DEPTH = 4
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_LABELS = ("class", "label", "taxon", "species", "category", "classification", "scientificname")
_ANNOTATORS = ("annotator", "by", "user", "author", "validated_by", "labeller", "expert")
_DATES = ("annotated_at", "labelled_at", "labeled_at", "validated_at", "at", "date", "when", "created_at")
_CHANGED = ("updated_at", "modified_at", "last_modified", "modified", "updated", "changed_at", "mtime")
_IMAGES = ("image_id", "file_id", "image", "gridfs_id", "roi_id", "vignette", "thumbnail", "img")


def propose(address: str, collection: str, out: Path, *, database: str | None = None) -> dict[str, Any]:
    """Looks at some documents of a collection and writes a mapping file to start from.

    Returns:
        ``{"mapping", "documents", "fields": [{"path", "types", "share", "samples"}], "proposed": {...}}``

    Raises:
        Conflict: the file exists. SettingsError: the collection is empty; the message lists those there are.
    """
    if out.exists():
        raise Conflict("there is a mapping already", path=out, hint="name another file; nothing was changed")
    found = mongo_address(address, database=database)
    client = open_client(found)
    try:
        with plain_errors(found):
            of = client.get_database(found.database)
            documents = list(of[collection].aggregate([{"$sample": {"size": LOOKED_AT}}]))
            names = sorted(of.list_collection_names())
            files = _files(of, documents)
    finally:
        client.close()
    if not documents:
        raise SettingsError(f"the collection {collection!r} holds nothing; there are: {', '.join(names)}")
    fields = _fields(documents)
    chosen = _choose(fields, files)
    shown = (
        address
        if not has_password(address)
        else "mongodb://user:${PLANKTER_MONGODB_PASSWORD}@" + address.rpartition("@")[2]
    )
    write_text(out, _text(shown, found.database, collection, chosen, fields, len(documents)))
    listed = [
        {"path": path, "types": dict(kinds), "share": share, "samples": samples}
        for path, (kinds, share, samples) in fields.items()
    ]
    return {"mapping": str(out), "documents": len(documents), "fields": listed, "proposed": chosen}


_Field = tuple[Counter[str], float, list[str]]


def _flat(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and depth < MAX_DEPTH and value:
        for name, inner in value.items():
            if "." not in str(name) and not str(name).startswith("$"):
                yield from _flat(inner, f"{path}.{name}" if path else str(name), depth + 1)
    else:
        yield path, value


def _fields(documents: Sequence[Mapping[str, Any]]) -> dict[str, _Field]:
    """Path -> types, share of the documents that have it, and sample values."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    samples: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        for path, value in _flat(document, "", 0):
            kinds[path][type(value).__name__] += 1
            text = f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)[:60]
            text = value.isoformat() if isinstance(value, datetime) else text
            if len(samples[path]) < 3 and text not in samples[path]:
                samples[path].append(text)
    return {
        path: (kinds[path], round(sum(kinds[path].values()) / len(documents), 3), samples[path])
        for path in sorted(kinds)
    }


def _files(database: Any, documents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Path of a field -> bucket, where its values are GridFS files."""
    buckets = [name.removesuffix(".files") for name in database.list_collection_names() if name.endswith(".files")]
    found: dict[str, str] = {}
    for document in documents[:20]:
        for path, value in _flat(document, "", 0):
            if path in found or type(value).__name__ not in ("ObjectId", "str") or path == "_id":
                continue
            for bucket in buckets:
                either = {"$or": [{"_id": value}, {"filename": value}]}
                if database[f"{bucket}.files"].find_one(either, {"_id": 1}) is not None:
                    found[path] = bucket
                    break
    return found


def _last(path: str) -> str:
    return path.rpartition(".")[2].lower()


def _named(fields: Mapping[str, _Field], names: Sequence[str], kinds: Sequence[str]) -> str | None:
    """The field whose last name comes first in ``names`` and that has one of these types."""
    for name in names:
        fitting = [path for path, (types, _, _) in fields.items() if _last(path) == name and types.keys() & set(kinds)]
        if fitting:
            return max(fitting, key=lambda path: fields[path][1])
    return None


def _choose(fields: Mapping[str, _Field], files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "image": _image(fields, files),
        "label": _label(fields),
        "sample": {
            name: path
            for name, synonyms in SYNONYMS.items()
            if name != "run" and (path := _named(fields, synonyms, ("str", "int", "float", "datetime", "Decimal128")))
        },
        "changed": _named(fields, _CHANGED, ("datetime", "int", "float", "Timestamp")),
    }


def _image(fields: Mapping[str, _Field], files: Mapping[str, str]) -> dict[str, str] | None:
    if files:
        path = max(files, key=lambda path: (_last(path) in _IMAGES, fields[path][1]))
        return {"kind": "gridfs", "field": path, "bucket": files[path]}
    binary = [path for path, (kinds, _, _) in fields.items() if "bytes" in kinds]
    if binary:
        return {"kind": "binary", "field": max(binary, key=lambda path: fields[path][1])}
    for path, (_, _, samples) in fields.items():
        values = [sample.strip("'\"").lower() for sample in samples]
        if any(value.startswith(("http://", "https://")) for value in values):
            first = next(value for value in samples if "://" in value).strip("'\"")
            return {"kind": "url", "field": path, "root": first.rpartition("/")[0] + "/"}
        if any(value.endswith(IMAGE_ENDINGS) for value in values):
            return {"kind": "path", "field": path, "root": "FOLDER"}
    return None


def _label(fields: Mapping[str, _Field]) -> dict[str, str] | None:
    taxa = shipped_class_list()

    def known(path: str) -> int:
        return sum(match_class(sample.strip("'\""), taxa) is not None for sample in fields[path][2])

    texts = [path for path, (kinds, _, _) in fields.items() if "str" in kinds]
    best = max(texts, key=lambda path: (known(path), _last(path) in _LABELS, fields[path][1]), default=None)
    if best is None or not (known(best) or _last(best) in _LABELS):
        return None
    beside = {path: field for path, field in fields.items() if path.rpartition(".")[0] == best.rpartition(".")[0]}
    found = {"class": best}
    for key, names, kinds in (("annotator", _ANNOTATORS, ("str",)), ("at", _DATES, ("datetime", "str", "int"))):
        path = _named(beside, names, kinds)
        if path is not None and path != best:
            found[key] = path
    return found


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(
    address: str, database: str, collection: str, chosen: Mapping[str, Any], fields: Mapping[str, _Field], looked: int
) -> str:  # fmt: skip
    lines = [
        f"# Proposed after a look at {looked} documents. Check each line, then: plankter connect FILE --dry-run",
        "",
    ]

    def line(key: str, path: str) -> str:
        kinds, share, samples = fields[path]
        note = f"{share:.0%} of documents, {'/'.join(kinds)}, such as {', '.join(samples)}".replace("\n", " ")
        return f"{key} = {_quoted(path)}  # {_plain(note)}"

    lines += ["[source]", f"address = {_quoted(address)}", f"database = {_quoted(database)}"]
    lines += [f"collection = {_quoted(collection)}"]
    lines += [line("changed", chosen["changed"])] if chosen["changed"] else ["# changed = \"a field that grows with every change\""]  # fmt: skip
    lines += ["# documents_per_s = 2000  # slow down, so that the source is not hurt", ""]
    by = chosen["sample"].get("sample_id")
    lines += ["[run]", f"by = [{_quoted(by) if by else ''}]  # documents with the same values here are one run", ""]
    image = chosen["image"]
    if image:
        lines += ["[image]", f"kind = {_quoted(image['kind'])}", line("field", image["field"])]
        lines += [f"{key} = {_quoted(image[key])}" for key in ("bucket", "root") if key in image] + [""]
    if chosen["label"]:
        lines += ["[label]", *(line(key, path) for key, path in chosen["label"].items()), ""]
    if chosen["sample"]:
        lines += ["[sample]", *(line(key, path) for key, path in chosen["sample"].items()), ""]
    used = {image["field"] if image else None, *(chosen["label"] or {}).values(), *chosen["sample"].values()}
    numbers = [
        path for path, field in fields.items() if path not in used and _is_number(field) and path != chosen["changed"]
    ]
    if numbers:
        lines += ["[measures]", *(line(_key(path), path) for path in numbers), ""]
        used |= set(numbers)
    rest = [path for path in fields if path not in used and path not in ("_id", chosen["changed"])]
    lines += [f"# not used: {_plain(path)} ({', '.join(fields[path][0])})" for path in rest]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _key(path: str) -> str:
    return _quoted(path.replace(".", "_"))


def _is_number(field: _Field) -> bool:
    return bool(field[0].keys() & {"int", "float", "Decimal128", "Int64"})
