"""One document of a connected source -> labels, sample, measures; what does not fit is counted by its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from plankter.formats.mapped_values import Unfit, number_of, text_of, time_of_value, value_at
from plankter.formats.mapping_file import DatabaseMapping, Value
from plankter.store.source_database import made_at
from plankter.types import Array, Sample

EXAMPLES = 3
_TEXTS = ("sample_id", "station")
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Problems:
    """Reasons, how often each, and a few documents that show it."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, reason: str, key: str, shown: str | None = None, *, count: int = 1) -> None:
        """Counts one more."""
        entry = self.found.setdefault(reason, {"count": 0, "examples": []})
        entry["count"] += count
        if len(entry["examples"]) < EXAMPLES:
            entry["examples"].append(key if shown is None else f"{key}: {shown}")

    def as_json(self) -> dict[str, dict[str, Any]]:
        """The most frequent first."""
        return dict(sorted(self.found.items(), key=lambda item: -item[1]["count"]))


@dataclass(frozen=True)
class DocumentLabel:
    """What somebody said of a document's particle in their own database."""

    class_name: str
    annotator: str
    at: datetime


def _fit(problems: Problems, key: str, what: str, convert: Callable[..., Any], *values: Any) -> Any:
    try:
        return convert(*values)
    except Unfit as unfit:
        problems.add(f"{what}: {unfit.reason}", key, unfit.shown)
        return None


def labels_of(
    mapping: DatabaseMapping, document: Mapping[str, Any], key: str, problems: Problems
) -> list[DocumentLabel]:
    """The labels of a document, the newest last."""
    label = mapping.label
    if label is None:
        return []
    entries: Sequence[Any] = [document]
    if label.list is not None:
        held = value_at(document, label.list)
        if held is not None and not isinstance(held, list):
            problems.add("label.list: a list was expected", key, repr(held)[:80])
        entries = held if isinstance(held, list) else []
    found = []
    for entry in entries:
        name = _fit(problems, key, "label.class", text_of, value_at(entry, label.class_name))
        if name is None:
            continue
        annotator = _fit(problems, key, "label.annotator", text_of, label.annotator.of(entry))
        at = None
        if label.at is not None:
            at = _fit(problems, key, "label.at", time_of_value, value_at(entry, label.at), label.at_format)
        at = at or made_at(document.get("_id"))
        if at is None:
            problems.add("label.at: no date, taken as 1970", key)
        found.append(DocumentLabel(label.names.get(name, name), annotator or mapping.source.name, at or NEVER))
    return sorted(found, key=lambda entry: entry.at)


def sample_of(
    mapping: DatabaseMapping, document: Mapping[str, Any], group: str, key: str, problems: Problems
) -> Sample:
    """The sample of a document; fields that do not fit are left out."""
    spec = mapping.sample
    values: dict[str, Any] = {}
    for name, value in spec.values.items():
        what = f"sample.{name}"
        found = value.of(document)
        if name == "sampled_at":
            values[name] = _fit(problems, key, what, time_of_value, found, spec.at_format)
        else:
            values[name] = _fit(problems, key, what, text_of if name in _TEXTS else number_of, found)
    sample_id = values.pop("sample_id", None) or group.replace("\x1f", "/").strip("/") or mapping.source.name
    kept: dict[str, Any] = {}
    for name, fitting in values.items():
        if fitting is None:
            continue
        try:
            Sample(sample_id, **{name: fitting})
        except ValueError as error:
            problems.add(f"sample.{name}: {str(error).partition(' ')[2] or error}", key)
        else:
            kept[name] = fitting
    environment = {name: _environment(value, document, name, key, problems) for name, value in spec.environment.items()}
    return Sample(sample_id, **kept, environment={name: v for name, v in environment.items() if v is not None})


def _environment(value: Value, document: Any, name: str, key: str, problems: Problems) -> float | str | None:
    found = value.of(document)
    try:
        return number_of(found)
    except Unfit:
        text: str | None = _fit(problems, key, f"sample.environment.{name}", text_of, found)
        return text


def positive(value: Value, document: Mapping[str, Any], what: str, key: str, problems: Problems) -> float | None:
    """A number above 0, None where there is none."""
    found: float | None = _fit(problems, key, what, number_of, value.of(document))
    if found is not None and found <= 0:
        problems.add(f"{what}: a number above 0 was expected", key, repr(found))
        return None
    return found


def measures_of(
    mapping: DatabaseMapping, documents: Sequence[Mapping[str, Any]], keys: Sequence[str], problems: Problems
) -> dict[str, Array]:
    """The source's own measures by column: numbers, NaN where there is none."""
    found: dict[str, Array] = {}
    for name, path in mapping.measures.items():
        column = np.full(len(documents), np.nan)
        for row, document in enumerate(documents):
            value = value_at(document, path)
            if value is not None:
                number = _fit(problems, keys[row], f"measures.{name}", number_of, value)
                column[row] = np.nan if number is None else number
        found[name] = column
    return found
