"""Instrument files into the store: read, measure, keep; a bad run never stops the others."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from plankter._errors import PlankterError
from plankter._plugins import load
from plankter.features.base import FeatureTable
from plankter.features.measures_table import MEASURE_NAMES
from plankter.features.morphology import MORPHOLOGY, measure_many
from plankter.formats.sample_table import SampleRow, read_sample_table
from plankter.readers.base import Reader, ReadRun, RunSource
from plankter.readers.discover import find_runs
from plankter.types import Annotation, Flag, Particles, Run, Severity, Source, Verdict, Vignette
from plankter.vignettes.codec import encode_mask, encode_vignette
from plankter.vignettes.masks import own_mask
from plankter.workflow.labels import classes_of, finish_records, label_lock, record
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace

log = logging.getLogger(__name__)
CHUNK = 64
AHEAD = 6


@dataclass(frozen=True)
class IngestedRun:
    """What became of one run; the fields of ``plankter ingest --json``."""

    run_id: str | None
    sample_id: str | None
    instrument: str | None
    particles: int
    vignettes: int
    masks: int
    failures: int
    um_per_px: float | None
    volume_imaged_ml: float | None
    started_at: str | None
    status: str  # ingested | updated | unchanged | refused
    reason: str | None
    flags: list[str]
    source: str


@dataclass
class _Measured:
    failure: dict[int, str] = field(default_factory=dict)
    rows: list[np.ndarray] = field(default_factory=list)


def ingest(
    workspace: Workspace, paths: Iterable[Path], *, samples: Path | None = None, progress: Progress = silent
) -> tuple[list[IngestedRun], float]:
    """Reads runs (a run, a zip, or a folder of runs at any depth) into the workspace.

    A second ingest of the same run is ``unchanged``, ``updated`` where something was added, ``refused`` where known
    pixels changed.

    Args:
        workspace: where to.
        paths: what the user named.
        samples: table of sample metadata with a ``run`` column.
        progress: told of each run and its particles.

    Returns:
        One entry a run (or a path that cannot be read), and the seconds it took.

    Raises:
        ReadError: the sample table cannot be read.
    """
    started = time.monotonic()
    table = read_sample_table(samples) if samples else []
    found: list[IngestedRun] = []
    finish_records(workspace)
    for run_id in workspace.archive.sweep():
        log.info("removed what a killed ingest of %s had left", run_id)
    with tempfile.TemporaryDirectory(prefix="plankter-") as scratch:
        named = list(paths)
        missing = [path for path in named if not path.exists()]
        found += [_refused(str(path), "there is nothing at this path") for path in missing]
        sources, problems = find_runs([path for path in named if path not in missing], scratch=Path(scratch))
        found += [_refused(flag.file or "", flag.message) for flag in problems if flag.severity is Severity.ERROR]
        for number, source in enumerate(sources):
            progress("runs", number, len(sources))
            found.append(_ingest_one(workspace, source, table, progress))
            log.info("%s: %s %s", source.origin, found[-1].status, found[-1].reason or "")
        progress("runs", len(sources), len(sources))
    return found, time.monotonic() - started


def _refused(source: str, reason: str, run: Run | None = None) -> IngestedRun:
    return IngestedRun(
        run.run_id if run else None, run.sample_id if run else None, run.instrument if run else None,
        0, 0, 0, 0, None, None, None, "refused", reason, [], source,
    )  # fmt: skip


def _ingest_one(workspace: Workspace, source: RunSource, table: Sequence[SampleRow], progress: Progress) -> IngestedRun:
    reader: Reader = load("plankter.readers", source.reader)()
    try:
        read = reader.read(source)
        read = replace(read, run=_with_sample(workspace, read.run, source, table))
        status, reason = _compare(workspace, read)
        if status == "refused":
            return _refused(source.origin, str(reason), read.run)
        if status != "unchanged":
            _write(workspace, reader, source, read, progress)
        with label_lock(workspace, read.run.run_id):
            _catalogue(workspace, read.run.run_id, source, force=status == "updated")
    except (PlankterError, OSError) as error:
        log.error("%s: %s", source.origin, error)
        return _refused(source.origin, str(error))
    record = workspace.catalogue.run(read.run.run_id)
    started_at = read.run.started_at
    return IngestedRun(
        run_id=read.run.run_id,
        sample_id=record.run.sample_id,
        instrument=read.run.instrument,
        particles=record.particles,
        vignettes=record.vignettes,
        masks=record.masks,
        failures=record.failures,
        um_per_px=read.run.um_per_px,
        volume_imaged_ml=read.run.volume_imaged_ml,
        started_at=started_at.isoformat().replace("+00:00", "Z") if started_at else None,
        status=status,
        reason=reason,
        flags=[flag.code for flag in record.run.flags],
        source=source.origin,
    )


def _with_sample(workspace: Workspace, run: Run, source: RunSource, table: Sequence[SampleRow]) -> Run:
    names = {run.name, run.run_id, run.sample_id, source.path.parent.name}
    for row in table:
        if row.run in names:
            workspace.catalogue.put_sample(row.sample)
            workspace.archive.put_sample(row.sample)
            return replace(run, sample_id=row.sample.sample_id)
    return run


def _compare(workspace: Workspace, read: ReadRun) -> tuple[str, str | None]:
    """What a run is to the archive, and why."""
    run_id = read.run.run_id
    if not workspace.archive.has(run_id):
        return "ingested", None
    known, now = workspace.archive.open(run_id).run.files, read.run.files
    changed = sorted(name for name in now if name in known and now[name] != known[name])
    pixels = [name for name in changed if name.lower().endswith((".tif", ".tiff", ".png", ".jpg", ".bmp"))]
    if pixels:
        return "refused", f"pixels that are in the archive changed in {pixels[0]}; remove the run first to read it anew"
    new = sorted(name for name in now if name not in known)
    if changed or new:
        return "updated", f"{len(new)} files were added and {len(changed)} changed: {', '.join((new + changed)[:3])}"
    if run_id not in {record.run.run_id for record in workspace.catalogue.runs()}:
        return "ingested", None
    return "unchanged", None


def _write(workspace: Workspace, reader: Reader, source: RunSource, read: ReadRun, progress: Progress) -> None:
    """Pixels, measures and the instrument's columns of one run into the archive."""
    particles, run = read.particles, read.run
    measured = _Measured()
    with workspace.archive.create(run.run_id) as writer:
        if workspace.archive.has(run.run_id) and run.files == workspace.archive.open(run.run_id).run.files:
            return  # another process was first
        with ThreadPoolExecutor(workspace.threads) as pool:
            for chunk in _chunks(pool, reader.vignettes(source, particles), read):
                for vignette, row, vignette_png, mask_png in chunk:
                    writer.add(vignette.index, vignette_png, mask_png)
                    measured.rows.append(row)
                    if vignette.failure is not None:
                        measured.failure[vignette.index] = vignette.failure
                progress(run.name, len(measured.rows), len(particles))
        failure = tuple(measured.failure.get(i, kept) for i, kept in enumerate(particles.failure))
        values = np.stack(measured.rows) if measured.rows else np.zeros((0, len(MEASURE_NAMES)), np.float32)
        features = FeatureTable(*MORPHOLOGY, MEASURE_NAMES, values)
        writer.commit(
            replace(run, flags=run.flags + _pixel_flags(measured)),
            replace(particles, failure=failure),
            read.labels,
            features.name, features.version, features.columns, features.values,
            read.fringe_px,
        )  # fmt: skip


_Encoded = tuple[Vignette, np.ndarray, bytes | None, bytes | None]


def _chunks(pool: ThreadPoolExecutor, vignettes: Iterator[Vignette], read: ReadRun) -> Iterator[list[_Encoded]]:
    """Measures and encodes in threads, a few chunks ahead, results in order: memory stays bounded."""
    waiting: list[Future[list[_Encoded]]] = []
    origins, start = _origins_px(read.particles), 0
    while True:
        chunk = list(islice(vignettes, CHUNK))
        if chunk:
            here = origins[start : start + len(chunk)]
            waiting.append(pool.submit(_encode, chunk, here, read.run.um_per_px, read.fringe_px))
            start += len(chunk)
        while waiting and (len(waiting) > AHEAD or not chunk):
            yield waiting.pop(0).result()
        if not chunk:
            return


def _encode(chunk: list[Vignette], origins_px: np.ndarray, um_per_px: float | None, fringe_px: float) -> list[_Encoded]:
    masks = [own_mask(v.image) if v.image is not None and v.mask is None else v.mask for v in chunk]
    pairs = [(v.image, mask) for v, mask in zip(chunk, masks, strict=True)]
    rows = measure_many(pairs, um_per_px, fringe_px, origins_px=origins_px).values
    found: list[_Encoded] = []
    for vignette, mask, row in zip(chunk, masks, rows, strict=True):
        if vignette.image is None or mask is None:
            found.append((vignette, row, None, None))
        else:
            found.append((vignette, row, encode_vignette(vignette.image), encode_mask(mask)))
    return found


def _origins_px(particles: Particles) -> np.ndarray:
    """Where each vignette lay in the camera frame, NaN where the list does not say."""
    nothing = np.full(len(particles), np.nan)
    columns = [particles.features.get(name, nothing) for name in ("src_x", "src_y")]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _pixel_flags(measured: _Measured) -> tuple[Flag, ...]:
    if not measured.failure:
        return ()
    first = min(measured.failure)
    message = (
        f"{len(measured.failure)} vignettes cannot be used; particle {first}: {measured.failure[first]}. "
        "They are counted as particles and left without a prediction."
    )
    return (Flag("vignettes-failed", message, Severity.WARNING),)


def _catalogue(workspace: Workspace, run_id: str, source: RunSource, *, force: bool) -> None:
    """Brings the catalogue level with the archive; every step may be repeated after a kill."""
    archived, catalogue = workspace.archive.open(run_id), workspace.catalogue
    if force or run_id not in {record.run.run_id for record in catalogue.runs()}:
        catalogue.put_run(archived.run, archived.rows())
    labels = archived.labels()
    if not labels:
        return
    known = {(fact.index, fact.class_id) for _, fact in catalogue.annotations(run_id) if fact.source is Source.IMPORT}
    # the time of the instrument's file, so that a repeated ingest states the same fact
    at = datetime.fromtimestamp(int(source.path.stat().st_mtime), UTC)
    classes = classes_of(workspace, sorted({label.class_name for label in labels}))
    new = [
        Annotation(run_id, label.index, classes[label.class_name], Verdict.CONFIRMED,
                   f"{archived.run.instrument}: {label.classification}", at, Source.IMPORT)
        for label in labels
        if (label.index, classes[label.class_name]) not in known
    ]  # fmt: skip
    if new:
        record(workspace, run_id, new)


def as_json(found: Sequence[IngestedRun], seconds: float) -> dict[str, Any]:
    """The object that ``plankter ingest --json`` prints."""
    return {"runs": [asdict(run) for run in found], "seconds": round(seconds, 3)}
