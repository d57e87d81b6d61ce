"""Paths that a user named -> the runs in them, by every registered reader."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from plankter._errors import ReadError
from plankter._plugins import plugins
from plankter.readers.base import Reader, RunSource
from plankter.readers.flowcam_folder import odd_files
from plankter.readers.unpack import extract_zip
from plankter.types import Flag, Severity

MAX_REASONS = 3


@dataclass
class _Found:
    scratch: Path
    readers: list[tuple[str, Reader]]
    runs: list[RunSource] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)
    zips: int = 0

    def errors(self) -> int:
        return sum(flag.severity is Severity.ERROR for flag in self.flags)


def find_runs(paths: Iterable[Path], *, scratch: Path) -> tuple[list[RunSource], list[Flag]]:
    """All runs in files, folders at any depth and zips, each once, in the order of the paths and then of names.

    Args:
        paths: what the user named.
        scratch: a folder for what zips hold; it must outlive the reading.

    Returns:
        The runs, and flags on what was left out: of severity error where something that looks like a run, or a path
        that the user named, cannot be taken.

    Raises:
        ReadError: a path that does not exist; nothing else has been looked at then.
    """
    named = [Path(path) for path in paths]
    for path in named:
        if not path.exists():
            raise ReadError("no such file or folder", path=path, hint="check the spelling")
    found = _Found(scratch, _readers())
    for path in named:
        errors = found.errors()
        if not _search(path, found) and errors == found.errors():
            reasons = "; ".join(f"{name}: {reason}" for name, reason in explain(path))
            message = f"no run found here{': ' if reasons else ''}{reasons}"
            found.flags.append(Flag("no-run", message, Severity.ERROR, file=str(path)))
    return found.runs, found.flags


def explain(path: Path) -> list[tuple[str, str]]:
    """For each reader why it takes nothing of a file or folder; a reader that takes something is not listed.

    Returns:
        (reader name, reason), for a folder up to three reasons a reader with an example file each.
    """
    files = [file for _, folder in _folders(path) for file in folder] if path.is_dir() else [path]
    reasons: list[tuple[str, str]] = []
    for name, reader in _readers():
        examples: dict[str, list[Path]] = {}
        taken = False
        for file in files:
            reason = _why_not(reader, file)
            taken = taken or reason is None
            examples.setdefault(reason or "", []).append(file)
        if taken:
            continue
        if path.is_dir() and not files:
            reasons.append((name, "the folder holds no files"))
        for reason, of in sorted(examples.items(), key=lambda item: len(item[1]))[:MAX_REASONS]:
            where = f"{of[0].name}{f' and {len(of) - 1} more' if len(of) > 1 else ''}: " if path.is_dir() else ""
            reasons.append((name, f"{where}{reason}"))
    reasons += [
        (plugin.name, f"the reader cannot be loaded: {plugin.problem}")
        for plugin in plugins("plankter.readers")
        if plugin.target is None
    ]
    return reasons


def _readers() -> list[tuple[str, Reader]]:
    return [
        (plugin.name, cast(Reader, plugin.target()))
        for plugin in plugins("plankter.readers")
        if plugin.target is not None
    ]


def _why_not(reader: Reader, file: Path) -> str | None:
    try:
        return reader.can_read(file)
    except Exception as error:  # noqa: BLE001 - a third party's reader may raise anything
        return f"the reader failed on it: {type(error).__name__}: {error}"


def _search(path: Path, found: _Found) -> bool:
    """Whether there is a run, a known one included."""
    if not path.is_dir():
        return _take(path, str(path), found)
    taken = False
    for _, files in _folders(path):
        found.flags += odd_files(files)
        for file in files:
            taken = _take(file, str(file), found) or taken
    return taken


def _folders(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder once with its files, both sorted; a link back to a folder already seen is not followed."""
    seen: set[Path] = set()
    for folder, inner, names in os.walk(top, followlinks=True):
        here = Path(folder).resolve()
        if here in seen:
            inner.clear()
            continue
        seen.add(here)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        files = [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
        yield Path(folder), [file for file in files if file.is_file()]


def _take(file: Path, origin: str, found: _Found) -> bool:
    resolved = file.resolve()
    if resolved in found.seen:
        return True
    if file.suffix.lower() == ".zip":
        found.seen.add(resolved)
        return _take_zip(file, origin, found)
    takers = [name for name, reader in found.readers if _why_not(reader, file) is None]
    if not takers:
        return False
    found.seen.add(resolved)
    found.runs.append(RunSource(takers[0], file, origin))
    if len(takers) > 1:
        message = f"more than one reader takes it: {', '.join(takers)}; {takers[0]} is used"
        found.flags.append(Flag("several-readers", message, Severity.NOTE, file=origin))
    return True


def _take_zip(archive: Path, origin: str, found: _Found) -> bool:
    found.zips += 1
    # the folder is named as the zip: a run at its top takes its sample_id from there
    to = found.scratch / f"{found.zips:04d}" / (archive.stem.strip(". ") or "zip")
    try:
        extract_zip(archive, to)
    except ReadError as error:
        found.flags.append(Flag("zip-refused", error.message, Severity.ERROR, file=origin, row=error.row))
        return False
    taken, errors = False, found.errors()
    for folder, files in _folders(to):
        inner = folder.relative_to(to)
        found.flags += [
            Flag(flag.code, flag.message, flag.severity, f"{origin}!{(inner / Path(flag.file or '').name).as_posix()}")
            for flag in odd_files(files)
        ]
        for file in files:
            name = f"{origin}!{file.relative_to(to).as_posix()}"
            if file.suffix.lower() == ".zip":
                message = "a zip within a zip is not unpacked; unpack the outer one first"
                found.flags.append(Flag("left-out", message, file=name))
            else:
                taken = _take(file, name, found) or taken
    if not taken and errors == found.errors():
        reasons = "; ".join(reason for _, reason in explain(to))
        found.flags.append(Flag("no-run", f"no run in this zip: {reasons}", Severity.ERROR, file=origin))
    return taken
