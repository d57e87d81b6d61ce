"""Class counts made into rows only where a run's counts changed: thousands of new rows at every question would keep
Python's collector of garbage busy, up to forty milliseconds at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, repeat
from typing import Generic, TypeVar

from plankter.store.base import ClassCount

Said = TypeVar("Said", str, bytes)
Counts = tuple[str, list[str], list[int], list[int]]  # a run, its classes, how often predicted, how often validated


class CountRows(Generic[Said]):
    """Keeps the rows of the last answer; safe for threads.

    Args:
        read: what a database says of one run -> its counts.
    """

    def __init__(self, read: Callable[[Said], Counts]) -> None:
        self._read: Callable[[Said], Counts] = read
        self._known: dict[Said, list[ClassCount]] = {}

    def all_runs(self, said: Iterable[Said]) -> list[ClassCount]:
        """Rows of all runs, by run and class."""
        known = self._known
        now = {one: known.get(one) or self.one_run(one) for one in said}
        self._known = now
        by_run: list[list[ClassCount]] = sorted(filter(None, now.values()), key=_run_id)
        return list(chain.from_iterable(by_run))

    def one_run(self, said: Said) -> list[ClassCount]:
        """Rows of one run, by class."""
        run_id, classes, predicted, validated = self._read(said)
        make = partial(tuple.__new__, ClassCount)  # without a call of Python's own for each
        return list(map(make, sorted(zip(repeat(run_id, len(classes)), classes, predicted, validated, strict=True))))


def _run_id(rows: list[ClassCount]) -> str:
    return rows[0].run_id
