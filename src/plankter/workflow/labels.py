"""Labels from outside: their classes, and how they are kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from plankter.store.locks import Lock
from plankter.store.maintenance import level
from plankter.taxa.classes import match_class
from plankter.types import Annotation, Taxon
from plankter.workflow.workspace import Workspace


def class_of(workspace: Workspace, name: str) -> str:
    """`classes_of` of one name."""
    return classes_of(workspace, [name])[name]


def classes_of(workspace: Workspace, names: Iterable[str]) -> dict[str, str]:
    """The class_id of each foreign class name; an unknown name joins the class list without an AphiaID.

    Imported labels are never lost for want of a matching class: a curator can merge the new class later.
    """
    taxa = workspace.catalogue.taxa()
    found: dict[str, str] = {}
    new: list[Taxon] = []
    for name in names:
        taxon = match_class(name, [*taxa, *new])
        if taxon is None:
            class_id = re.sub(r"\s+", "_", name.strip()) or "unnamed"
            taxon = Taxon(class_id, name.strip() or "unnamed", kind="unknown")
            new.append(taxon)
        found[name] = taxon.class_id
    if new:
        workspace.catalogue.put_taxa(new)
    return found


@contextmanager
def label_lock(workspace: Workspace, run_id: str) -> Iterator[None]:
    """One process at a time brings the labels of a run level: two ingests must not both find them missing."""
    with Lock(workspace.archive.root / ".locks" / f"{run_id}.labels.lock").held():
        yield


def record(workspace: Workspace, run_id: str, facts: Sequence[Annotation]) -> None:
    """Appends facts to the log, then to the journal; the caller holds `label_lock`.

    A mark stands beside the journal in between, so that `finish_records` mends what a kill cuts in two.
    """
    mark = _marks(workspace) / f"pending-{run_id}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    workspace.catalogue.annotate(facts)
    workspace.journal.append(facts)
    mark.unlink(missing_ok=True)


def finish_records(workspace: Workspace) -> None:
    """Brings into the journal what a killed process had only in the log."""
    for mark in sorted(_marks(workspace).glob("pending-*")):
        with label_lock(workspace, mark.name.removeprefix("pending-")):
            if mark.exists():
                level(workspace.catalogue, workspace.journal)
                mark.unlink(missing_ok=True)


def _marks(workspace: Workspace) -> Path:
    return workspace.archive.root / "journal"
