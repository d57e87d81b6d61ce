"""An existing image database as a source: read gently, made into ordinary runs, kept level with its changes."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plankter._errors import StoreError
from plankter.formats.mapped_values import Unfit, value_at
from plankter.formats.mapping_file import DatabaseMapping, read_mapping
from plankter.store.files import safe_name, write_text
from plankter.store.locks import Lock
from plankter.store.source_database import SourceDatabase, id_of, id_text, json_of, open_source, value_of
from plankter.store.source_images import DEAD, NO_IMAGE, exists
from plankter.store.source_ledger import Ledger
from plankter.taxa.classes import match_class
from plankter.workflow.connect_documents import Problems, labels_of, sample_of
from plankter.workflow.connect_look import look, take
from plankter.workflow.connect_runs import Connected, fill, into_catalogue, settle
from plankter.workflow.labels import finish_records
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace

log = logging.getLogger(__name__)
SETTLE_S = 5.0
POLL_S = 60.0
RETRY_S = 5.0


def ledger_path(workspace: Workspace, mapping: DatabaseMapping) -> Path:
    """Where the ledger of a source lies."""
    return workspace.folder / "connected" / f"{safe_name(mapping.source.name)}.sqlite"


@contextmanager
def opened(workspace: Workspace, mapping_file: Path) -> Iterator[Connected]:
    """A source to work on; one process at a time."""
    mapping = read_mapping(mapping_file)
    path = ledger_path(workspace, mapping)
    source = open_source(mapping)
    try:
        with Lock(path.with_suffix(".lock"), patience_s=5).held():
            ledger = Ledger(path, mapping.source.name)
            try:
                yield Connected(workspace, source, ledger)
            finally:
                ledger.close()
    finally:
        source.close()


def connect(
    workspace: Workspace, mapping_file: Path, *, dry_run: bool = False, whole: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Brings a workspace level with a source: new documents become runs, changed labels and samples are taken over.

    May be repeated at any time and after any kill: a document is one particle, once.

    Args:
        workspace: where to.
        mapping_file: says what is where.
        dry_run: look at every document, but neither read an image nor write anything.
        whole: look at all documents although the mapping names a field that tells what changed.
        progress: told of documents.

    Returns:
        The object that ``plankter connect --json`` prints.

    Raises:
        SettingsError: the mapping. StoreError: the server; what was finished is kept.
    """
    started = time.monotonic()
    if dry_run:
        return {**_dry_run(workspace, read_mapping(mapping_file), progress), "seconds": _since(started)}
    with opened(workspace, mapping_file) as work:
        looked = level(work, whole=whole, progress=progress)
        found = {**_report(work, looked), "seconds": _since(started)}
    write_text(
        ledger_path(workspace, work.source.mapping).with_suffix(".report.json"), json.dumps(found, indent=1) + "\n"
    )
    return found


def level(work: Connected, *, whole: bool = False, progress: Progress = silent) -> Counter[str]:
    """One pass: what the archive holds, then the source's documents, then their runs and labels."""
    finish_records(work.workspace)
    work.workspace.archive.sweep()
    for run_id in work.ledger.reconcile(work.workspace.archive):
        into_catalogue(work.workspace, run_id)
        work.ledger.finished(run_id)
    looked = look(work, whole, progress)
    settle(work, progress)
    fill(work, progress)
    return looked


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _report(work: Connected, looked: Counter[str]) -> dict[str, Any]:
    return {
        "source": work.source.mapping.source.name, "dry_run": False, "documents": looked["documents"],
        "compared": looked["compared"], "new": looked["new"], "changed": looked["changed"], "unchanged": looked["unchanged"], "runs": work.runs,
        "labels": work.labels, "images_read": work.source.images_read, "problems": work.problems.as_json(),
        "total": work.ledger.counts(),
    }  # fmt: skip


# -- dry run
def _dry_run(workspace: Workspace, mapping: DatabaseMapping, progress: Progress) -> dict[str, Any]:
    problems, classes, groups = Problems(), Counter[str](), Counter[str]()
    documents = images = 0
    source = open_source(mapping)
    try:
        for batch in source.scan({}, "_id"):
            documents += len(batch)
            files = source.images_of([value_at(d, mapping.image.field) for d in batch] if mapping.image else [])
            for document, seen in zip(batch, source.look(batch), strict=True):
                if seen.group not in groups:  # the first of a run tells its sample
                    sample_of(mapping, source.joined(document), seen.group, seen.key, problems)
                groups[seen.group] += 1
                classes.update(label.class_name for label in labels_of(mapping, document, seen.key, problems))
                images += _image_there(source, document, files, seen.key, problems)
            progress("looked at", documents, None)
    finally:
        source.close()
    taxa = workspace.catalogue.taxa()
    known = {name: found.class_id if (found := match_class(name, taxa)) else None for name in classes}
    size = mapping.run.particles
    return {
        "source": mapping.source.name, "dry_run": True, "documents": documents, "images": images,
        "runs": sum(-(-count // size) for count in groups.values()), "groups": len(groups),
        "labels": sum(classes.values()),
        "classes": {name: {"labels": count, "class_id": known[name]} for name, count in classes.most_common()},
        "problems": problems.as_json(),
    }  # fmt: skip


def _image_there(
    source: SourceDatabase, document: dict[str, Any], files: dict[Any, str], key: str, problems: Problems
) -> bool:
    image = source.mapping.image
    if image is None:
        return False
    try:
        there = exists(source, image, document, files)
    except Unfit as unfit:
        problems.add(unfit.reason, key, unfit.shown)
        return False
    if there is None:
        problems.add(NO_IMAGE, key)
    elif not there:
        problems.add(DEAD, key, repr(value_at(document, image.field))[:80])
    return bool(there)


# -- live
def follow(
    workspace: Workspace,
    mapping_file: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
    told: Callable[[dict[str, Any]], None] = lambda report: None,
) -> None:
    """Stays connected: takes over each change a few seconds after it was made, until ``stop`` says so.

    By a change stream where the source has one, else by a pass every `POLL_S`. A server that goes away is waited for.
    """  # fmt: skip
    while not stop():
        try:
            with opened(workspace, mapping_file) as work:
                token = work.ledger.get("stream")
                if token is None:
                    token = _now(work.source)
                    told(_report(work, level(work, progress=progress)))
                    work.ledger.put("stream", token)
                _follow_stream(work, token, stop, progress, told)
        except StoreError as error:
            log.warning("%s; trying again in %g s", error, RETRY_S)
            _pause(RETRY_S, stop)


def _now(source: SourceDatabase) -> str | None:
    """A token from which no later change is missed; None where the source has no change streams."""
    try:
        with source.errors(), source.documents.watch(max_await_time_ms=1) as stream:
            stream.try_next()
            return json_of(stream.resume_token)
    except StoreError:
        return None


def _follow_stream(
    work: Connected, token: str | None, stop: Callable[[], bool], progress: Progress,
    told: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    if token is None:  # no change streams: the caller makes another pass
        _pause(POLL_S, stop)
        return
    wanted = [{"$match": {"operationType": {"$in": ["insert", "update", "replace"]}}}]
    try:
        with work.source.errors(), work.source.documents.watch(
            wanted, resume_after=value_of(token), max_await_time_ms=500
        ) as stream:  # fmt: skip
            keys: dict[str, None] = {}
            since = time.monotonic()
            while not stop():
                change = stream.try_next()
                if change is not None:
                    if not keys:
                        since = time.monotonic()
                    keys[id_text(change["documentKey"]["_id"])] = None
                late = time.monotonic() - since >= SETTLE_S or len(keys) >= work.source.mapping.run.particles
                if keys and late:
                    told(_take_changes(work, list(keys), progress))
                    keys = {}
                if not keys and stream.resume_token is not None:
                    work.ledger.put("stream", json_of(stream.resume_token))
    except StoreError as error:
        if "resume" not in str(error).lower():
            raise
        log.warning("the source forgot where we were; looking at all of it")
        work.ledger.put("stream", None)


def _again(work: Connected) -> None:
    work.problems, work.runs, work.labels = Problems(), [], 0
    work.source.images_read = 0


def _take_changes(work: Connected, keys: list[str], progress: Progress) -> dict[str, Any]:
    _again(work)
    looked = Counter[str]()
    documents = list(work.source.get([id_of(key) for key in keys], filtered=True).values())
    if documents:
        take(work, documents, int(work.ledger.get("pass") or 1), looked)
    settle(work, progress)
    fill(work, progress)
    return _report(work, looked)


def _pause(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop():
        time.sleep(min(0.2, seconds))
