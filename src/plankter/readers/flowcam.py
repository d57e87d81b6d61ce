"""FlowCam runs as VisualSpreadsheet 1.5 to 6 wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plankter._errors import ReadError
from plankter.formats.flowcam_columns import ListTable
from plankter.formats.flowcam_csv import parse_export
from plankter.formats.flowcam_lst import parse_lst
from plankter.formats.flowcam_quantities import quantities
from plankter.formats.flowcam_text import decode_text
from plankter.formats.flowcam_time import Started
from plankter.readers.base import Portion, ReadRun, RunSource
from plankter.readers.flowcam_folder import IMAGES, RunFolder, why_not
from plankter.readers.flowcam_pages import PageHeader, hash_and_header, outside, portion_vignettes, portions, vignettes
from plankter.readers.flowcam_parts import (
    csv_problems,
    labels,
    list_flags,
    read_parts,
    settings,
    software,
    start_of,
)
from plankter.types import Flag, Particles, Run, Severity, Vignette


@dataclass
class _Files:
    """SHA-256 of each file of the run, and the headers of its images."""

    digests: dict[str, str] = field(default_factory=dict)
    headers: dict[str, PageHeader] = field(default_factory=dict)
    flags: list[Flag] = field(default_factory=list)


class FlowCamReader:
    """Reads a run by its list (`.lst`), a library (`.flb`), or the export (`.csv`) of versions that write no list."""

    name = "flowcam"

    def can_read(self, path: Path) -> str | None:
        """None where ``path`` identifies a FlowCam run, else in one sentence why not."""
        return why_not(path)

    def read(self, source: RunSource) -> ReadRun:
        """The run, its particles and labels; of images only the headers are looked at.

        Raises:
            ReadError: the list cannot be read as what it should be; says which file and row.
        """
        path = source.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ReadError(f"the list cannot be read: {error.strerror}", path=path) from error
        folder = RunFolder(path)
        library = path.suffix.lower() == ".flb"
        parse = parse_export if path.suffix.lower() == ".csv" else parse_lst
        table = parse(decode_text(data), path=path)
        parts = read_parts(folder, library=library)
        files = _files(folder, table)
        particles, image_flags, has_masks = _particles(folder, table, files)
        found = quantities(table, parts.ctx, parts.summary, library=library)
        started = Started(None, None) if library else start_of(table, parts)
        labelled, label_flags = labels(table, parts)
        problems = [*csv_problems(folder, table), *_unused_collages(folder, table, files)]
        flags = [
            *list_flags(table, parts, library=library), *parts.flags, *found.flags, *started.flags, *image_flags,
            *files.flags, *label_flags,
        ]  # fmt: skip
        flags = [_named(flag, path.name) for flag in flags]
        run = Run(
            run_id=hashlib.sha256(data).hexdigest()[:16],
            sample_id=path.resolve().parent.name or path.stem,
            instrument="flowcam",
            name=path.stem,
            source=source.origin,
            um_per_px=found.um_per_px,
            volume_imaged_ml=found.volume_imaged_ml,
            started_at=started.at,
            started_at_local=started.local,
            software=software(parts),
            settings=settings(parts),
            files=files.digests,
            flags=tuple(flags),
            notes=parts.notes,
        )
        return ReadRun(
            run, particles, labelled, (*flags, *problems), found.fringe_px, has_masks=has_masks, notes=parts.notes
        )

    def vignettes(self, source: RunSource, particles: Particles) -> Iterator[Vignette]:
        """One `Vignette` a particle, in order, cut from the collages; the mask is the instrument's own."""
        return vignettes(RunFolder(source.path), particles)

    def portions(self, source: RunSource, particles: Particles) -> list[Portion] | None:
        """One portion a collage, more where it holds many particles; None where the list jumps between collages."""
        return portions(RunFolder(source.path), particles)

    def portion_vignettes(self, portion: Portion) -> list[Vignette]:
        """`vignettes` of the particles of one portion."""
        return portion_vignettes(portion)


def _named(flag: Flag, list_name: str) -> Flag:
    # a row without a file is one of the list
    return flag if flag.file or flag.row is None else Flag(flag.code, flag.message, flag.severity, list_name, flag.row)


def _files(folder: RunFolder, table: ListTable) -> _Files:
    found = _Files()
    names = folder.files({name for name in table.collage if name})
    # hashing leaves Python's lock alone: two files at a time
    with ThreadPoolExecutor(2, thread_name_prefix="hash") as pool:
        for name, looked in zip(names, pool.map(lambda name: _look(folder.folder / name), names), strict=True):
            if isinstance(looked, OSError):
                found.flags.append(Flag("unreadable-file", f"{name} cannot be read: {looked.strerror}", file=name))
                continue
            found.digests[name], header = looked
            if header is not None:
                found.headers[name] = header
    return found


def _look(path: Path) -> tuple[str, PageHeader | None] | OSError:
    try:
        if path.suffix.lower() in IMAGES:
            return hash_and_header(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), None
    except OSError as error:
        return error


def _particles(folder: RunFolder, table: ListTable, files: _Files) -> tuple[Particles, list[Flag], bool]:
    """Particles with their pages, the flags on images, and whether there are masks."""
    collages = sorted({name for name in table.collage if name})
    flags: list[Flag] = []
    alone = not files.headers
    page: tuple[str | None, ...] = (None,) * len(table) if alone else table.collage
    failure = list(table.failure)
    masked = 0
    if alone:
        message = "a list alone: no image stands beside it, so that particles have measures but no vignettes"
        flags.append(Flag("list-alone", message))
    elif not table.has_boxes:
        message = "the list names no collages or boxes: particles have measures but no vignettes"
        flags.append(Flag("no-boxes", message))
        page = (None,) * len(table)
    else:
        problems, masked = _collage_problems(folder, collages, files, flags)
        _judge(table, folder, files, problems, failure)
    particles = Particles(
        index=np.arange(len(table), dtype=np.int64),
        label=table.label,
        page=page,
        box=table.box,
        features=table.columns,
        failure=tuple(failure),
    )
    return particles, flags, masked > 0


def _collage_problems(
    folder: RunFolder, collages: list[str], files: _Files, flags: list[Flag]
) -> tuple[dict[str, str], int]:
    """Why a collage cannot be used, by its name, and how many of them have a usable mask."""
    problems: dict[str, str] = {}
    missing, masked = [], 0
    for name in collages:
        path = folder.find(name)
        if path is None:
            missing.append(name)
            problems[name] = f"collage {name} is missing"
            continue
        header = files.headers.get(path.name)
        if header is None or header.problem:
            reason = header.problem if header else "the file cannot be read"
            problems[name] = f"collage {name} cannot be used: {reason}"
            flags.append(Flag("collage-damaged", problems[name], file=path.name))
            continue
        masked += _mask_usable(folder, name, header, files, flags)
    if missing:
        message = f"{len(missing)} of {len(collages)} collages are missing, the first is {missing[0]}"
        flags.append(Flag("collages-missing", message))
    usable = len(collages) - len(problems)
    if masked < usable:
        message = f"{usable - masked} of {usable} collages have no usable mask: outlines are found anew from the pixels"
        flags.append(Flag("masks-missing", message, Severity.NOTE))
    if not any(name.lower().startswith("cal_image_") for name in files.digests):
        message = "no calibration image of the background (cal_image_000001.tif)"
        flags.append(Flag("calibration-image-missing", message, Severity.NOTE))
    return problems, masked


def _mask_usable(folder: RunFolder, collage: str, header: PageHeader, files: _Files, flags: list[Flag]) -> bool:
    path = folder.mask(collage)
    if path is None:
        return False
    of_mask = files.headers.get(path.name)
    if of_mask is None or of_mask.problem:
        reason = of_mask.problem if of_mask else "the file cannot be read"
        flags.append(Flag("mask-damaged", f"mask {path.name} cannot be used: {reason}", file=path.name))
        return False
    if (of_mask.width, of_mask.height) != (header.width, header.height):
        sizes = f"{of_mask.width} x {of_mask.height} px, its collage {header.width} x {header.height}"
        flags.append(Flag("mask-damaged", f"mask {path.name} cannot be used: it has {sizes}", file=path.name))
        return False
    return True


def _judge(
    table: ListTable, folder: RunFolder, files: _Files, problems: dict[str, str], failure: list[str | None]
) -> None:
    """Sets the failure of particles whose collage or box cannot be used."""
    sizes: dict[str, PageHeader] = {}
    for usable in {name for name in table.collage if name and name not in problems}:
        path = folder.find(usable)
        if path is not None:
            sizes[usable] = files.headers[path.name]
    boxes = table.box.tolist()
    for index, name in enumerate(table.collage):
        if failure[index] is not None:
            continue
        if name is None:
            failure[index] = f"row {table.row[index]} of the list names no collage"
        elif name in problems:
            failure[index] = problems[name]
        else:
            failure[index] = outside(boxes[index], sizes[name].width, sizes[name].height)


def _unused_collages(folder: RunFolder, table: ListTable, files: _Files) -> list[Flag]:
    used = {path.name for name in set(table.collage) if (path := folder.find(name))}
    unused = [
        name
        for name in files.headers
        if name not in used and "_bin." not in name.lower() and not name.lower().startswith(("cal_image_", "rawfile_"))
    ]
    if not unused or not table.has_boxes:
        return []
    message = f"{len(unused)} images in the folder are named by no particle, the first is {unused[0]}"
    return [Flag("images-unused", message, Severity.NOTE, file=unused[0])]
