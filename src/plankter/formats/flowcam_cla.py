"""The classification file (`.cla`, version v3): which particles a person or a filter put in which class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plankter._errors import ReadError
from plankter.formats.flowcam_text import split_lines


@dataclass(frozen=True)
class ClaClass:
    """One class: its filters are combined by ``logic`` ("OR" or "AND"); ``ids`` are the list's own ids."""

    name: str
    logic: str
    filters: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Classification:
    """A classification as VisualSpreadsheet saved it: its name, and its classes in the file's order."""

    name: str
    classes: tuple[ClaClass, ...]


class _Lines:
    """Takes one line after the other and knows the row for errors."""

    def __init__(self, text: str, path: Path | str | None) -> None:
        self.lines, self.path, self.row = split_lines(text), path, 0

    def take(self, what: str) -> str:
        if self.row >= len(self.lines):
            raise ReadError(f"the file ends where {what} was expected", path=self.path, row=self.row + 1)
        self.row += 1
        return self.lines[self.row - 1].strip()

    def number(self, what: str) -> int:
        text = self.take(what)
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise ReadError(f"expected {what} (a whole number), got {text[:40]!r}", path=self.path, row=self.row)
        return int(text)

    def count(self, what: str) -> int:
        number = self.number(what)
        if number > len(self.lines):
            raise ReadError(
                f"{what} is {number}, more than the file has lines ({len(self.lines)})", path=self.path, row=self.row
            )
        return number


def parse_cla(text: str, *, path: Path | str | None = None) -> tuple[Classification, ...]:
    """All classifications of the file, classes without particles included.

    Raises:
        ReadError: another version than v3, or not laid out as it; names the row.
    """
    lines = _Lines(text, path)
    version = lines.take("the version")
    if version != "v3":
        raise ReadError(f"classification file of version {version[:20]!r}; expected 'v3'", path=path, row=1)
    return tuple(_classification(lines) for _ in range(lines.count("the number of classifications")))


def _classification(lines: _Lines) -> Classification:
    name = lines.take("the name of a classification")
    return Classification(name, tuple(_class(lines) for _ in range(lines.count("the number of classes"))))


def _class(lines: _Lines) -> ClaClass:
    name = lines.take("the name of a class")
    logic = lines.take("'OR' or 'AND'")
    if logic not in ("OR", "AND"):
        raise ReadError(f"expected 'OR' or 'AND', got {logic[:20]!r}", path=lines.path, row=lines.row)
    filters = tuple(lines.take("the path of a filter") for _ in range(lines.count("the number of filters")))
    ids = tuple(lines.number("the id of a particle") for _ in range(lines.count("the number of particles")))
    return ClaClass(name, logic, filters, ids)


def write_cla(classifications: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """The text of a `.cla` v3: classification -> class -> ids of its particles; no filters."""
    lines = ["v3", str(len(classifications))]
    for name, classes in classifications.items():
        lines += [name, str(len(classes))]
        for class_name, ids in classes.items():
            lines += [class_name, "OR", "0", str(len(ids)), *(str(int(i)) for i in ids)]
    return "".join(f"{line}\r\n" for line in lines)
