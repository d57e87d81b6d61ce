"""The mapping: which field of somebody's own documents is the image, the label, the sample, and where results go.

A value is a field's dotted path, a number, or ``{ value = ... }`` for a constant text. Every mistake is refused with
its line and what was expected.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plankter._errors import SettingsError
from plankter.formats.mapped_values import value_at
from plankter.formats.sample_table import NUMBERS
from plankter.formats.toml_lines import read_toml

KINDS = ("gridfs", "binary", "path", "url")
SAMPLE_FIELDS = ("sample_id", "station", "sampled_at", *NUMBERS)


@dataclass(frozen=True)
class Value:
    """Where a value comes from: a field, or the mapping itself."""

    path: str | None = None
    constant: str | float | None = None

    def of(self, document: Any) -> Any:
        """The value for a document, None where it has none."""
        return self.constant if self.path is None else value_at(document, self.path)


@dataclass(frozen=True)
class SourceMapping:
    """``[source]``: which collection. ``changed`` names a field that grows with every change of a document;
    ``skew_s`` says by how much the clocks of those who write it differ at most, and every ``compare_h`` hours that field
    is read of every document."""

    address: str
    collection: str
    name: str
    database: str | None = None
    filter: Mapping[str, Any] = field(default_factory=dict)
    changed: str | None = None
    skew_s: float = 300.0
    compare_h: float = 24.0
    documents_per_s: float | None = None
    megabytes_per_s: float | None = None
    primary: bool = False


@dataclass(frozen=True)
class RunMapping:
    """``[run]``: documents whose ``by`` fields are the same are one run, in parts of ``particles``."""

    by: tuple[str, ...] = ()
    instrument: Value = Value(constant="database")
    um_per_px: Value = Value()
    volume_imaged_ml: Value = Value()
    particles: int = 5000


@dataclass(frozen=True)
class ImageMapping:
    """``[image]``: where the pixels are. ``root`` is the folder or address that paths and URLs stay below."""

    kind: str
    field: str
    root: str = ""
    bucket: str = "fs"


@dataclass(frozen=True)
class LabelMapping:
    """``[label]``: who said what and when; ``list`` names an array of such entries."""

    class_name: str
    annotator: Value = Value()
    at: str | None = None
    at_format: str | None = None
    list: str | None = None
    person: bool = False
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleMapping:
    """``[sample]``: metadata, in the documents or in a collection of their own."""

    values: Mapping[str, Value] = field(default_factory=dict)
    environment: Mapping[str, Value] = field(default_factory=dict)
    at_format: str | None = None
    collection: str | None = None
    local: str | None = None
    foreign: str = "_id"


@dataclass(frozen=True)
class ResultMapping:
    """``[results]``: beside the documents under one field of ours, or in a collection of ours."""

    into: str = "own"
    field: str = "plankter"
    collection: str = "plankter_results"
    quantities: str | None = "plankter_quantities"
    address: str | None = None
    predictions: bool = True
    labels: bool = True


@dataclass(frozen=True)
class DatabaseMapping:
    """A whole mapping file."""

    path: Path
    source: SourceMapping
    image: ImageMapping | None
    run: RunMapping = RunMapping()
    label: LabelMapping | None = None
    sample: SampleMapping = SampleMapping()
    measures: Mapping[str, str] = field(default_factory=dict)
    results: ResultMapping | None = None


Check = Callable[[Any], str | None]


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else f"text, got {value!r}"


def _path(value: Any) -> str | None:
    good = isinstance(value, str) and all(part and not part.startswith("$") for part in value.split("."))
    return None if good else f"the dotted path of a field such as 'sample.station', got {value!r}"


def _name(value: Any) -> str | None:
    good = isinstance(value, str) and value and not value.startswith(("system.", "plankter.", "$", "."))
    return None if good else f"the name of a collection, got {value!r}"


def _own_field(value: Any) -> str | None:
    good = _path(value) is None and "." not in value and value != "_id"
    return None if good else f"the name of one field at the top of a document, got {value!r}"


def _value(value: Any) -> str | None:
    if isinstance(value, dict):
        constant = value.get("value")
        good = set(value) == {"value"} and isinstance(constant, str | int | float)
        return None if good else f"{{ value = ... }} with a text or number, got {value!r}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None
    return _path(value)


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"true or false, got {value!r}"


def _table(value: Any) -> str | None:
    return None if isinstance(value, dict) else f"a table, got {value!r}"


def _names(value: Any) -> str | None:
    good = isinstance(value, dict) and all(isinstance(name, str) and name.strip() for name in value.values())
    return None if good else f"a table of theirs = 'ours', got {value!r}"


def _paths(value: Any) -> str | None:
    good = isinstance(value, list) and all(_path(part) is None for part in value)
    return None if good else f"a list of fields such as ['sample.cruise'], got {value!r}"


def _positive(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return None if good else f"a number above 0, got {value!r}"


def _not_negative(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return None if good else f"0 or a number above, got {value!r}"


def _count(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 50_000
    return None if good else f"a whole number of 1 to 50000, got {value!r}"


def _one_of(*allowed: str) -> Check:
    return lambda value: None if value in allowed else f"{' or '.join(allowed)}, got {value!r}"


# section -> key -> what it must be; those with * are needed
KEYS: dict[str, dict[str, Check]] = {
    "source": {
        "*address": _text, "*collection": _name, "name": _text, "database": _text, "filter": _table, "changed": _path,
        "skew_s": _not_negative, "compare_h": _not_negative,
        "documents_per_s": _positive, "megabytes_per_s": _positive, "primary": _flag,
    },
    "run": {"by": _paths, "instrument": _value, "um_per_px": _value, "volume_imaged_ml": _value, "particles": _count},
    "image": {"*kind": _one_of(*KINDS), "*field": _path, "root": _text, "bucket": _text},
    "label": {
        "*class": _path, "annotator": _value, "at": _path, "at_format": _text, "list": _path, "person": _flag,
        "names": _names,
    },
    "sample": {
        **dict.fromkeys(SAMPLE_FIELDS, _value), "at_format": _text, "collection": _name, "local": _path,
        "foreign": _path, "environment": _table,
    },
    "sample.environment": {},
    "measures": {},
    "results": {
        "into": _one_of("beside", "own"), "field": _own_field, "collection": _name, "quantities": _name,
        "address": _text, "predictions": _flag, "labels": _flag,
    },
}  # fmt: skip


class _Checked:
    """The tables of a file, each key looked at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values, self.lines = read_toml(path)

    def wrong(self, message: str, *where: str) -> SettingsError:
        row = next((self.lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in self.lines), None)
        return SettingsError(message, path=self.path, row=row)

    def section(self, name: str) -> dict[str, Any]:
        where = tuple(name.split("."))
        found: Any = self.values
        for part in where:
            found = found.get(part, {})
            if not isinstance(found, dict):
                raise self.wrong(f"expected a table [{name}]", *where)
        rules = {key.lstrip("*"): check for key, check in KEYS[name].items()}
        for key, value in found.items():
            check = rules.get(key, _value if not rules else None)
            if check is None:
                near = difflib.get_close_matches(key, rules, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise self.wrong(f"unknown key {key!r} in [{name}]: {hint}expected {', '.join(rules)}", *where, key)
            problem = check(value)
            if problem:
                raise self.wrong(f"[{name}] {key}: expected {problem}", *where, key)
        for key in KEYS[name]:
            if key.startswith("*") and found and key[1:] not in found:
                raise self.wrong(f"[{name}] needs a key {key[1:]!r}", *where)
        return found


def read_mapping(path: Path) -> DatabaseMapping:
    """Reads a mapping file.

    Raises:
        SettingsError: no TOML, an unknown section or key, or a value that is not what it must be; says the line.
    """
    checked = _Checked(path)
    sections = [name for name in KEYS if "." not in name]
    for name in checked.values:
        if name not in sections:
            near = difflib.get_close_matches(name, sections, 1)
            hint = f"did you mean [{near[0]}]? " if near else ""
            raise checked.wrong(f"unknown section [{name}]: {hint}expected {', '.join(sections)}", name)
    found = {name: checked.section(name) for name in KEYS}
    if not found["source"]:
        raise SettingsError("expected a section [source] with address and collection", path=path)
    sample = {key: _as_value(value) for key, value in found["sample"].items() if key in SAMPLE_FIELDS}
    lookup = {
        key: found["sample"][key] for key in ("at_format", "collection", "local", "foreign") if key in found["sample"]
    }
    if ("collection" in lookup) != ("local" in lookup):
        raise checked.wrong("[sample] collection and local belong together: the field that names a sample", "sample")
    environment = {key: _as_value(value) for key, value in found["sample.environment"].items()}
    for key, value in found["measures"].items():
        if not isinstance(value, str):
            raise checked.wrong(
                f"[measures] {key}: expected the dotted path of a field, got {value!r}", "measures", key
            )
    return DatabaseMapping(
        path=path,
        source=_source(found["source"]),
        image=_image(checked, found["image"]),
        run=_run(found["run"], sample),
        label=_label(found["label"]),
        sample=SampleMapping(sample, environment, **lookup),
        measures=dict(found["measures"]),
        results=ResultMapping(**found["results"]) if "results" in checked.values else None,
    )  # fmt: skip


def _as_value(value: Any) -> Value:
    if isinstance(value, str):
        return Value(path=value)
    return Value(constant=value["value"] if isinstance(value, dict) else value)


def _source(found: dict[str, Any]) -> SourceMapping:
    name = found.get("name") or f"{found.get('database') or 'database'}.{found['collection']}"
    return SourceMapping(**{**found, "name": name})


def _run(found: dict[str, Any], sample: Mapping[str, Value]) -> RunMapping:
    values = {key: _as_value(value) for key, value in found.items() if key not in ("by", "particles")}
    of_sample = sample["sample_id"].path if "sample_id" in sample else None
    by = tuple(found["by"]) if "by" in found else (of_sample,) if of_sample else ()
    return RunMapping(by=by, particles=found.get("particles", RunMapping.particles), **values)


def _image(checked: _Checked, found: dict[str, Any]) -> ImageMapping | None:
    if not found:
        return None
    kind, root = found["kind"], found.get("root", "")
    if kind in ("path", "url") and not root:
        raise checked.wrong(
            f"[image] kind {kind!r} needs a root: the folder or address that nothing may leave", "image"
        )
    if kind == "url":
        parts = urlsplit(root)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise checked.wrong(f"[image] root: expected http(s)://host/folder/, got {root!r}", "image", "root")
    return ImageMapping(**found)


def _label(found: dict[str, Any]) -> LabelMapping | None:
    if not found:
        return None
    rest = {key: value for key, value in found.items() if key not in ("class", "annotator")}
    annotator = _as_value(found["annotator"]) if "annotator" in found else Value()
    return LabelMapping(class_name=found["class"], annotator=annotator, **rest)
