"""The context file (`.ctx`): settings and capture statistics of one run, INI with CRLF."""

from __future__ import annotations

import math
from collections.abc import Mapping

from plankter.formats.flowcam_text import split_lines

Sections = dict[str, dict[str, str]]


def parse_ctx(text: str) -> Sections:
    """Section -> key -> value. A value of one blank, VisualSpreadsheet's "not given", becomes ''.

    Lines that are neither a section nor ``key=value`` are passed over; of a repeated key the last one stands.
    """
    sections: Sections = {}
    current = sections.setdefault("", {})
    for line in split_lines(text):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            current = sections.setdefault(stripped[1:-1].strip(), {})
        elif "=" in stripped and not stripped.startswith(";"):
            key, value = stripped.split("=", 1)
            current[key.strip()] = value.strip()
    if not sections[""]:
        del sections[""]
    return sections


def write_ctx(sections: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a `.ctx`; an empty value is written as one blank, as VisualSpreadsheet does."""
    lines = []
    for name, entries in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key}={value or ' '}" for key, value in entries.items()]
    return "".join(f"{line}\r\n" for line in lines)


def ctx_number(sections: Mapping[str, Mapping[str, str]], section: str, key: str) -> float | None:
    """The finite number under ``section``/``key``; None where it is absent, blank or no number."""
    text = sections.get(section, {}).get(key, "")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
