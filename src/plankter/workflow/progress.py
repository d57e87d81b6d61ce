"""How a long step tells where it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable

# step name, done so far, total or None where it is not known; raising from it cancels the step
Progress = Callable[[str, int, int | None], None]


def silent(step: str, done: int, total: int | None) -> None:
    """Progress that goes nowhere."""
