"""TOML with line numbers: tomllib reads the values, this finds where they stand, for messages that say the line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from plankter._errors import SettingsError

_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")
_LINE = re.compile(r"\(at line (\d+), column \d+\)")
MAX_BYTES = 1_000_000


def read_toml(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The values of a file, and the line of each table and key by its path.

    Raises:
        SettingsError: not readable, or no TOML; says which line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"a file of more than {MAX_BYTES:,} bytes is not read", path=path)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"expected TOML in UTF-8: {error}", path=path) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        raise SettingsError(f"expected TOML: {error}", path=path, row=int(found.group(1)) if found else None) from error
    return values, lines_of(text)


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Path of each table and key -> its line, counted from 1."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    inside: str | None = None  # the quotes of a text over several lines
    depth = 0  # brackets of a list over several lines
    for number, line in enumerate(text.splitlines(), start=1):
        if inside is None and depth == 0:
            header, key = _HEADER.match(line), _KEY.match(line)
            if header and not key:
                table = _parts(header.group(1))
                found.setdefault(table, number)
            elif key:
                found.setdefault((*table, *_parts(key.group(1))), number)
        inside, depth = _state(line, inside, depth)
    return found


def _parts(text: str) -> tuple[str, ...]:
    return tuple(next(part for part in found.groups() if part is not None) for found in _PART.finditer(text))


def _state(line: str, inside: str | None, depth: int) -> tuple[str | None, int]:
    """Whether a text or a list goes on after a line."""
    at = 0
    while at < len(line):
        here = line[at : at + 3]
        if inside is not None:
            if here == inside:
                inside, at = None, at + 3
            else:
                at += 1
        elif here in ('"""', "'''"):
            inside, at = here, at + 3
        elif line[at] in "\"'":
            end = line.find(line[at], at + 1)
            at = len(line) if end < 0 else end + 1
        elif line[at] == "#":
            break
        else:
            depth += (line[at] == "[") - (line[at] == "]")
            at += 1
    return inside, max(depth, 0)
