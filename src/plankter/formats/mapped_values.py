"""Values as they lie in somebody's documents -> numbers, times and texts; what does not fit says why."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

MAX_TEXT = 200


class Unfit(Exception):
    """A value that is not what the mapping says; ``reason`` is the same for all of its kind, so that it is counted.

    Args:
        reason: a few words.
        shown: the value.
    """

    def __init__(self, reason: str, shown: object = None) -> None:
        super().__init__(reason)
        self.reason, self.shown = reason, None if shown is None else repr(shown)[:80]


def value_at(document: Any, path: str) -> Any:
    """The value at a dotted path (a number takes the n-th of a list), None where there is none."""
    for part in path.split("."):
        if isinstance(document, Mapping):
            document = document.get(part)
        elif (
            isinstance(document, Sequence)
            and not isinstance(document, str | bytes)
            and re.fullmatch(r"[0-9]{1,9}", part)
        ):
            document = document[int(part)] if int(part) < len(document) else None
        else:
            return None
    return document


def number_of(value: Any) -> float | None:
    """A number; a decimal comma in a text is understood, an empty text or NaN is None.

    Raises:
        Unfit: something else.
    """
    if value is None or isinstance(value, bool | bytes | Mapping | list | datetime):
        if value is None:
            return None
        raise Unfit("a number was expected", value)
    text = str(value).strip()  # Decimal128 and the like are numbers as text, too
    if not text:
        return None
    try:
        found = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        raise Unfit("a number was expected", value) from None
    if math.isnan(found):
        return None
    if math.isinf(found):
        raise Unfit("a number was expected", value)
    return found


def text_of(value: Any) -> str | None:
    """A short text; a number becomes one.

    Raises:
        Unfit: something else, or longer than `MAX_TEXT`.
    """
    if value is None:
        return None
    if isinstance(value, bool | bytes | Mapping | list):
        raise Unfit("a text was expected", value)
    text = str(value).strip()
    if len(text) > MAX_TEXT or "\x00" in text:
        raise Unfit(f"a text of up to {MAX_TEXT} characters was expected", value)
    return text or None


def time_of_value(value: Any, written: str | None = None) -> datetime | None:
    """A moment in UTC; one without a zone is taken as UTC.

    Args:
        value: a date, or a text or number of the form ``written``.
        written: form of ``strptime``, ``epoch_s`` or ``epoch_ms``; without it ISO 8601.

    Raises:
        Unfit: something else.
    """
    if value is None or value == "":
        return None
    reason = f"a date as {written or 'ISO 8601'} was expected"
    try:
        if isinstance(value, datetime):
            found = value
        elif isinstance(value, date):
            found = datetime(value.year, value.month, value.day)
        elif written in ("epoch_s", "epoch_ms"):
            found = datetime.fromtimestamp(float(value) / (1000 if written == "epoch_ms" else 1), UTC)
        elif isinstance(value, str):
            text = value.strip()
            found = datetime.strptime(text, written) if written else datetime.fromisoformat(text)
        else:
            raise Unfit(reason, value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        raise Unfit(reason, value) from None
