"""What a model is to learn from: a folder of classes, or the labels of a workspace; and all that is odd about it."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plankter._errors import NotFound, ReadError
from plankter.classify.training_set import TrainingSet
from plankter.store.base import RunRecord
from plankter.taxa.classes import ClassList, match_class, match_name, shipped_class_list
from plankter.types import Source, Taxon, Verdict
from plankter.workflow.context import sample_row
from plankter.workflow.predict import IMAGE_SUFFIXES
from plankter.workflow.progress import Progress, silent
from plankter.workflow.training_table import read_training_table
from plankter.workflow.workspace import Workspace

NAMED = 20  # files named of one kind of problem; all are counted
CONFLICT = "the same image stands in several classes; it was left out"
TWICE = "the same image stands in its class more than once; it was taken once"


@dataclass
class Problems:
    """What was left out or looks wrong: kind -> how often, with the first names and what it means."""

    found: dict[str, dict[str, object]] = field(default_factory=dict)

    def add(self, kind: str, name: str, message: str) -> None:
        """One more of a kind; ``message`` of the first one stands for all."""
        entry = self.found.setdefault(kind, {"problem": kind, "count": 0, "message": message, "names": []})
        entry["count"] = int(str(entry["count"])) + 1
        names = entry["names"]
        if isinstance(names, list) and len(names) < NAMED:
            names.append(name)

    def listed(self) -> list[dict[str, object]]:
        """For reports: problem, count, message and the first names."""
        return list(self.found.values())


@dataclass(frozen=True)
class TrainingImages:
    """Labelled images and how to read them.

    Attributes:
        data: names, labels, groups.
        read: rows -> row and encoded image, in their order; what cannot be read goes into the dictionary by row.
        grouped_by: what the groups are, in words.
        parts: a split that the user gave, one word an image, or None.
        context: columns of the user's table by name for each image, or None.
        um_per_px: float64 (n,), NaN where unknown.
        aphia_ids: class_id -> AphiaID, None where the class list knows none.
        source: where they come from, in words.
        problems: what was left out.
    """

    data: TrainingSet
    read: Callable[[Sequence[int], dict[int, str]], Iterator[tuple[int, bytes]]]
    grouped_by: str | None
    parts: tuple[str, ...] | None
    context: tuple[dict[str, str], ...] | None
    um_per_px: npt.NDArray[np.float64]
    aphia_ids: dict[str, int | None]
    source: str
    problems: Problems
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A vignette of a workspace, its class, and the hash of its content."""

    record: RunRecord
    index: int
    class_id: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.record.run.run_id}:{self.index}"


def class_folders(root: Path, taxa: Sequence[Taxon], problems: Problems) -> dict[Path, str]:
    """Folder -> class_id: that of the class list where the name is known, else the name with ``_`` for blanks.

    Raises:
        ReadError: no folder, or none in it.
    """
    try:
        found = sorted(root.iterdir())
    except OSError as error:
        raise ReadError(f"expected a folder that holds one folder a class: {error.strerror}", path=root) from error
    for path in found:
        if not path.is_dir() and path.suffix.lower() in IMAGE_SUFFIXES:
            problems.add("no_class", path.name, "images beside the class folders have no class; they were left out")
    folders = [path for path in found if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        raise ReadError("expected one folder a class, there is none", path=root, hint="put each class in a folder")
    classes: dict[Path, str] = {}
    for folder in folders:
        taxon = match_class(folder.name, taxa)
        class_id = taxon.class_id if taxon else match_name(folder.name, dict.fromkeys(classes.values()))
        class_id = class_id or re.sub(r"\s+", "_", folder.name.strip()) or "unnamed"
        if class_id in classes.values():
            problems.add("same_class", folder.name, "several folders mean the same class; they were joined")
        classes[folder] = class_id
    return classes


def read_folder(
    root: Path,
    *,
    table: Path | None = None,
    context: Path | None = None,
    taxa: Sequence[Taxon] | None = None,
    fewest: int = 2,
    progress: Progress = silent,
) -> TrainingImages:
    """Labelled images from a folder that holds one folder a class.

    Images are compared by their content: one that stands twice in a class is taken once, one that stands in two classes
    in neither. Groups come from ``table``, else from the folders inside the class folders.

    Args:
        root: the folder.
        table: CSV with ``file`` and ``group``, ``sample``, ``date`` or ``run``, and perhaps ``split``.
        context: CSV with ``file`` and columns of context.
        taxa: the class list; None takes the one that ships.
        fewest: classes that are needed.

    Raises:
        ReadError: no folder of classes, too few classes with images, or a table that cannot be read.
    """
    known = list(shipped_class_list() if taxa is None else taxa)
    problems = Problems()
    folders = class_folders(root, known, problems)
    files, labels = _labelled_files(folders, root, problems)
    keep = _distinct(files, labels, root, problems, progress)
    files, labels = [files[row] for row in keep], [labels[row] for row in keep]
    names = tuple(path.relative_to(root).as_posix() for path in files)
    data = _training_set(names, labels, root, fewest)
    warnings: list[str] = []
    groups, grouped_by, parts = _sub_folders(names)
    if table is not None:
        found = read_training_table(table, names)
        groups, grouped_by, parts = found.groups, found.grouped_by, found.parts
        warnings += found.warnings
    rows = None
    if context is not None:
        other = read_training_table(context, names)
        rows, warnings = other.columns, [*warnings, *other.warnings]
    chosen = TrainingSet(data.class_ids, data.labels, names, groups)

    def read(wanted: Sequence[int], failures: dict[int, str]) -> Iterator[tuple[int, bytes]]:
        for row in wanted:
            try:
                yield row, files[row].read_bytes()
            except OSError as error:
                failures[row] = f"cannot be read: {error.strerror}"

    return TrainingImages(
        chosen, read, grouped_by, parts, rows, np.full(len(files), np.nan), aphia_ids(data.class_ids, known),
        f"the folder {root.name or 'of classes'}", problems, tuple(warnings),
    )  # fmt: skip


def aphia_ids(class_ids: Sequence[str], taxa: Sequence[Taxon]) -> dict[str, int | None]:
    """AphiaID of each class by the class list, None where it knows none."""
    found = {class_id: match_class(class_id, taxa) for class_id in class_ids}
    return {class_id: taxon.aphia_id if taxon else None for class_id, taxon in found.items()}


def _labelled_files(folders: dict[Path, str], root: Path, problems: Problems) -> tuple[list[Path], list[str]]:
    """Images of all class folders, and the class of each."""
    files: list[Path] = []
    labels: list[str] = []
    for folder, class_id in folders.items():
        mine = _images_below(folder, root, problems)
        if not mine:
            problems.add("empty_class", folder.name, "no image in the class folder; the class was left out")
        files += mine
        labels += [class_id] * len(mine)
    return files, labels


def _images_below(folder: Path, root: Path, problems: Problems) -> list[Path]:
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(base) / name
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                found.append(path)
            elif not name.startswith(".") and name != "Thumbs.db":
                message = f"no image by its ending (expected {', '.join(IMAGE_SUFFIXES)}); left out"
                problems.add("not_an_image", path.relative_to(root).as_posix(), message)
    return found


def _distinct(
    files: Sequence[Path], labels: Sequence[str], root: Path, problems: Problems, progress: Progress
) -> list[int]:
    """Rows of readable images, each content once; none of those that stand in two classes."""
    first: dict[bytes, int] = {}
    classes: dict[bytes, set[str]] = {}
    content: list[bytes | None] = []
    for row, path in enumerate(files):
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            problems.add("unreadable", path.relative_to(root).as_posix(), f"cannot be read: {error.strerror}")
            content.append(None)
            continue
        content.append(digest)
        first.setdefault(digest, row)
        classes.setdefault(digest, set()).add(labels[row])
        if row % 500 == 0:
            progress("comparing images", row, len(files))
    keep = []
    for row, found in enumerate(content):
        if found is None:
            continue
        name = files[row].relative_to(root).as_posix()
        if len(classes[found]) > 1:
            problems.add("two_classes", name, CONFLICT)
        elif first[found] != row:
            problems.add("twice", name, TWICE)
        else:
            keep.append(row)
    return keep


def _training_set(names: tuple[str, ...], labels: Sequence[str], where: Path, fewest: int = 2) -> TrainingSet:
    class_ids = tuple(sorted(set(labels)))
    if not class_ids:
        raise ReadError("no image of any class is left", path=where)
    if len(class_ids) < fewest:
        hint = "a model needs images of two classes at least"
        raise ReadError(f"expected two classes with images, found only {class_ids[0]}", path=where, hint=hint)
    place = {class_id: number for number, class_id in enumerate(class_ids)}
    return TrainingSet(class_ids, np.array([place[label] for label in labels], np.int64), names)


def _sub_folders(names: Sequence[str]) -> tuple[tuple[str, ...] | None, str | None, None]:
    parts = [name.split("/") for name in names]
    if all(len(part) > 2 for part in parts):
        return tuple(part[1] for part in parts), "folder inside the class folder", None
    return None, None, None


def read_labels(
    workspace: Workspace, *, imported: bool = False, context: Sequence[str] = (), progress: Progress = silent
) -> TrainingImages:
    """Labelled vignettes of a workspace: those a person stands behind; ``imported`` takes imported labels too.

    ``context``: columns of the samples that go with each vignette, as `sample_row` names them.

    Merged classes count as what they became. Groups are samples, or runs where all runs are of one sample.

    Raises:
        NotFound: fewer than two classes with labels.
    """
    taxa = workspace.catalogue.taxa()
    problems = Problems()
    found = _labelled_vignettes(workspace, ClassList(tuple(taxa)), imported, problems, progress)
    if (classes := len({one.class_id for one in found})) < 2:
        hint = "validate some particles first, or take imported labels too with --imported"
        raise NotFound(f"labels of two classes are needed, there are {len(found)} of {classes}", hint=hint)
    kept = _without_conflicts(found, problems)
    names = tuple(one.name for one in kept)
    samples = tuple(one.record.run.sample_id for one in kept)
    by_sample = len(set(samples)) > 1
    groups = samples if by_sample else tuple(one.record.run.run_id for one in kept)
    data = _training_set(names, [one.class_id for one in kept], workspace.folder)
    chosen = TrainingSet(data.class_ids, data.labels, names, groups)

    def read(rows: Sequence[int], failures: dict[int, str]) -> Iterator[tuple[int, bytes]]:
        by_run: dict[str, list[int]] = {}
        for row in rows:
            by_run.setdefault(kept[row].record.run.run_id, []).append(row)
        for run_id, mine in by_run.items():
            row_of = {kept[row].index: row for row in mine}
            for index, png in workspace.archive.open(run_id).read_vignettes(list(row_of)):
                yield row_of[index], png

    rows = _sample_context(workspace, [one.record for one in kept], context) if context else None
    um = np.array([one.record.run.um_per_px or np.nan for one in kept])
    return TrainingImages(
        chosen, read, "sample" if by_sample else "run", None, rows, um,
        aphia_ids(data.class_ids, taxa), "the workspace's labels" + (", imported ones too" if imported else ""), problems,
    )  # fmt: skip


def _labelled_vignettes(
    workspace: Workspace, classes: ClassList, imported: bool, problems: Problems, progress: Progress
) -> list[_Labelled]:
    """Vignettes with a label that counts, by run and index; merged classes as what they became."""
    wanted = (Source.PERSON, Source.IMPORT) if imported else (Source.PERSON,)
    found = []
    records = workspace.catalogue.runs()
    for number, record in enumerate(records):
        progress("reading labels", number, len(records))
        run_id = record.run.run_id
        standing = workspace.catalogue.standing(run_id)
        archived = workspace.archive.open(run_id)
        there = set(archived.vignette_index()[0].tolist())
        hashes = archived.vignette_sha256()
        for index, label in sorted(standing.items()):
            usable = label.class_id and label.verdict in (Verdict.CONFIRMED, Verdict.CORRECTED)
            if not usable or label.source not in wanted:
                continue
            if index not in there:
                problems.add("no_vignette", f"{run_id}:{index}", "a labelled particle has no vignette; left out")
                continue
            class_id = str(label.class_id)
            class_id = classes.resolve(class_id).class_id if class_id in classes else class_id
            found.append(_Labelled(record, index, class_id, str(hashes[index])))
    return found


def _sample_context(
    workspace: Workspace, run_of: Sequence[RunRecord], columns: Sequence[str]
) -> tuple[dict[str, str], ...]:
    known = {}
    for record in {r.run.run_id: r for r in run_of}.values():
        row = sample_row(workspace.catalogue.sample(record.run.sample_id), record.run)
        known[record.run.run_id] = {c: "" if row.get(c) is None else str(row[c]) for c in columns}
    absent = [c for c in columns if not any(row[c] for row in known.values())]
    if absent:
        hint = "give the samples this value with `plankter sample`, or leave the column out"
        raise NotFound(f"no sample knows {', '.join(absent)}", hint=hint)
    return tuple(known[r.run.run_id] for r in run_of)


def _without_conflicts(found: Sequence[_Labelled], problems: Problems) -> list[_Labelled]:
    """Each content once; none of those that were given two classes."""
    classes: dict[str, set[str]] = {}
    for one in found:
        classes.setdefault(one.sha256, set()).add(one.class_id)
    seen: Counter[str] = Counter()
    kept = []
    for one in found:
        seen[one.sha256] += 1
        if len(classes[one.sha256]) > 1:
            problems.add("two_classes", one.name, CONFLICT)
        elif seen[one.sha256] > 1:
            problems.add("twice", one.name, TWICE)
        else:
            kept.append(one)
    return kept
