"""Catalogues row by row: what moving one into another reads, writes and compares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Protocol

from plankter._errors import StoreError
from plankter.store.base import Catalogue
from plankter.types import Annotation

Row = tuple[Any, ...]
PARTICLE_FIELDS = (
    "idx", "width_px", "height_px", "esd_um", "area_um2", "has_vignette", "has_mask", "failure", "predicted", "score",
    "label", "status",
)  # fmt: skip
RUN_FIELDS = (
    "run_id", "sample_id", "name", "facts", "particles", "vignettes", "masks", "failures", "predicted", "validated",
    "model_id", "ingested_at",
)  # fmt: skip
STANDING_FIELDS = ("idx", "class_id", "verdict", "annotator", "at", "source")
SMALL = ("sample", "taxon", "model", "meta")
CHUNK = 5000


class Tables(Protocol):
    """The rows of a catalogue in one shape, whatever keeps them; times and facts as text, unknown as None."""

    def small(self, table: str) -> list[Row]:
        """All rows of a table of `SMALL`: (key, value...), by key; the class list with its positions."""
        ...

    def put_small(self, table: str, rows: Sequence[Row]) -> None:
        """Replaces all rows of a table of `SMALL`."""
        ...

    def runs(self) -> dict[str, Row]:
        """run_id -> `RUN_FIELDS`, by run_id."""
        ...

    def particles(self, run_id: str) -> Iterator[Row]:
        """`PARTICLE_FIELDS` of a run, by index."""
        ...

    def standing(self, run_id: str) -> list[Row]:
        """The standing labels of a run, by index."""
        ...

    def counts(self, run_id: str) -> list[Row]:
        """(class_id, predicted, validated), by class_id."""
        ...

    def put_run(self, run: Row, particles: Iterable[Row], standing: Sequence[Row], counts: Sequence[Row]) -> None:
        """Writes a run as it is, in the place of one of the same run_id; until the end queries see the earlier one."""
        ...

    def last_fact(self) -> int:
        """Sequence number of the last fact, 0 without any."""
        ...

    def facts(self, after: int) -> Iterator[tuple[int, Annotation]]:
        """Facts with their sequence numbers above ``after``, in order."""
        ...

    def put_facts(self, facts: Sequence[tuple[int, Annotation]]) -> None:
        """Appends facts under the numbers they have; nothing is folded."""
        ...


def tables_of(catalogue: Catalogue) -> Tables:
    """The rows of a catalogue.

    Raises:
        StoreError: one that is neither embedded nor in MongoDB.
    """
    from plankter.store.mongodb import MongoCatalogue
    from plankter.store.sqlite import SqliteCatalogue

    if isinstance(catalogue, SqliteCatalogue):
        from plankter.store.sqlite_transfer import SqliteTables

        return SqliteTables(catalogue.database)
    if isinstance(catalogue, MongoCatalogue):
        from plankter.store.mongodb_transfer import MongoTables

        return MongoTables(catalogue.database)
    raise StoreError(f"a {type(catalogue).__name__} cannot be moved; sqlite and mongodb can")


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows by `CHUNK`."""
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == CHUNK:
            yield part
            part = []
    if part:
        yield part


def run_difference(source: Tables, target: Tables, run_id: str) -> str | None:
    """The first difference between a run in two catalogues, None where every row is the same."""
    for index, (ours, theirs) in enumerate(zip_longest(source.particles(run_id), target.particles(run_id))):
        if ours != theirs:
            return f"run {run_id}, particle {index}: {ours} became {theirs}"
    for what in ("standing", "counts"):
        for ours, theirs in zip_longest(getattr(source, what)(run_id), getattr(target, what)(run_id)):
            if ours != theirs:
                return f"run {run_id}, {what}: {ours} became {theirs}"
    return None


def fact_difference(source: Tables, target: Tables) -> str | None:
    """The first fact that differs."""
    for ours, theirs in zip_longest(source.facts(0), target.facts(0)):
        if ours != theirs:
            return f"label {ours[0] if ours else theirs[0]}: {ours} became {theirs}"
    return None
