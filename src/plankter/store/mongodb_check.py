"""What could be inconsistent inside the MongoDB catalogue: everything that is kept twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plankter.store.mongodb_connect import Document, MongoDatabase
from plankter.store.mongodb_labels import folded, kept_standing, shown_label
from plankter.store.mongodb_rows import counts_of, span
from plankter.store.mongodb_schema import DONE, PARTICLE, RUN, SAMPLE

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

_NAMES = ("particles", "vignettes", "masks", "failures", "predicted", "validated")


def check(database: MongoDatabase) -> list[str]:
    """See `Catalogue.check`; each run as of one moment."""
    with database.errors():
        run_ids = [run["run_id"] for run in database.of(RUN).find({"state": DONE}, {"run_id": 1}).sort("run_id", 1)]
    problems: list[str] = []
    for run_id in run_ids:
        problems += database.read(lambda session, run_id=run_id: _run(database, session, run_id))  # type: ignore[misc]
    return problems


def _run(database: MongoDatabase, session: ClientSession, run_id: str) -> list[str]:
    run = database.of(RUN).find_one({"run_id": run_id, "state": DONE}, session=session)
    if run is None:  # taken out meanwhile
        return []
    facts, kept = folded(database, session, run_id, range(run["particles"])), kept_standing(database, session, run_id)
    problems = [
        f"run {run_id}, particle {index}: the standing label is not what its facts say"
        for index in sorted(facts.keys() | kept.keys())
        if facts.get(index) != kept.get(index)
    ]
    counted = dict.fromkeys(_NAMES, 0)
    classes: dict[str, list[int]] = {}
    for row in database.of(PARTICLE).find(span(run["_id"]), session=session).sort("_id", 1):
        label, status = row.get("label"), row.get("status")
        if (label, status) != shown_label(facts.get(row["idx"])):
            problems.append(f"run {run_id}, particle {row['idx']}: label or status is not what its facts say")
        for name, holds in zip(_NAMES, _counted(row), strict=True):
            counted[name] += holds
        if "predicted" in row:
            classes.setdefault(row["predicted"], [0, 0])[0] += 1
        if status == "validated" and label is not None:
            classes.setdefault(label, [0, 0])[1] += 1
    problems += [
        f"run {run_id}: {name} is {run[name]}, but {count} rows say so"
        for name, count in counted.items()
        if run[name] != count
    ]
    held = counts_of(database, session, run_id)
    problems += [
        f"run {run_id}, class {class_id}: counts {held.get(class_id)} are not the rows' {classes.get(class_id)}"
        for class_id in sorted(held.keys() | classes.keys())
        if held.get(class_id) != classes.get(class_id)
    ]
    if database.of(SAMPLE).find_one({"_id": run["sample_id"]}, {"_id": 1}, session=session) is None:
        problems.append(f"run {run_id}: its sample {run['sample_id']!r} is missing")
    return problems


def _counted(row: Document) -> tuple[bool, ...]:
    return (
        True, bool(row["has_vignette"]), bool(row["has_mask"]), "failure" in row, "predicted" in row,
        row.get("status") == "validated",
    )  # fmt: skip
