"""Instrument files into the store: read, measure, keep; a bad run never stops the others."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from plankter._errors import PlankterError
from plankter._plugins import load
from plankter.features.base import FeatureTable
from plankter.features.measures_table import MEASURE_NAMES
from plankter.features.morphology import MORPHOLOGY
from plankter.formats.sample_table import SampleRow, read_sample_table
from plankter.readers.base import PortionReader, Reader, ReadRun, RunSource
from plankter.readers.discover import find_runs
from plankter.store.files import sha256_of
from plankter.types import Annotation, Flag, Particles, Run, Severity, Source, Verdict, Vignette
from plankter.workflow.labels import classes_of, finish_records, label_lock, record
from plankter.workflow.portions import Job, Measured, measure_vignettes
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace

log = logging.getLogger(__name__)
CHUNK = 64
AHEAD = 6
# a process takes as long to start as a few hundred particles take; until it is there, this one goes on alone
WORTH_WORKERS = 1000
LARGE_LIST_BYTES = 500_000  # of about as many particles


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
        if _is_large(workspace, reader, source):
            workspace.workers.start()  # while the list is read
        read = reader.read(source)
        read = replace(read, run=_with_sample(workspace, read.run, source, table))
        status, reason = _compare(workspace, read)
        if status == "refused":
            return _refused(source.origin, str(reason), read.run)
        if status != "unchanged":
            write_run(workspace, reader, source, read, progress)
        run = read.run
        del read  # the archive has the particles; a hundred thousand of them take 400 MB
        with label_lock(workspace, run.run_id):
            _catalogue(workspace, run.run_id, source, force=status == "updated")
    except (PlankterError, OSError) as error:
        log.error("%s: %s", source.origin, error)
        return _refused(source.origin, str(error))
    record = workspace.catalogue.run(run.run_id)
    return IngestedRun(
        run_id=run.run_id,
        sample_id=record.run.sample_id,
        instrument=run.instrument,
        particles=record.particles,
        vignettes=record.vignettes,
        masks=record.masks,
        failures=record.failures,
        um_per_px=run.um_per_px,
        volume_imaged_ml=run.volume_imaged_ml,
        started_at=run.started_at.isoformat().replace("+00:00", "Z") if run.started_at else None,
        status=status,
        reason=reason,
        flags=[flag.code for flag in record.run.flags],
        source=source.origin,
    )


def _is_large(workspace: Workspace, reader: Reader, source: RunSource) -> bool:
    """Whether a run is new and its list so long that worker processes will pay."""
    if not workspace.workers.count or not isinstance(reader, PortionReader):
        return False
    return source.path.stat().st_size >= LARGE_LIST_BYTES and not workspace.archive.has(sha256_of(source.path)[:16])


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


def write_run(workspace: Workspace, reader: Reader, source: RunSource, read: ReadRun, progress: Progress) -> None:
    """Pixels, measures and the instrument's columns of one run into the archive."""
    particles, run = read.particles, read.run
    failed: dict[int, str] = {}
    rows: list[np.ndarray] = []
    with workspace.archive.create(run.run_id) as writer:
        if workspace.archive.has(run.run_id) and run.files == workspace.archive.open(run.run_id).run.files:
            return  # another process was first
        with closing(_measured(workspace, reader, source, read)) as portions:
            for portion in portions:
                writer.add_packed(portion.pixels, portion.start, portion.stop)
                rows.append(portion.values)
                failed |= portion.failure
                progress(run.name, portion.stop, len(particles))
        failure = tuple(failed.get(i, kept) for i, kept in enumerate(particles.failure))
        values = np.concatenate(rows) if rows else np.zeros((0, len(MEASURE_NAMES)), np.float32)
        features = FeatureTable(*MORPHOLOGY, MEASURE_NAMES, values)
        writer.commit(
            replace(run, flags=run.flags + _pixel_flags(failed)),
            replace(particles, failure=failure),
            read.labels,
            features.name, features.version, features.columns, features.values,
            read.fringe_px,
        )  # fmt: skip


def _measured(
    workspace: Workspace, reader: Reader, source: RunSource, read: ReadRun
) -> Generator[Measured, None, None]:
    """The run's particles measured, in order: by worker processes where that pays, else in threads."""
    workers, particles = workspace.workers, read.particles
    origins = _origins_px(particles)
    if workers.count and isinstance(reader, PortionReader) and (workers.started or len(particles) >= WORTH_WORKERS):
        portions = reader.portions(source, particles)
        if portions is not None and len(portions) > 1:
            name = (type(reader).__module__, type(reader).__qualname__)
            yield from workers.measured(
                [
                    Job(name, part, origins[part.start : part.stop], read.run.um_per_px, read.fringe_px)
                    for part in portions
                ]
            )
            return
    with ThreadPoolExecutor(workspace.threads) as pool:
        yield from _in_threads(pool, reader.vignettes(source, particles), origins, read)


def _in_threads(
    pool: ThreadPoolExecutor, vignettes: Iterator[Vignette], origins: np.ndarray, read: ReadRun
) -> Iterator[Measured]:
    """Measures and encodes a few chunks ahead, results in order: memory stays bounded."""
    waiting: list[Future[Measured]] = []
    start = 0
    while True:
        chunk = list(islice(vignettes, CHUNK))
        if chunk:
            here = origins[start : start + len(chunk)]
            job = pool.submit(measure_vignettes, start, chunk, here, read.run.um_per_px, read.fringe_px)
            waiting.append(job)
            start += len(chunk)
        while waiting and (len(waiting) > AHEAD or not chunk):
            yield waiting.pop(0).result()
        if not chunk:
            return


def _origins_px(particles: Particles) -> np.ndarray:
    """Where each vignette lay in the camera frame, NaN where the list does not say."""
    nothing = np.full(len(particles), np.nan)
    columns = [particles.features.get(name, nothing) for name in ("src_x", "src_y")]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _pixel_flags(failed: dict[int, str]) -> tuple[Flag, ...]:
    if not failed:
        return ()
    first = min(failed)
    message = (
        f"{len(failed)} vignettes cannot be used; particle {first}: {failed[first]}. "
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
