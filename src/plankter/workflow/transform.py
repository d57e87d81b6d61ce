"""A set of images made comparable with another, augmented or balanced: a new folder with a manifest and a preview."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from plankter._errors import Conflict, ImageError, PlankterError, ReadError
from plankter.publish.contact_sheets import before_after_sheet
from plankter.publish.csv_files import escape_cell, write_csv
from plankter.types import ImageArray
from plankter.vignettes.augment import augmented_copy
from plankter.vignettes.codec import DEFAULT_LIMITS, decode_image, encode_vignette
from plankter.vignettes.match import Matching
from plankter.workflow.image_sets import SHOWN, Reference, find_reference, grey_or_colour, plan_facts, plan_for
from plankter.workflow.predict import image_files
from plankter.workflow.progress import Progress, silent
from plankter.workflow.workspace import Workspace

log = logging.getLogger(__name__)
MANIFEST, PREVIEW = "manifest.csv", "preview.png"
HEADER = (
    "source_file", "output_file", "class", "copy", "done", "seed", "source_width_px", "source_height_px",
    "output_width_px", "output_height_px", "source_sha256", "output_sha256",
)  # fmt: skip
_JPEG = (".jpg", ".jpeg")
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Job:
    """One output: a source, where it goes, and which copy it is (0 is the image itself)."""

    source: Path
    name: str  # relative to the folder of images, with /
    label: str
    output: str
    copy: int


def transform(
    images: Path,
    out: Path,
    *,
    like: str | None = None,
    copies: int = 0,
    balance: int | None = None,
    um_per_px: float | None = None,
    like_um_per_px: float | None = None,
    preview: Path | None = None,
    keep_jpeg: bool = False,
    seed: int = 0,
    workspace: Workspace | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes a copy of the images below ``images`` to ``out``: matched, augmented or class-balanced, as asked.

    ``out`` appears as a whole at the end or not at all. The same images, options and seed give the same files.

    Args:
        images: folder with one folder a class, or flat.
        out: new or empty folder outside ``images``.
        like: folder of reference images, or a model whose card describes its training images; None matches nothing.
        copies: augmented copies beside every image.
        balance: images a class instead: chosen by chance where there are more, augmented copies where there are less.
        um_per_px, like_um_per_px: pixel sizes of the images and of the reference, in µm.
        preview: picture before and after; ``preview.png`` in ``out`` where None.
        keep_jpeg: write JPEG where the source is one; else all are PNG and lossless.
        seed: of every choice by chance.
        workspace: where models are looked up, too.

    Returns:
        The object that ``plankter transform --json`` prints.

    Raises:
        ReadError: no images, or none that can be read. Conflict: ``out`` is not empty, or within the images.
        NotFound, ModelError: the model. PlankterError: contradictory options.
    """
    started = time.monotonic()
    _check_options(like, copies, balance, (um_per_px, like_um_per_px))
    files, root = _sources(images, out, like, preview)
    reference = find_reference(like, workspace, seed=seed, progress=progress)
    plan = plan_for(files, root, reference, um_per_px, like_um_per_px, seed=seed, progress=progress)
    jobs = _jobs(files, root, copies, balance, keep_jpeg, seed)
    with _appearing(out) as partial:
        rows, pairs, failures = _write_all(jobs, partial, plan, seed, progress)
        _write_about(partial, rows, pairs, reference, preview)
    return {
        "images": len(files),
        "written": len(rows),
        "classes": dict(sorted(Counter(row[2] for row in rows).items())),
        "failures": _told(failures),
        "matching": None if plan is None else plan_facts(plan),
        "seed": seed,
        "out": str(out),
        "manifest": str(out / MANIFEST),
        "preview": str(preview or out / PREVIEW),
        "seconds": round(time.monotonic() - started, 3),
    }


def _check_options(
    like: str | None, copies: int, balance: int | None, sizes: tuple[float | None, float | None]
) -> None:
    if like is None and not copies and balance is None:
        raise PlankterError("nothing to do", hint="give a reference, a number of copies, or a number of images a class")
    if copies < 0 or (balance is not None and balance < 1):
        raise PlankterError("expected 0 copies or more, and 1 image a class or more")
    if copies and balance is not None:
        raise PlankterError("copies of every image and a balanced set exclude each other", hint="give one of them")
    if like is None and any(size is not None for size in sizes):
        raise PlankterError("pixel sizes are matched to a reference, and none is given")


def _sources(images: Path, out: Path, like: str | None, preview: Path | None) -> tuple[list[Path], Path]:
    """The images, and the folder that their names are relative to; what is written lies in neither them nor the reference."""
    files = image_files(images)
    root = images.parent if images.is_file() else images
    _check_out(out, root)
    if preview is not None:
        _check_preview(preview, images)
    if like is not None and Path(like).is_dir():
        _check_out(out, Path(like))
        if preview is not None:
            _check_preview(preview, Path(like))
    return files, root


def _check_preview(preview: Path, images: Path) -> None:
    """Before anything is written: it would be found missing, or be an image overwritten, only at the end."""
    if preview.resolve().is_relative_to(images.resolve()):  # a file lies within itself
        raise Conflict("the preview would lie within the images", path=preview, hint="name a file elsewhere")
    if preview.is_dir() or not preview.parent.is_dir():
        raise ReadError("expected a file in a folder that exists", path=preview, hint="make the folder first")


def _check_out(out: Path, images: Path) -> None:
    if out.resolve().is_relative_to(images.resolve()):
        raise Conflict("the output would lie within the images", path=out, hint="name a folder elsewhere")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict("expected a new or an empty folder", path=out, hint="name another, or remove it first")


def _jobs(
    files: Sequence[Path], root: Path, copies: int, balance: int | None, keep_jpeg: bool, seed: int
) -> list[_Job]:
    """Every output in the order it is written: images in theirs, the copies of each behind it."""
    names = [path.relative_to(root).as_posix() for path in files]
    labels = [name.split("/")[0] if "/" in name else "" for name in names]
    counts = _balanced(labels, balance, seed) if balance is not None else [1 + copies] * len(files)
    taken = {MANIFEST, PREVIEW}
    jobs = []
    for path, name, label, count in zip(files, names, labels, counts, strict=True):
        jpeg = keep_jpeg and path.suffix.lower() in _JPEG
        for copy in range(count):
            stem = name.removesuffix(path.suffix) + (f"_copy{copy}" if copy else "")
            ending = path.suffix if jpeg else ".png"
            output = stem + ending
            while output.lower() in taken:  # a.jpg beside a.png; systems that do not tell a from A
                stem += path.suffix if stem + path.suffix + ending not in taken else "_"
                output = stem + ending
            taken.add(output.lower())
            jobs.append(_Job(path, name, label, output, copy))
    return jobs


def _balanced(labels: Sequence[str], wanted: int, seed: int) -> list[int]:
    """How often each image is written, so that every class has ``wanted``: 0 or once where there are enough."""
    counts = [0] * len(labels)
    for number, label in enumerate(sorted(set(labels))):
        members = np.array([k for k, found in enumerate(labels) if found == label])
        mixed = np.random.default_rng([seed, number]).permutation(members)
        for place in range(wanted):
            counts[int(mixed[place % len(mixed)])] += 1
    return counts


def _shown(jobs: Sequence[_Job], matched: bool) -> set[str]:
    """Outputs of the preview: images that were matched, copies that were varied, or some of both."""
    originals, copies = ([job.output for job in jobs if bool(job.copy) == varied] for varied in (False, True))
    if not copies or not matched:
        return _spread(copies or originals, SHOWN)
    return _spread(originals, SHOWN // 2) | _spread(copies, SHOWN // 2)


def _spread(names: Sequence[str], n: int) -> set[str]:
    return {names[round(k)] for k in np.linspace(0, len(names) - 1, min(n, len(names)))}


def _write_all(
    jobs: Sequence[_Job], folder: Path, plan: Matching | None, seed: int, progress: Progress
) -> tuple[list[tuple[str, ...]], list[tuple[ImageArray, ImageArray]], dict[str, str]]:
    """Writes every output; the rows of the manifest, the images of the preview before and after, and why one failed."""
    shown = _shown(jobs, plan is not None)
    rows, pairs = [], []
    failures: dict[str, str] = {}
    for number, (job, before, after, row) in enumerate(_written(jobs, folder, plan, seed, failures)):
        rows.append(row)
        if job.output in shown:
            pairs.append((before, after))
        progress("images", number + 1, len(jobs))
    if not rows:
        reason = next(iter(failures.values()))
        raise ReadError(f"none of {len(failures)} images can be read; the first: {reason}", path=jobs[0].source)
    return rows, pairs, failures


def _write_about(
    folder: Path,
    rows: Sequence[tuple[str, ...]],
    pairs: Sequence[tuple[ImageArray, ImageArray]],
    reference: Reference,
    preview: Path | None,
) -> None:
    """Writes the manifest and the picture before and after."""
    write_csv(folder / MANIFEST, HEADER, rows)
    picture = before_after_sheet(pairs, reference.shown) if pairs else np.zeros((1, 1), np.uint8)
    (preview or folder / PREVIEW).write_bytes(encode_vignette(picture))


def _written(
    jobs: Sequence[_Job], folder: Path, plan: Matching | None, seed: int, failures: dict[str, str]
) -> Iterator[tuple[_Job, ImageArray, ImageArray, tuple[str, ...]]]:
    """Writes each output below ``folder``; yields it before and after, and its row of the manifest."""
    source: Path | None = None
    for job in jobs:
        if job.name in failures:
            continue
        if job.source != source:
            try:
                data = _read(job.source)
                before = grey_or_colour(decode_image(data, path=job.name), path=job.name)
                matched, steps = plan.apply(before) if plan else (before, ())
            except ImageError as error:
                failures[job.name] = error.message
                continue
            source, digest = job.source, hashlib.sha256(data).hexdigest()
        after, done = matched, steps
        if job.copy:
            after, change = augmented_copy(matched, _rng(seed, job))
            done = (*steps, change)
        encoded = _encoded(after, job.output)
        target = folder / job.output
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encoded)
        yield job, before, after, (
            escape_cell(job.name), escape_cell(job.output), escape_cell(job.label), str(job.copy), "; ".join(done),
            str(seed), str(before.shape[1]), str(before.shape[0]), str(after.shape[1]), str(after.shape[0]),
            digest, hashlib.sha256(encoded).hexdigest(),
        )  # fmt: skip


def _told(failures: dict[str, str]) -> list[dict[str, str]]:
    """Warns of every image that could not be used, and lists them."""
    for name, reason in failures.items():
        log.warning("%s: %s", name, reason)
    return [{"file": name, "reason": reason} for name, reason in failures.items()]


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > DEFAULT_LIMITS.max_bytes:
            raise ImageError(f"over the limit of {DEFAULT_LIMITS.max_bytes:,} bytes", path=path)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}", path=path) from error


def _rng(seed: int, job: _Job) -> np.random.Generator:
    """By name and number of the copy, so that no other image of the set changes what becomes of this one."""
    name = int.from_bytes(hashlib.sha256(job.name.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    return np.random.default_rng([seed, name, job.copy])


def _encoded(image: ImageArray, name: str) -> bytes:
    if not name.lower().endswith(_JPEG):
        return encode_vignette(image)
    done, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ImageError(f"cannot be written as JPEG: shape {image.shape}", path=name)
    return bytes(buffer)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its name at the end, or vanishes on an error.

    Raises:
        PlankterError: the disk refuses. Conflict: something took the name meanwhile.
    """
    out = out.resolve()
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise PlankterError(f"cannot be written: {error.strerror or error}", path=error.filename or out) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
