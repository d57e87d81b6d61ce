"""Catalogue and archive kept level with each other: compared, and a catalogue made anew from an archive."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from plankter._errors import NewerWorkspace, StoreError
from plankter.store.archive import Archive
from plankter.store.archived_run import RUN_FILE
from plankter.store.backup import backup, restore
from plankter.store.base import Catalogue
from plankter.store.journal import Journal
from plankter.store.memory import now_utc
from plankter.store.sqlite import SqliteCatalogue
from plankter.store.sqlite_connect import long_write_lock
from plankter.types import Annotation, Taxon

__all__ = ["backup", "check", "level", "rebuild", "rebuild_sqlite", "restore"]

BATCH = 5000


def check(catalogue: Catalogue, archive: Archive, *, deep: bool = False) -> list[str]:
    """What does not fit between catalogue, archive and journal, in plain words.

    Args:
        catalogue: to compare.
        archive: to compare with.
        deep: read every file and compare its SHA-256.
    """
    problems = catalogue.check()
    records = {record.run.run_id: record for record in catalogue.runs()}
    archived_ids = archive.run_ids()
    for run_id in sorted(records.keys() - set(archived_ids)):
        problems.append(f"run {run_id} is in the catalogue, but not in the archive")
    for run_id in archived_ids:
        if run_id not in records:
            problems.append(f"run {run_id} is in the archive, but not in the catalogue; ingest it again or rebuild")
        try:
            archived = archive.open(run_id)
            problems += archived.problems(deep=deep)
        except StoreError as error:
            problems.append(f"run {run_id}: {error}")
            continue
        record = records.get(run_id)
        if record is None:
            continue
        for name in ("particles", "vignettes", "masks", "failures"):
            theirs, ours = archived.facts["counts"][name], getattr(record, name)
            if theirs != ours:
                problems.append(f"run {run_id}: {name} is {ours} in the catalogue, {theirs} in the archive")
        if archived.run.sample_id != record.run.sample_id:
            samples = f"{record.run.sample_id!r} in the catalogue, {archived.run.sample_id!r} in the archive"
            problems.append(f"run {run_id}: its sample is {samples}")
    return problems + _journal_problems(catalogue, Journal(archive.root), set(records))


def _journal_problems(catalogue: Catalogue, journal: Journal, run_ids: set[str]) -> list[str]:
    try:
        written = set(journal.read())
    except StoreError as error:
        return [f"the journal of labels is damaged: {error}"]
    held = {fact for _, fact in catalogue.annotations()}
    problems = []
    if held - written:
        problems.append(f"{len(held - written)} labels of the catalogue are missing in the journal")
    missing = [fact for fact in written - held if fact.run_id in run_ids]
    if missing:
        problems.append(
            f"{len(missing)} labels of the journal are missing in the catalogue; `plankter rebuild` adds them"
        )
    return problems


def level(catalogue: Catalogue, journal: Journal) -> int:
    """Appends to the journal what a kill between catalogue and journal has left out.

    Returns:
        How many facts were appended.
    """
    held = [fact for _, fact in catalogue.annotations()]
    written = set(journal.read())
    missing = [fact for fact in held if fact not in written]
    journal.append(missing)
    return len(missing)


def rebuild(archive: Archive, catalogue: Catalogue, *, taxa: Sequence[Taxon] = ()) -> int:
    """Fills a catalogue from an archive: class list, samples, runs, newest predictions, labels. May be repeated.

    Args:
        archive: where from.
        catalogue: where to; new and empty, or one in which a rebuild was cut short.
        taxa: the class list to start with; classes that only labels name are added without an AphiaID.

    Returns:
        How many runs there are.
    """
    catalogue.put_taxa(taxa)
    for sample in archive.samples():
        catalogue.put_sample(sample)
    run_ids = archive.run_ids()
    for run_id in run_ids:
        archived = archive.open(run_id)
        catalogue.put_run(archived.run, archived.rows())
        models = archived.prediction_model_ids()
        if models:
            catalogue.put_predictions(archived.predictions(models[-1]))
    _put_facts(catalogue, Journal(archive.root).read(), set(run_ids))
    return len(run_ids)


def _put_facts(catalogue: Catalogue, facts: Iterable[Annotation], run_ids: set[str]) -> None:
    # the same fact twice is one: a run that was taken out and read again repeats the labels of its instrument
    seen = {fact for _, fact in catalogue.annotations()}
    classes = {taxon.class_id for taxon in catalogue.taxa()}
    batch: list[Annotation] = []
    for fact in facts:
        if fact in seen or fact.run_id not in run_ids:
            continue
        seen.add(fact)
        batch.append(fact)
        if fact.class_id is not None and fact.class_id not in classes:
            classes.add(fact.class_id)
            catalogue.put_taxa([Taxon(fact.class_id, fact.class_id, kind="unknown")])
        if len(batch) >= BATCH:
            catalogue.annotate(batch)
            batch = []
    if batch:
        catalogue.annotate(batch)


def rebuild_sqlite(archive: Archive, path: Path, *, taxa: Sequence[Taxon] = ()) -> int:
    """Makes a new embedded catalogue from an archive and puts it in the old one's place when it is whole.

    From an old one that can still be read the class list, models, settings and labels missing in the journal are kept.
    Other processes that have the old one open see the new one at their next question.

    Args:
        archive: where from.
        path: the catalogue's file.
        taxa: the class list where there is no old one.

    Returns:
        How many runs there are.

    Raises:
        NewerWorkspace: the old catalogue, or a run, was written by a later version; nothing was changed.
    """
    with long_write_lock(path).held():  # no run comes in meanwhile
        for left in path.parent.glob(f".{path.name}.*.rebuild*"):
            left.unlink()
        new = path.with_name(f".{path.name}.{os.getpid()}.rebuild")
        journal = Journal(archive.root)
        try:
            catalogue = SqliteCatalogue(new, clock=_when_archived(archive))
            try:
                readable = _keep_from_old(path, catalogue, journal, taxa)
                count = rebuild(archive, catalogue)
            finally:
                catalogue.close()
            _switch(new, path, in_place=readable)
        finally:
            for left in path.parent.glob(f"{new.name}*"):
                left.unlink(missing_ok=True)
        switched = SqliteCatalogue(path)
        try:
            _put_facts(switched, journal.read(), set(archive.run_ids()))  # labels given meanwhile
        finally:
            switched.close()
    return count


def _when_archived(archive: Archive) -> Callable[[], datetime]:
    """Tells, run after run in the order of a rebuild, when each came into the archive."""
    times = iter([(archive.root / run_id / RUN_FILE).stat().st_mtime for run_id in archive.run_ids()])
    return lambda: datetime.fromtimestamp(at, UTC) if (at := next(times, None)) is not None else now_utc()


def _keep_from_old(path: Path, new: SqliteCatalogue, journal: Journal, taxa: Sequence[Taxon]) -> bool:
    """Copies what only the old catalogue knows; False where there is none that can be read."""
    new.put_taxa(taxa)
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        old = SqliteCatalogue(path)
    except NewerWorkspace:
        raise
    except StoreError:
        return False
    try:
        new.put_taxa(old.taxa())
        for sample in old.samples():
            new.put_sample(sample)
        for model_id, facts in old.models().items():
            new.put_model(model_id, str(facts.pop("name")), facts)
        for key, value in old.all_meta().items():
            new.put_meta(key, value)
        level(old, journal)
    except StoreError:  # damaged further in
        return False
    finally:
        old.close()
    return True


def _switch(new: Path, path: Path, *, in_place: bool) -> None:
    """The new database takes the old one's place in one transaction; a damaged old one is put aside."""
    if in_place:
        old = SqliteCatalogue(path)
        try:
            old.database.replace_with(new)
        finally:
            old.close()
        return
    with contextlib.closing(sqlite3.connect(new)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    if path.exists():
        path.replace(path.with_name(path.name + ".damaged"))
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    new.replace(path)
