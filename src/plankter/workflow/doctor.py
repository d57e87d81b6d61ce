"""What plankter makes of a path, without changing anything."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from plankter._errors import PlankterError
from plankter._plugins import load
from plankter.readers.base import Reader, RunSource
from plankter.readers.discover import explain, find_runs
from plankter.types import Flag

# lossless vignette, mask, table row, features, float16 embedding: measured on the real runs, rounded up
BYTES_PER_PARTICLE = 12_000


def doctor(paths: Iterable[Path]) -> dict[str, Any]:
    """The object that ``plankter doctor --json`` prints: which reader takes each path, and what is odd about it."""
    return {"paths": [_one(path) for path in paths]}


def _one(path: Path) -> dict[str, Any]:
    problems: list[Flag] = []
    readers: set[str] = set()
    runs: list[dict[str, Any]] = []
    needed = 0
    with tempfile.TemporaryDirectory(prefix="plankter-") as scratch:
        try:
            sources, problems = find_runs([path], scratch=Path(scratch))
        except PlankterError as error:
            return _result(path, [], set(), 0, [_problem(Flag("unreadable", error.message, file=error.path), "error")])
        for source in sources:
            readers.add(source.reader)
            found, flags = _run(source)
            problems = [*problems, *flags]
            if found:
                runs.append(found)
                needed += int(found["particles"]) * BYTES_PER_PARTICLE
        refusals = [] if sources else explain(path)
    listed = [_problem(flag) for flag in problems]
    listed += [{"severity": "error", "file": str(path), "row": None, "message": f"{n}: {why}"} for n, why in refusals]
    return _result(path, runs, readers, needed, listed)


def _run(source: RunSource) -> tuple[dict[str, Any] | None, list[Flag]]:
    reader: Reader = load("plankter.readers", source.reader)()
    try:
        read = reader.read(source)
    except PlankterError as error:
        return None, [Flag("unreadable", error.message, file=error.path or source.origin, row=error.row)]
    flags = [
        flag if flag.file else replace(flag, file=source.origin)
        for flag in dict.fromkeys([*read.run.flags, *read.problems])
    ]
    found = {"run_id": read.run.run_id, "name": read.run.name, "particles": len(read.particles)}
    return found, flags


def _problem(flag: Flag, severity: str | None = None) -> dict[str, Any]:
    return {"severity": severity or flag.severity.value, "file": flag.file, "row": flag.row, "message": flag.message}


def _result(
    path: Path, runs: list[dict[str, Any]], readers: set[str], needed: int, problems: list[dict[str, Any]]
) -> dict[str, Any]:
    reader = ", ".join(sorted(readers)) or None
    return {
        "path": str(path),
        "reader": reader,
        "runs": len(runs),
        "found": runs,
        "bytes_needed": needed,
        "problems": problems,
    }
