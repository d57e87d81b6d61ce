"""The run summary (`_run_summary.txt`): what VisualSpreadsheet prints of a run, tab-indented under headings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from plankter.formats.flowcam_text import split_lines

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def parse_run_summary(text: str) -> dict[str, list[tuple[str, str]]]:
    """Heading -> (key, value) in the file's order; keys may repeat ("Particles Per Image" does)."""
    sections: dict[str, list[tuple[str, str]]] = {}
    current = sections.setdefault("", [])
    for line in split_lines(text):
        key, colon, value = line.strip().partition(":")
        if not colon:
            continue
        if line[:1] not in ("\t", " ") and not value.strip():
            current = sections.setdefault(key.strip(), [])
        else:
            current.append((key.strip(), value.strip()))
    if not sections[""]:
        del sections[""]
    return sections


def write_run_summary(sections: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The text of a `_run_summary.txt`."""
    blocks = []
    for heading, entries in sections.items():
        blocks.append("".join(f"{line}\r\n" for line in [f"{heading}:", *(f"\t{key}:  {v}" for key, v in entries)]))
    return "\r\n".join(blocks)


def summary_value(sections: Mapping[str, Sequence[tuple[str, str]]], heading: str, key: str) -> str | None:
    """The first value of that key, None where it is absent or empty."""
    return next((value for name, value in sections.get(heading, ()) if name == key and value), None)


def summary_number(sections: Mapping[str, Sequence[tuple[str, str]]], heading: str, key: str) -> float | None:
    """The number at the start of a value such as ``0.2510 ml``."""
    found = _NUMBER.match(summary_value(sections, heading, key) or "")
    return float(found.group()) if found else None
