"""A watched folder: a run that the instrument has finished writing is ingested, classified and reported by itself.

The folder is looked at again and again, not listened to: that works on network shares, too. A run is finished when
its files' names, sizes and times stay the same for a while; what was done is kept, so that a restart goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plankter._errors import PlankterError, ReadError
from plankter._plugins import plugins
from plankter.publish.day_report import day_report
from plankter.store.files import safe_name, write_text
from plankter.store.locks import Lock
from plankter.workflow.classify import classify
from plankter.workflow.ingest import IngestedRun, ingest
from plankter.workflow.report import write_report
from plankter.workflow.workspace import Workspace

log = logging.getLogger(__name__)
SETTLE_S = 60.0
POLL_S = 10.0
PARTIAL = (".tmp", ".part", ".partial", ".filepart", ".crdownload")


@dataclass(frozen=True)
class _Unit:
    """What may be one or several runs: the files of one folder, or a zip."""

    name: str
    path: Path
    mark: str
    partial: bool


@dataclass
class Watch:
    """A folder that is watched; `look` as often as you like.

    Args:
        workspace: where to.
        folder: what the instrument writes into, at any depth.
        settle_s: for how long a run's files must stay as they are.
        model: that classifies; by default the workspace's.
        clock: counts seconds.
    """

    workspace: Workspace
    folder: Path
    settle_s: float = SETTLE_S
    model: str | None = None
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def _state_file(self) -> Path:
        return self.workspace.folder / "watched" / f"{safe_name(str(self.folder.absolute()))}.json"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time watches a folder for a workspace."""
        with Lock(self._state_file.with_suffix(".lock"), patience_s=5).held():
            yield

    def _state(self) -> dict[str, dict[str, Any]]:
        try:
            found: dict[str, dict[str, Any]] = json.loads(self._state_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            log.warning("%s is damaged (%s): every run is looked at again", self._state_file, error)
            return {}
        return found

    def look(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Looks once; takes what is finished.

        Returns:
            One entry a run that was taken or refused, and what is still being written.

        Raises:
            ReadError: the folder cannot be read (a share that is gone); nothing is forgotten.
        """
        state = self._state()
        done: list[dict[str, Any]] = []
        waiting: list[str] = []
        for unit in _units(self.folder):
            if state.get(unit.name, {}).get("mark") == unit.mark:
                continue
            mark, since = self._since.get(unit.name, ("", 0.0))
            if mark != unit.mark:
                self._since[unit.name] = (unit.mark, self.clock())
                waiting.append(unit.name)
            elif unit.partial or self.clock() - since < self.settle_s:
                waiting.append(unit.name)
            else:
                cut_short = state.get(unit.name, {}).get("taking") == unit.mark
                if not cut_short:
                    self._keep(state, unit, {**state.get(unit.name, {}), "taking": unit.mark})
                taken = self._take(unit, cut_short)
                if taken is None:
                    waiting.append(unit.name)
                    continue
                self._day(taken, unit.mark)
                self._keep(state, unit, {"mark": unit.mark, "at": _now(), "runs": [row["run_id"] for row in taken]})
                self._since.pop(unit.name, None)
                done += taken
        return done, waiting

    def _keep(self, state: dict[str, dict[str, Any]], unit: _Unit, entry: dict[str, Any]) -> None:
        state[unit.name] = entry
        write_text(self._state_file, json.dumps(state, indent=1) + "\n")

    def _take(self, unit: _Unit, cut_short: bool) -> list[dict[str, Any]] | None:
        """Ingests and classifies; None where it is to be tried again, as the trouble is not the run's.

        What an earlier attempt had ingested when it was cut short came in all the same.
        """
        try:
            files = _identity_files(unit)
            if not files:
                return []
            found, _ = ingest(self.workspace, files)
            taken = [self._classified(run) for run in found]
        except (PlankterError, OSError) as error:
            log.error("%s: %s; trying again", unit.name, error)
            return None
        for entry in taken:
            if cut_short and entry["status"] == "unchanged":
                entry["status"] = "ingested"
        return taken

    def _classified(self, run: IngestedRun) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "at": _now(), "source": run.source, "run_id": run.run_id, "status": run.status, "reason": run.reason,
            "particles": run.particles, "failures": run.failures, "predicted": None, "report": None,
        }  # fmt: skip
        if run.status == "refused" or run.run_id is None:
            return entry
        record = self.workspace.catalogue.run(run.run_id)
        if run.status != "unchanged" or record.model_id is None:
            result = classify(self.workspace, [run.run_id], model=self.model)
            entry["predicted"] = result["runs"][0]["predicted"]
        entry["report"] = str(write_report(self.workspace, run.run_id))
        return entry

    def _day(self, taken: list[dict[str, Any]], mark: str) -> None:
        """Brings the report of the day up to date; what a kill made say twice is one line."""
        if not taken:
            return
        day = datetime.now(UTC).date()
        lines = self.workspace.folder / "watched" / f"{day.isoformat()}.jsonl"
        with lines.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({**entry, "mark": mark}) + "\n" for entry in taken))
        found: dict[tuple[str, str | None], dict[str, Any]] = {}
        for number, line in enumerate(lines.read_text(encoding="utf-8").splitlines()):
            with contextlib.suppress(ValueError):  # a line that a kill cut short
                row = json.loads(line)
                found[row["source"], row.get("mark") or str(number)] = row
        rows = list(found.values())
        page = self.workspace.reports_folder / f"day-{day.isoformat()}.html"
        for row in rows:
            if row.get("report"):
                row["report"] = os.path.relpath(row["report"], page.parent).replace(os.sep, "/")
        write_text(page, day_report(day, str(self.folder), rows))


def watch(
    workspace: Workspace,
    folder: Path,
    *,
    settle_s: float = SETTLE_S,
    poll_s: float = POLL_S,
    once: bool = False,
    model: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    told: Callable[[dict[str, Any]], None] = lambda entry: None,
) -> dict[str, Any]:
    """Watches a folder until ``stop`` says so; a share that goes away is waited for.

    Args:
        workspace: where to.
        folder: what the instrument writes into.
        settle_s: for how long a run's files must stay as they are.
        poll_s: seconds between looks.
        once: take what is finished now, then end.
        model: that classifies.
        stop: asked between looks.
        told: of each run.

    Returns:
        ``{"folder", "runs": [...], "waiting": [names of what is still being written]}``

    Raises:
        ReadError: with ``once``, a folder that cannot be read. StoreError: another process watches it.
    """  # fmt: skip
    watched = Watch(workspace, folder, settle_s, model)
    runs: list[dict[str, Any]] = []
    waiting: list[str] = []
    with watched.alone():
        looks, away = 0, ""
        while not stop():
            try:
                done, waiting = watched.look()
            except ReadError as error:
                if once:
                    raise
                if str(error) != away:  # said once, not every few seconds through the night
                    log.warning("%s; waiting for it", error)
                done, away = [], str(error)
            else:
                if away:
                    log.warning("%s: there again", folder)
                away = ""
            for entry in done:
                runs = [*runs[-999:], entry]
                told(entry)
            looks += 1
            if once and (looks > 1 or not waiting):
                break
            _pause(settle_s if once else poll_s, stop)
    return {"folder": str(folder), "runs": runs, "waiting": waiting}


def _pause(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop():
        time.sleep(min(0.5, max(0.01, until - time.monotonic())))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _units(top: Path) -> Iterator[_Unit]:
    """The folders and zips below a folder, with a mark that changes where a file does."""
    problems: list[OSError] = []
    seen: set[Path] = set()
    for base, folders, names in os.walk(top, onerror=problems.append, followlinks=True):
        here = Path(base)
        resolved = here.resolve()
        if resolved in seen:  # a link back
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = []
        for name in sorted(name for name in names if not name.startswith(".")):
            with contextlib.suppress(FileNotFoundError):  # renamed since it was listed
                facts = (here / name).stat()
                files.append((name, facts.st_size, facts.st_mtime_ns))
        plain = [file for file in files if not file[0].lower().endswith(".zip")]
        if plain:
            yield _unit(top, here, plain)
        for file in files:
            if file not in plain:
                yield _unit(top, here / file[0], [file])
    if problems:
        error = problems[0]
        raise ReadError(f"the watched folder cannot be read: {error.strerror or error}", path=error.filename or top)


def _unit(top: Path, path: Path, files: list[tuple[str, int, int]]) -> _Unit:
    mark = hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    partial = any(name.lower().endswith(PARTIAL) for name, _, _ in files)
    return _Unit(path.relative_to(top).as_posix(), path, mark, partial)


def _identity_files(unit: _Unit) -> list[Path]:
    """The files of a folder that identify a run; a zip as it is."""
    if not unit.path.is_dir():
        return [unit.path]
    readers = [plugin.target() for plugin in plugins("plankter.readers") if plugin.target is not None]
    files = sorted(path for path in unit.path.iterdir() if path.is_file() and not path.name.startswith("."))
    return [file for file in files if any(reader.can_read(file) is None for reader in readers)]
