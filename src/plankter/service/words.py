"""Numbers and times in words, as the pages show them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

STATES = {
    "queued": "waiting", "running": "running", "done": "done", "failed": "failed", "cancelled": "cancelled",
}  # fmt: skip
SOURCES = {"built-in": "built in", "workspace": "kept here"}  # of models


def number(value: float | None, digits: int = 3) -> str:
    """A number with thin groups of thousands and so many significant digits; a dash where unknown."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """A time span in the unit that people would use."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def moment(text: str | None) -> str:
    """A time in UTC as `jobs.now` writes it, to the minute."""
    return "–" if not text else text[:16].replace("T", " ") + " UTC"


def lasted(start: str | None, end: str | None) -> str:
    """From one time to another, or until now."""
    if not start:
        return "–"
    began = datetime.fromisoformat(start)
    return duration(((datetime.fromisoformat(end) if end else datetime.now(UTC)) - began).total_seconds())


def size(count: float | None) -> str:
    """Bytes in the unit that people would use."""
    value = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def address(text: str) -> str:
    """Text as one part of an address."""
    return quote(str(text), safe="")


def ticks(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts)
    )


def breakable(text: str) -> Markup:
    """A name that a line may be broken in: behind + and _."""
    return Markup(str(escape(text)).replace("+", "+<wbr>").replace("_", "_<wbr>"))


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number, "percent": percent, "duration": duration, "moment": moment, "size": size, "address": address,
    "ticks": ticks, "breakable": breakable,
    "source": lambda source: SOURCES.get(source, source),
    "state": lambda state: STATES.get(state, state),
}  # fmt: skip
