"""A workspace's catalogue moved to another place: copied, compared row by row, then used."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from plankter._errors import Conflict, StoreError
from plankter._settings import FILE_NAME, load_settings, with_catalogue
from plankter.store.files import write_text
from plankter.store.locate import open_catalogue
from plankter.store.mongodb_address import has_password, masked
from plankter.store.transfer import CHUNK, SMALL, Tables, fact_difference, run_difference, tables_of
from plankter.workflow.progress import Progress, silent

log = logging.getLogger(__name__)
MARK = "migrated_from"
TURNS = 3


def migrate(folder: Path, to: str, *, switch: bool = True, progress: Progress = silent) -> dict[str, Any]:
    """Copies the catalogue of the workspace in ``folder`` to the address ``to`` and makes the workspace use it.

    May be repeated after a kill: runs that are wholly there are not copied again. The earlier catalogue stays as it is.

    Args:
        folder: of the workspace.
        to: address of the new catalogue: empty, or one that a migration of this workspace began to fill.
        switch: write the new address into plankter.toml at the end.
        progress: told of particles.

    Returns:
        The object that ``plankter migrate --json`` prints.

    Raises:
        Conflict: there is something else at the new address, or it is the old one.
        StoreError: after three turns rows still differ; the workspace goes on with the earlier catalogue.
    """
    started = time.monotonic()
    address = str(load_settings(folder)["workspace.catalogue"])
    if address == to:
        raise Conflict("the workspace uses this catalogue already", path=masked(to))
    with closing(open_catalogue(address, base=folder)) as old, closing(open_catalogue(to, base=folder)) as new:
        source, target = tables_of(old), tables_of(new)
        mark = f"{folder.absolute().name}: {masked(address)}"
        held = {row[0]: row[1] for row in target.small("meta")}.get(MARK)
        if held != mark and (target.runs() or target.last_fact()):
            raise Conflict(
                "there is a catalogue with runs already", path=masked(to), hint="name an empty database or a new file"
            )
        target.put_small("meta", [(MARK, mark)])
        differences: list[str] = []
        for _ in range(TURNS):  # what was written meanwhile is copied in the next turn
            copied = _copy(source, target, progress)
            differences = _differences(source, target, progress)
            log.info("%d runs copied, %d differences", copied, len(differences))
            if not differences:
                break
        if differences:
            raise StoreError(
                f"{len(differences)} differences are left, the first: {differences[0]}",
                path=masked(to), hint="stop what writes into the workspace, then repeat the command",
            )  # fmt: skip
        runs = source.runs()
        facts = source.last_fact()
    if switch:
        _use(folder, to)
    return {
        "from": masked(address), "to": masked(to), "runs": len(runs), "particles": sum(row[4] for row in runs.values()),
        "annotations": facts, "differences": 0, "switched": switch, "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip


def _copy(source: Tables, target: Tables, progress: Progress) -> int:
    for table in SMALL:
        held = set(target.small(table))
        target.put_small(table, [row for row in source.small(table) if row not in held and row[0] != MARK])
    batch = []
    for entry in source.facts(target.last_fact()):
        batch.append(entry)
        if len(batch) == CHUNK:
            target.put_facts(batch)
            batch = []
    target.put_facts(batch)
    runs, there = source.runs(), target.runs()
    total, done, copied = sum(row[4] for row in runs.values()), 0, 0
    for run_id, row in runs.items():
        if there.get(run_id) != row:
            target.put_run(row, source.particles(run_id), source.standing(run_id), source.counts(run_id))
            copied += 1
        done += row[4]
        progress("copied", done, total)
    return copied


def _differences(source: Tables, target: Tables, progress: Progress) -> list[str]:
    """Everything once more, row by row; a run that differs is copied again at once."""
    found = []
    for table in SMALL:
        theirs = [row for row in target.small(table) if row[0] != MARK]
        found += [f"{table}: {row}" for row in source.small(table) if row not in theirs and row[0] != MARK]
    runs, there = source.runs(), target.runs()
    found += [f"run {run_id} is not in the earlier catalogue" for run_id in there if run_id not in runs]
    total, done = sum(row[4] for row in runs.values()), 0
    for run_id, row in runs.items():
        difference = f"run {run_id}" if there.get(run_id) != row else run_difference(source, target, run_id)
        if difference is not None:
            found.append(difference)
            target.put_run(row, source.particles(run_id), source.standing(run_id), source.counts(run_id))
        done += row[4]
        progress("compared", done, total)
    difference = fact_difference(source, target)
    return found if difference is None else [*found, difference]


def _use(folder: Path, address: str) -> None:
    """Writes the new address into plankter.toml, all else left as it is."""
    path = folder / FILE_NAME
    write_text(path, with_catalogue(path.read_text(encoding="utf-8"), address))
    if has_password(address):
        path.chmod(0o600)
