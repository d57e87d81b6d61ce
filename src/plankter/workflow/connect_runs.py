"""Waiting documents of a connected source -> ordinary runs of the archive, and their labels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from plankter._errors import ImageError, NotFound
from plankter.formats.mapped_values import Unfit, text_of, value_at
from plankter.readers.base import ReadRun, RunSource
from plankter.store.mongodb_address import masked
from plankter.store.source_database import Seen, SourceDatabase, id_of
from plankter.store.source_images import NO_IMAGE, read_images
from plankter.store.source_ledger import GROUP_SETTING, SOURCE_SETTING, Ledger
from plankter.types import (
    NO_BOX,
    Annotation,
    ImportedLabel,
    Particles,
    Run,
    Sample,
    Source,
    Verdict,
    Vignette,
    standing_label,
)
from plankter.vignettes.codec import decode_image
from plankter.workflow.connect_documents import DocumentLabel, Problems, labels_of, measures_of, positive, sample_of
from plankter.workflow.ingest import write_run
from plankter.workflow.labels import class_of, label_lock, record
from plankter.workflow.progress import Progress
from plankter.workflow.workspace import Workspace

DAMAGED = "the image cannot be decoded"
DUE_BATCH = 2000


@dataclass
class Connected:
    """What a connected source is worked on with."""

    workspace: Workspace
    source: SourceDatabase
    ledger: Ledger
    problems: Problems = field(default_factory=Problems)
    runs: list[dict[str, Any]] = field(default_factory=list)
    labels: int = 0
    classes: dict[str, str] = field(default_factory=dict)

    def class_id(self, name: str) -> str:
        """The class of a foreign name, looked up once."""
        if name not in self.classes:
            self.classes[name] = class_of(self.workspace, name)
        return self.classes[name]


class _Documents:
    """The documents of one run as `ingest` reads a run: one vignette each, in order."""

    name = "mongodb"

    def __init__(self, work: Connected, documents: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
        self._work, self._documents, self._keys = work, documents, keys

    def can_read(self, path: Path) -> str | None:
        """No file is read."""
        return "the documents of a database are not in a file"

    def read(self, source: RunSource) -> ReadRun:
        """Not how these runs are made."""
        raise NotImplementedError

    def vignettes(self, source: RunSource, particles: Particles) -> Iterator[Vignette]:
        """One `Vignette` a document; a dead or damaged image carries its reason."""
        problems = self._work.problems
        images = read_images(self._work.source, [dict(document) for document in self._documents])
        for index, found in enumerate(images):
            if found is None:
                if self._work.source.mapping.image is not None:
                    problems.add(NO_IMAGE, self._keys[index])
                yield Vignette(index, None)
            elif isinstance(found, Unfit):
                problems.add(found.reason, self._keys[index], found.shown)
                yield Vignette(index, None, failure=found.reason)
            else:
                try:
                    image = decode_image(found)
                except ImageError as error:
                    problems.add(DAMAGED, self._keys[index], error.message)
                    yield Vignette(index, None, failure=error.message)
                else:
                    yield Vignette(index, image)


def fill(work: Connected, progress: Progress) -> None:
    """Makes runs of all documents that wait; each is wholly in or wholly out."""
    waiting = work.ledger.waiting()
    total, done = sum(count for _, count in waiting), 0
    for group, _ in waiting:
        while keys := work.ledger.next_keys(group, work.source.mapping.run.particles):
            _fill_one(work, group, keys, progress)
            done += len(keys)
            progress("documents", done, total)


def _fill_one(work: Connected, group: str, keys: list[str], progress: Progress) -> None:
    found = work.source.get([id_of(key) for key in keys])
    gone = [key for key in keys if key not in found]
    if gone:
        work.ledger.gone(gone)
        work.problems.add("the document was deleted meanwhile", gone[0], count=len(gone))
    documents = [found[key] for key in keys if key in found]
    seen = work.source.look(documents)
    moved = [entry for entry in seen if entry.group != group]
    if moved:  # changed since it was looked at: it waits in its new group
        work.ledger.gone([entry.key for entry in moved])
        work.ledger.look(moved, int(work.ledger.get("pass") or 0))
        pairs = [(d, entry) for d, entry in zip(documents, seen, strict=True) if entry.group == group]
        documents, seen = [d for d, _ in pairs], [entry for _, entry in pairs]
    if not documents:
        return
    kept = [entry.key for entry in seen]
    sample = sample_of(work.source.mapping, work.source.joined(documents[0]), group, kept[0], work.problems)
    labels = [labels_of(work.source.mapping, d, key, work.problems) for d, key in zip(documents, kept, strict=True)]
    read = _read_run(work, group, sample, documents, kept, labels)
    path = Path(work.source.mapping.path)
    write_run(
        work.workspace, _Documents(work, documents, kept), RunSource("mongodb", path, read.run.source), read, progress
    )
    run_id = read.run.run_id
    with label_lock(work.workspace, run_id):
        into_catalogue(work.workspace, run_id)
        put_sample(work.workspace, sample)
        held = _held(work, run_id)  # of the same run before it was taken out
        facts = [fact for index, said in enumerate(labels) for fact in _facts(work, run_id, index, said, held[index])]
        _record(work, run_id, facts)
    work.ledger.placed(run_id, seen)
    counted = work.workspace.catalogue.run(run_id)
    work.runs.append(
        {
            "run_id": run_id, "sample_id": counted.run.sample_id, "particles": counted.particles,
            "vignettes": counted.vignettes, "failures": counted.failures,
        }
    )  # fmt: skip


def _read_run(
    work: Connected, group: str, sample: Sample, documents: Sequence[Mapping[str, Any]], keys: Sequence[str],
    labels: Sequence[Sequence[DocumentLabel]],
) -> ReadRun:  # fmt: skip
    mapping, problems, first = work.source.mapping, work.problems, documents[0]
    identity = "\n".join([mapping.source.name, group, *keys]).encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(identity).hexdigest()
    shown = group.replace("\x1f", "/").strip("/") or mapping.source.name
    instrument = mapping.run.instrument.of(first)
    n = len(documents)
    run = Run(
        run_id=digest[:16],
        sample_id=sample.sample_id,
        instrument=str(instrument)[:50] if instrument else "database",
        name=f"{shown} {work.ledger.runs_of(group) + 1}",
        source=f"{masked(mapping.source.address)} {mapping.source.collection}",
        um_per_px=positive(mapping.run.um_per_px, first, "run.um_per_px", keys[0], problems),
        volume_imaged_ml=positive(mapping.run.volume_imaged_ml, first, "run.volume_imaged_ml", keys[0], problems),
        settings={SOURCE_SETTING: mapping.source.name, GROUP_SETTING: group},
        files={"documents": digest},
    )
    particles = Particles(
        index=np.arange(n, dtype=np.int64),
        label=tuple(keys),
        page=tuple(_page(work, document) for document in documents),
        box=np.full((n, 4), NO_BOX, np.int32),
        features=measures_of(mapping, documents, keys, problems),
        failure=(None,) * n,
    )
    said = tuple(
        ImportedLabel(index, entries[-1].class_name, entries[-1].annotator)
        for index, entries in enumerate(labels)
        if entries
    )
    return ReadRun(run, particles, said)


def _page(work: Connected, document: Mapping[str, Any]) -> str | None:
    image = work.source.mapping.image
    if image is None or image.kind == "binary":
        return None
    try:
        return text_of(value_at(document, image.field))
    except Unfit:
        return None


def into_catalogue(workspace: Workspace, run_id: str) -> None:
    """Brings the catalogue level with the archive."""
    try:
        workspace.catalogue.run(run_id)
    except NotFound:
        archived = workspace.archive.open(run_id)
        workspace.catalogue.put_run(archived.run, archived.rows())


def put_sample(workspace: Workspace, sample: Sample) -> bool:
    """Keeps a sample's metadata where they say more than what is kept, or something else."""
    try:
        held = workspace.catalogue.sample(sample.sample_id)
    except NotFound:
        held = Sample(sample.sample_id)
    if sample in (held, Sample(sample.sample_id)):
        return False
    workspace.catalogue.put_sample(sample)
    workspace.archive.put_sample(sample)
    return True


# -- labels
def settle(work: Connected, progress: Progress) -> None:
    """Labels and samples of documents that changed since they were read; what is level already stays as it is."""
    done = 0
    while batch := work.ledger.due(DUE_BATCH):
        found = work.source.get([id_of(key) for key, _, _ in batch])
        by_run: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for key, run_id, index in batch:
            if key in found:
                by_run[run_id].append((key, index))
        seen: list[Seen] = []
        for run_id, entries in by_run.items():
            documents = [found[key] for key, _ in entries]
            looks = work.source.look(documents)
            seen += looks
            with label_lock(work.workspace, run_id):
                into_catalogue(work.workspace, run_id)
                _settle_run(work, run_id, entries, documents)
            first = documents[0]
            put_sample(
                work.workspace,
                sample_of(work.source.mapping, work.source.joined(first), looks[0].group, entries[0][0], work.problems),
            )
        missing = [key for key, _, _ in batch if key not in found]
        work.ledger.settled(seen, missing)
        done += len(batch)
        progress("changed documents", done, None)


def _settle_run(
    work: Connected, run_id: str, entries: Sequence[tuple[str, int]], documents: Sequence[Mapping[str, Any]]
) -> None:
    held = _held(work, run_id)
    facts: list[Annotation] = []
    for (key, index), document in zip(entries, documents, strict=True):
        said = labels_of(work.source.mapping, document, key, work.problems)
        facts += _facts(work, run_id, index, said, held[index])
    _record(work, run_id, facts)


def _held(work: Connected, run_id: str) -> dict[int, list[Annotation]]:
    held: dict[int, list[Annotation]] = defaultdict(list)
    for _, fact in work.workspace.catalogue.annotations(run_id):
        held[fact.index].append(fact)
    return held


def _record(work: Connected, run_id: str, facts: Sequence[Annotation]) -> None:
    if facts:
        record(work.workspace, run_id, facts)
        work.labels += len(facts)


def _facts(
    work: Connected, run_id: str, index: int, said: Sequence[DocumentLabel], held: Sequence[Annotation]
) -> list[Annotation]:
    """What must be appended so that the source's newest label is the one that stands among its own."""
    label = work.source.mapping.label
    origin = Source.PERSON if label is not None and label.person else Source.IMPORT
    wanted = [
        Annotation(run_id, index, work.class_id(entry.class_name), Verdict.CONFIRMED, entry.annotator, entry.at, origin)
        for entry in said
    ]
    mine = [fact for fact in held if fact.source is origin]
    if not wanted:
        if origin is Source.PERSON:  # others' labels are among them
            return []
        return _withdrawn(run_id, index, mine)
    known = set(mine)
    new = [fact for fact in wanted if fact not in known]
    standing = standing_label([*mine, *new])
    newest = wanted[-1]
    stands = standing is not None and (standing.class_id, standing.annotator) == (newest.class_id, newest.annotator)
    if not stands and origin is Source.IMPORT:  # back to what was said before: said once more, now
        new.append(replace(newest, at=datetime.now(UTC)))
    return new


def _withdrawn(run_id: str, index: int, mine: Sequence[Annotation]) -> list[Annotation]:
    facts = list(mine)
    new: list[Annotation] = []
    while (standing := standing_label(facts)) is not None:
        back = Annotation(
            run_id, index, standing.class_id, Verdict.WITHDRAWN, standing.annotator,
            datetime.now(UTC), Source.IMPORT,
        )  # fmt: skip
        new.append(back)
        facts.append(back)
    return new
